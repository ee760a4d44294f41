"""Shards of images as their readers see them: webdataset, datasets, pyarrow, tarfile, GNU tar's listing."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from PIL import Image
from thresher.pipeline.sinks import ShardInfo, open_sink
from thresher.pipeline.sinks.image_columns import IMAGE_COLUMNS, image_columns
from thresher.pipeline.sinks.sample_keys import SampleKeys
from thresher.pipeline.sinks.ustar import ustar_headers
from thresher.schemas.records import IMAGE_TEXT

SCHEMA = pa.schema([*IMAGE_TEXT, *IMAGE_COLUMNS, pa.field("quality", pa.float32())])
# github.com/rom1504/img2dataset, README.md ("Output format") and img2dataset/downloader.py, of version 1.47:
# what its parquet has for a list with captions, in its order; `exif` is there only if it is asked for.
IMG2DATASET = [
    "url", "caption", "key", "status", "error_message", "width", "height", "original_width",
    "original_height", "sha256",
]  # fmt: skip


def key_of(id_: str) -> str:
    return xxhash.xxh3_128_hexdigest(id_.encode())


def encoded(kind: str, width: int = 20, height: int = 10) -> bytes:
    noise = np.random.default_rng(width * height).integers(0, 255, (height, width, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, kind)
    return stream.getvalue()


PICTURES = {
    "jpg": encoded("jpeg"),
    "png": encoded("png", 7, 9),
    "webp": encoded("webp", 16, 16),
    "gif": encoded("gif", 3, 4),
    "tiff": encoded("tiff", 5, 5),
    "bmp": encoded("bmp", 6, 2),
}


def pairs(
    images: Sequence[bytes | None], captions: Sequence[str | None], ids: Sequence[str] | None = None
) -> pa.RecordBatch:
    n = len(images)
    column = pa.array(images, pa.binary())
    width, height, sha256 = image_columns(column)
    return pa.RecordBatch.from_pydict(
        {
            "id": list(ids) if ids is not None else [f"https://e.org/pictures/{row}.jpg" for row in range(n)],
            "image": column,
            "text": list(captions),
            "url": [f"https://e.org/{row}?size=a.b" for row in range(n)],
            "source": [f"list.parquet:{row}" for row in range(n)],
            "date": [None] * n,
            "lang": ["en"] * n,
            "lang_score": [0.5] * n,
            "meta": ['{"licence": "cc0"}'] * n,
            "width": width,
            "height": height,
            "sha256": sha256,
            "quality": [0.25] * n,
        },
        schema=SCHEMA,
    )


def written(path: Path, format: str, *batches: pa.RecordBatch) -> ShardInfo:
    sink = open_sink(format, None, batches[0].schema, path)
    for batch in batches:
        sink.write(batch)
    return sink.close()


def all_pictures() -> pa.RecordBatch:
    return pairs(list(PICTURES.values()), [f"a {kind}" for kind in PICTURES])


def test_the_members_of_a_sample_are_image_caption_and_the_other_columns_in_this_order(
    tmp_path: Path,
) -> None:
    written(tmp_path / "a.tar", "webdataset", all_pictures())
    with tarfile.open(tmp_path / "a.tar") as tar:
        found = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    for row, (kind, image) in enumerate(PICTURES.items()):
        key = key_of(f"https://e.org/pictures/{row}.jpg")
        (name, content), (text_name, text), (json_name, described) = found[3 * row : 3 * row + 3]
        assert (name, text_name, json_name) == (f"{key}.{kind}", f"{key}.txt", f"{key}.json")
        assert (content, text) == (image, f"a {kind}".encode())
        columns = json.loads(described)
        assert columns.keys() == set(SCHEMA.names) - {"image", "text"}
        with Image.open(io.BytesIO(image)) as picture:
            assert (columns["width"], columns["height"]) == picture.size
        assert columns["sha256"] == hashlib.sha256(image).hexdigest()
        assert columns["url"] == f"https://e.org/{row}?size=a.b"
        assert columns["quality"] == 0.25


def test_webdataset_decodes_the_images_and_captions(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    written(tmp_path / "a.tar", "webdataset", all_pictures())
    samples = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False).decode("pil"))
    for (kind, image), sample in zip(PICTURES.items(), samples, strict=True):
        assert sample["txt"] == f"a {kind}"
        assert sample["json"]["lang"] == "en"
        with Image.open(io.BytesIO(image)) as picture:
            assert np.array_equal(np.asarray(sample[kind]), np.asarray(picture.convert("RGB")))


def test_a_record_without_image_or_caption_is_a_sample_still(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    batch = pairs([None, PICTURES["png"], b"no image at all"], ["text only", None, "broken"])
    written(tmp_path / "a.tar", "webdataset", batch)
    none, no_text, broken = webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False)
    assert {name for name in none if not name.startswith("_")} == {"txt", "json"}
    assert (no_text["txt"], no_text["png"]) == (b"", PICTURES["png"])
    assert (broken["bin"], json.loads(broken["json"])["width"]) == (b"no image at all", None)
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column("status").to_pylist() == [None, "success", "success"]
    assert table.column("caption").to_pylist() == ["text only", None, "broken"]


def test_the_table_has_the_columns_of_img2dataset_and_then_the_others(tmp_path: Path) -> None:
    info = written(tmp_path / "a.tar", "webdataset", all_pictures())
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names[: len(IMG2DATASET)] == IMG2DATASET
    others = ["id", "source", "date", "lang", "lang_score", "meta", "quality"]
    assert table.column_names[len(IMG2DATASET) :] == others
    assert [file.suffix for file in info.sidecars] == [".idx", ".parquet"]
    with tarfile.open(tmp_path / "a.tar") as tar:
        keys = [name.partition(".")[0] for name in tar.getnames()][::3]
    rows = table.to_pylist()
    assert [row["key"] for row in rows] == keys
    assert {row["status"] for row in rows} == {"success"}
    assert {row["error_message"] for row in rows} == {None}
    assert [row["caption"] for row in rows] == [f"a {kind}" for kind in PICTURES]
    assert all(row["original_width"] == row["width"] for row in rows)
    assert all(row["original_height"] == row["height"] for row in rows)


def test_the_table_tells_the_size_before_the_job_resized_the_image(tmp_path: Path) -> None:
    batch = pairs([PICTURES["jpg"]], ["a"])
    batch = batch.append_column("original_width", pa.array([2000], pa.int32()))
    batch = batch.append_column("original_height", pa.array([1000], pa.int32()))
    written(tmp_path / "a.tar", "webdataset", batch)
    (row,) = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row[f"{of}{side}"] for of in ("", "original_") for side in ("width", "height")] == [
        20, 10, 2000, 1000
    ]  # fmt: skip
    assert row["key"] == key_of("https://e.org/pictures/0.jpg")


def listed(path: Path) -> list[tuple[str, int, int]]:
    """Name, offset of the content and size of each member, as GNU tar tells them."""
    blocks = subprocess.run(["tar", "-tRf", str(path)], capture_output=True, check=True, text=True)
    sizes = subprocess.run(["tar", "-tvf", str(path)], capture_output=True, check=True, text=True)
    found = []
    for block, size in zip(blocks.stdout.splitlines(), sizes.stdout.splitlines(), strict=False):
        place, _, name = block.removeprefix("block ").partition(": ")
        found.append((name, (int(place) + 1) * 512, int(size.split()[2])))
    return found


def test_the_index_says_where_gnu_tar_finds_every_member(tmp_path: Path) -> None:
    batch = pairs([*PICTURES.values(), None], [*(f"a {kind}" for kind in PICTURES), None])
    written(tmp_path / "a.tar", "webdataset", batch)
    first, *lines = (tmp_path / "a.idx").read_text().splitlines()
    assert first == f"v1.2 {len(batch)}"
    found = []
    for line in lines:
        words = line.split(" ")
        for at in range(0, len(words), 4):
            extension, offset, size, name = words[at : at + 4]
            assert name.partition(".")[2] == extension
            found.append((name, int(offset), int(size)))
    assert [member for member in listed(tmp_path / "a.tar") if "Block of" not in member[0]] == found
    assert len(lines) == len(batch)


def test_a_sample_can_be_read_by_its_line_of_the_index_alone(tmp_path: Path) -> None:
    written(tmp_path / "a.tar", "webdataset", all_pictures())
    words = (tmp_path / "a.idx").read_text().splitlines()[4].split(" ")
    content = (tmp_path / "a.tar").read_bytes()
    assert words[0] == "gif"
    assert content[int(words[1]) : int(words[1]) + int(words[2])] == PICTURES["gif"]


@pytest.mark.parametrize("format", ["webdataset", "parquet", "jsonl"])
def test_the_bytes_of_an_image_shard_do_not_depend_on_batches(tmp_path: Path, format: str) -> None:
    images = [PICTURES[kind] for kind in ("jpg", "png", "gif")] * 400
    ids = [f"id-{row % 900}" for row in range(1200)]
    batch = pairs(images, [f"caption {row}" for row in range(1200)], ids)
    whole = written(tmp_path / "a", format, batch)
    cuts = [0, 1, 2, 7, 7, 500, 1024, 1199, 1200]
    pieces = [batch.slice(low, high - low) for low, high in pairwise(cuts)]
    cut = written(tmp_path / "b", format, *pieces)
    assert whole.sha256 == cut.sha256
    assert [file.sha256 for file in whole.sidecars] == [file.sha256 for file in cut.sidecars]


def test_an_id_that_comes_again_gets_a_numbered_key(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    ids = ["a", "b", "a", "a", "c", "b"]
    batch = pairs([PICTURES["gif"]] * 6, [str(row) for row in range(6)], ids)
    written(tmp_path / "a.tar", "webdataset", batch.slice(0, 3), batch.slice(3))
    samples = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    a, b, c = (key_of(name) for name in "abc")
    assert [sample["__key__"] for sample in samples] == [a, b, f"{a}-1", f"{a}-2", c, f"{b}-1"]
    assert [sample["txt"] for sample in samples] == [str(row).encode() for row in range(6)]


def test_keys_are_numbered_as_a_dictionary_would_count_them() -> None:
    random = np.random.default_rng(5)
    ids = [f"{number}" for number in random.integers(0, 400, 3000)]
    counts: dict[str, int] = {}
    expected = []
    for id_ in ids:
        number = counts[id_] = counts.get(id_, -1) + 1
        expected.append(key_of(id_) + (f"-{number}" if number else ""))
    for size in (1, 7, 1000, 3000):
        keys = SampleKeys()
        found = [key for low in range(0, 3000, size) for key in keys.of(pa.array(ids[low : low + size]))]
        assert found == expected


def test_headers_are_those_that_tarfile_writes() -> None:
    names = ["a.txt", "0" * 100, "x.json"]
    sizes = [0, 8**11 - 1, 12345]
    found = ustar_headers(names, sizes)
    for row, (name, size) in enumerate(zip(names, sizes, strict=True)):
        info = tarfile.TarInfo(name)
        info.size = size
        theirs = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
        ours = bytearray(found[row * 512 : row * 512 + 512])
        # tarfile leaves the device numbers of a regular file empty: 14 digits that POSIX asks for.
        difference = sum(ours[329:345]) - sum(theirs[329:345])
        assert int(ours[148:154], 8) == int(theirs[148:154], 8) + difference
        for header in (ours, theirs):
            header[148:156], header[329:345] = bytes(8), bytes(16)
        assert ours == theirs


@pytest.mark.parametrize(("name", "size"), [("0" * 101, 1), ("a", 8**11)])
def test_a_member_that_no_header_can_tell_is_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="more than a tar member"):
        ustar_headers(["fine", name], [1, size])


def test_parquet_stores_images_as_they_are(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", "parquet", all_pictures())
    group = pq.read_metadata(tmp_path / "a.parquet").row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    assert columns["image"].compression == "UNCOMPRESSED"
    assert not columns["image"].has_dictionary_page
    assert columns["image"].statistics is None
    assert columns["text"].compression == "ZSTD"
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column("image").to_pylist() == list(PICTURES.values())
    assert table.schema.equals(SCHEMA)


def test_json_lines_hold_images_as_base64(tmp_path: Path) -> None:
    import base64

    sink = open_sink("jsonl", "none", SCHEMA, tmp_path / "a.jsonl")
    sink.write(all_pictures())
    sink.close()
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [base64.b64decode(row["image"]) for row in rows] == list(PICTURES.values())


@pytest.mark.parametrize(("format", "suffix"), [("webdataset", ".tar"), ("parquet", ".parquet")])
def test_datasets_loads_image_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, suffix: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    path = tmp_path / f"shard{suffix}"
    jpegs = [encoded("jpeg", 8, side) for side in (4, 5, 6)]
    written(path, format, pairs(jpegs, ["a", "b", "c"]))
    loaded: Any = datasets.load_dataset(
        format, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    if format == "parquet":
        loaded = loaded.cast_column("image", datasets.Image())
    assert [row["image" if format == "parquet" else "jpg"].size for row in loaded] == [(8, 4), (8, 5), (8, 6)]


def test_a_discarded_image_shard_leaves_nothing(tmp_path: Path) -> None:
    sink = open_sink("webdataset", None, SCHEMA, tmp_path / "shard.tar")
    sink.write(all_pictures())
    sink.discard()
    assert list(tmp_path.iterdir()) == []
