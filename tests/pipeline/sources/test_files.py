from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from thresher.pipeline.sources import SourceError, expand, guess_format
from thresher.pipeline.sources.files import open_file


def test_a_glob_gives_its_files_sorted_with_their_sizes(tmp_path: Path) -> None:
    for name, content in (("b.jsonl", b"22"), ("a.jsonl", b"1"), ("c.txt", b"")):
        (tmp_path / name).write_bytes(content)
    found = expand(str(tmp_path / "*.jsonl"))
    assert [(Path(file.path).name, file.size) for file in found] == [("a.jsonl", 1), ("b.jsonl", 2)]


def test_two_stars_reach_into_folders_and_folders_themselves_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "deep" / "deeper.jsonl").mkdir(parents=True)
    (tmp_path / "deep" / "a.jsonl").write_bytes(b"")
    assert [Path(file.path).name for file in expand(str(tmp_path / "**" / "*.jsonl"))] == ["a.jsonl"]


def test_a_name_with_glob_characters_that_exists_is_taken_literally(tmp_path: Path) -> None:
    (tmp_path / "part[1].jsonl").write_bytes(b"x")
    (tmp_path / "part1.jsonl").write_bytes(b"yy")
    assert [file.size for file in expand(str(tmp_path / "part[1].jsonl"))] == [1]


def test_the_etag_changes_when_the_file_does(tmp_path: Path) -> None:
    import os

    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x")
    before = expand(str(path))[0]
    os.utime(path, ns=(0, 1_234_567_890))
    assert before.etag != expand(str(path))[0].etag == "1234567890"


def test_what_matches_nothing_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "crawl").mkdir()
    (tmp_path / "crawl" / "part-0.warc.gz").write_bytes(b"")
    with pytest.raises(SourceError, match=r"part-O\.warc\.gz: no file matches.*crawl/part-0\.warc\.gz"):
        expand(str(tmp_path / "crawl" / "part-O.warc.gz"))
    with pytest.raises(SourceError, match=r"nearest name there is .*/crawl$"):
        expand(str(tmp_path / "crwal" / "*.warc.gz"))


def test_a_folder_is_refused_with_the_glob_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is a folder; name its files, for example .*\*"):
        expand(str(tmp_path))


def test_urls_are_expanded_and_opened_through_fsspec() -> None:
    store = fsspec.filesystem("memory")
    store.pipe({"/bucket/b.jsonl": b"bb", "/bucket/a.jsonl": b"abcdef"})
    found = expand("memory://bucket/*.jsonl")
    assert [(file.path, file.size) for file in found] == [
        ("memory:///bucket/a.jsonl", 6),
        ("memory:///bucket/b.jsonl", 2),
    ]
    with open_file(found[0].path, start=2) as file:
        assert file.read() == b"cdef"
    with pytest.raises(SourceError, match="no file matches"):
        expand("memory://bucket/*.parquet")
    with pytest.raises(SourceError, match="cannot be looked up"):
        expand("nosuchprotocol://bucket/x")


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("CC-MAIN-0001.warc.gz", "warc"),
        ("CC-MAIN-0001.warc.wet.gz", "wet"),
        ("a.WARC", "warc"),
        ("x/y.jsonl.zst", "jsonl"),
        ("s3://bucket/key.json.gz?versionId=3", "jsonl"),
        ("part-0.parquet", "parquet"),
    ],
)
def test_the_format_is_guessed_from_the_name(name: str, format_name: str) -> None:
    assert guess_format(name) == format_name


def test_a_name_that_says_nothing_is_refused_and_says_what_to_write() -> None:
    with pytest.raises(SourceError, match="write `format:` beside `path:`"):
        guess_format("data.bin.gz")
