from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from thresher.pipeline.sources import ContainerCounts, Split, guess_format, plan_splits, read
from thresher.pipeline.sources.files import expand
from thresher.pipeline.sources.limits import ReadLimits


def read_path(path: Path, **split: Any) -> tuple[list[dict[str, Any]], ContainerCounts]:
    counts = ContainerCounts()
    batches = read(Split(str(path), guess_format(str(path)), **split), counts)
    records = [row for batch in batches for row in batch.to_pylist()]
    assert counts.balanced
    return records, counts


@pytest.mark.parametrize("name", ["a.html", "a.htm.gz"])
def test_an_html_file_is_one_page_still_to_be_extracted(name: str, tmp_path: Path) -> None:
    page = b"<html><p>caf\xe9</p></html>"
    path = tmp_path / name
    path.write_bytes(gzip.compress(page, mtime=0) if name.endswith("gz") else page)
    [record], counts = read_path(path)
    assert record["payload"] == page
    assert record["content_type"] == "text/html"
    assert (record["url"], record["text"], record["error"]) == (None, None, None)
    assert record["source"] == str(path)
    assert counts.outcomes == {("file", "read"): 1}


def test_a_text_file_is_one_record(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\0\n")
    [record], _ = read_path(path)
    assert (record["text"], record["error"]) == ("one\r\ntwo\0\n", None)


def test_each_line_of_a_text_file_can_be_a_record(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\nb\xff\nlast")
    records, _ = read_path(path, records="lines")
    assert [(r["text"], r["error"]) for r in records] == [
        ("one", None),
        (None, "empty_line"),
        (None, "invalid_utf8"),
        ("last", None),
    ]
    assert records[-1]["source"] == f"{path}:12"


def test_a_text_file_of_lines_gives_each_once_wherever_it_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(500)))
    [file] = expand(str(path))
    assert len(plan_splits(file, "text", {}, 100)) == 1
    splits = plan_splits(file, "text", {}, 100, records="lines")
    assert len(splits) > 20
    found = [
        text for s in splits for batch in read(s, ContainerCounts()) for text in batch["text"].to_pylist()
    ]
    assert found == [f"line {number}" for number in range(500)]


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("a.html", b"", "empty_file"),
        ("a.txt", b"", "empty_file"),
        ("a.txt", b"caf\xe9", "invalid_utf8"),
        ("a.txt", b"x" * 101, "text_too_large"),
        ("a.html", b"x" * 101, "payload_too_large"),
        ("a.html.gz", gzip.compress(b"abcdefgh" * 10, mtime=0)[:20], "truncated"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_error(name: str, data: bytes, error: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    limits = ReadLimits(max_record_bytes=100, max_payload_bytes=100)
    [record], counts = read_path(path, limits=limits)
    assert (record["error"], record["text"], record["payload"]) == (error, None, None)
    assert counts.met == {"file": 1}


def test_a_limit_of_none_reads_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"text")
    assert read_path(tmp_path / "a.txt", limit=0)[0] == []
