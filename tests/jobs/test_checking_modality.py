"""What a job may ask for follows from its modality: what would find no image is told at its line."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from thresher.jobs.loading import load
from thresher.jobs.problems import JobFileError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("pool.parquet", "pairs.jsonl", "shard.tar", "page.warc.gz", "docs.txt", "links.csv"):
        (tmp_path / name).write_bytes(b"{}\n")
    return tmp_path


def problems(folder: Path, source: Any, steps: list[Any], **more: Any) -> list[str]:
    """The problems of an image-text job with this input and these steps, each as `place: message`."""
    source = {"path": source} if isinstance(source, str) else source
    described = {
        "name": "a",
        "modality": "image-text",
        "input": {**source, "path": str(folder / source["path"])},
        "steps": steps,
        "output": {"path": str(folder / "out"), "format": "webdataset"},
        **more,
    }
    try:
        load(described)
    except JobFileError as error:
        return [problem.told("job").removeprefix("job: ") for problem in error.problems]
    return []


URLS = {"path": "pool.parquet", "format": "urls", "columns": {"url": "URL", "caption": "TEXT"}}


def test_a_job_over_addresses_that_downloads_first_has_no_problem(folder: Path) -> None:
    steps: list[Any] = [
        {"dedup": {"exact": {"on": "pair"}}},
        {"rule": "word_count > 2"},
        {"download": {}},
        {"rule": "min_side >= 200 and aspect <= 3"},
        {"resize": {"size": 256}},
        {"rule": "original_width > 300"},
        {"dedup": {"exact": {"on": "pixels"}}},
        {"dedup": "perceptual"},
        {"frequency": {"of": "text", "distinct": "phash"}, "as": "images_of_caption"},
        {"rule": "images_of_caption <= 10"},
        {"select": {"top": 0.5, "by": "blur"}},
    ]
    assert problems(folder, URLS, steps) == []


def test_tars_and_folders_need_no_download(folder: Path) -> None:
    for source in ("shard.tar", {"path": "pairs.jsonl", "format": "image-folder"}, "pool.parquet"):
        assert problems(folder, source, [{"rule": "width > 100"}, {"resize": {}}]) == []


@pytest.mark.parametrize("source", [URLS, "page.warc.gz"])
def test_addresses_without_a_download_are_refused(folder: Path, source: Any) -> None:
    (told,) = problems(folder, source, [{"rule": "word_count > 2"}])
    assert told == "input[0]: holds addresses of images, and no step fetches them; add download: {}"


def test_a_list_of_uids_needs_no_image(folder: Path) -> None:
    output = {"path": str(folder / "out"), "format": "datacomp"}
    assert problems(folder, URLS, [{"rule": "word_count > 2"}], output=output) == []


@pytest.mark.parametrize(
    "step",
    [
        {"resize": {}},
        {"rule": "width > 100"},
        {"dedup": "perceptual"},
        {"dedup": {"exact": {"on": "image"}}},
        {"select": {"top": 0.5, "by": "blur"}},
        {"frequency": {"of": "phash"}},
        {"signals": ["brightness"]},
    ],
)
def test_nothing_looks_at_images_before_they_are_fetched(folder: Path, step: Any) -> None:
    told = problems(folder, URLS, [step, {"download": {}}])
    assert [line.partition(": ")[2] for line in told] == [
        "looks at images, which are only there after download"
    ]
    assert problems(folder, URLS, [{"download": {}}, step]) == []


def test_a_record_passes_one_download_step(folder: Path) -> None:
    (told,) = problems(folder, URLS, [{"download": {}}, {"download": {}}])
    assert told.startswith("steps[1].download: images are there already")


def test_extraction_has_no_place_among_images(folder: Path) -> None:
    (told,) = problems(folder, "shard.tar", [{"extract": "resiliparse"}])
    assert told == "steps[0].extract: takes text out of pages; a record of this job is an image"


def test_files_without_images_are_refused_with_what_to_write(folder: Path) -> None:
    (told,) = problems(folder, "pairs.jsonl", [])
    assert told.endswith("a jsonl file holds no images; write format: urls for addresses, or image-folder")
    (told,) = problems(folder, "links.csv", [])
    assert told.endswith("a csv file holds no images; write format: urls for addresses")
    (told,) = problems(folder, "docs.txt", [])
    assert told.endswith("text holds no images")
    (told,) = problems(folder, {"path": "pool.parquet", "columns": {"url": "URL"}}, [])
    assert told.endswith("names no image; write format: urls for addresses, or map image")


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("steps", [{"resize": {}}], "steps[0].resize: resize goes with images"),
        ("steps", [{"download": {}}], "steps[0].download: download goes with images"),
        ("steps", [{"dedup": "perceptual"}], "steps[0].dedup.perceptual: perceptual goes with images"),
        ("steps", [{"rule": "width > 3"}], "steps[0].rule: looks at images"),
        ("steps", [{"filter": "datacomp_basic"}], "steps[0].filter: looks at images"),
    ],
)
def test_a_job_of_texts_does_not_look_at_images(folder: Path, key: str, value: Any, place: str) -> None:
    described = {"path": "pairs.jsonl"}
    told = problems(folder, described, value, modality="text", output={"path": str(folder / "out")})
    assert told
    assert all(line.startswith(place) for line in told), told
    assert all(line.endswith("write modality: image-text") for line in told), told


def test_a_job_of_texts_has_no_list_of_images(folder: Path) -> None:
    source = {"path": "pool.parquet", "format": "urls", "columns": {"caption": "TEXT"}}
    told = problems(folder, source, [], modality="text", output={"path": str(folder / "out")})
    assert [line.partition(":")[0] for line in told] == ["input[0].format", "input[0].columns.caption"]


def test_text_and_caption_are_one_column(folder: Path) -> None:
    source = {**URLS, "columns": {"url": "URL", "caption": "A", "text": "B"}}
    (told,) = problems(folder, source, [{"download": {}}])
    assert "text and caption are both given" in told


def test_missing_packages_are_named_with_what_installs_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "cv2" else found(name, *more)
    )
    (told,) = problems(folder, "shard.tar", [])
    assert told == "modality: needs opencv-python-headless: pip install 'thresher[images]'"


def test_resizing_to_the_original_size_names_no_size(folder: Path) -> None:
    (told,) = problems(folder, "shard.tar", [{"resize": {"mode": "no", "size": 256}}])
    assert told.startswith("steps[0].resize.size: mode no leaves the size as it is")
    (told,) = problems(folder, "shard.tar", [{"resize": {"encode": "original"}}])
    assert told.startswith("steps[0].resize.encode: original bytes have the original size")


def test_a_frequency_that_nothing_can_have_is_refused(folder: Path) -> None:
    (told,) = problems(folder, "shard.tar", [{"frequency": {"of": "text", "min": 3, "max": 2}}])
    assert told.startswith("steps[0].frequency.min: min 3 is above max 2")
    (told,) = problems(folder, "shard.tar", [{"frequency": {"of": "text", "distinct": "text"}}])
    assert told.startswith("steps[0].frequency.distinct: each value of text has one")


def test_the_largest_image_is_only_there_after_download(folder: Path) -> None:
    step = {"dedup": {"exact": {"on": "pair", "keep": "largest"}}}
    (told,) = problems(folder, URLS, [step, {"download": {}}])
    assert told.endswith("looks at images, which are only there after download")
    assert problems(folder, URLS, [{"dedup": {"exact": {"on": "pair"}}}, {"download": {}}, step]) == []
    source, output = {"path": "pairs.jsonl"}, {"path": str(folder / "out")}
    steps = [{"dedup": {"minhash": {"keep": "largest"}}}]
    (told,) = problems(folder, source, steps, modality="text", output=output)
    assert told == "steps[0].dedup.minhash.keep: goes with images; write modality: image-text"
