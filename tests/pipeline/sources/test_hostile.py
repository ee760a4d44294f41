"""What broken and hostile files become: a row with an error, or a container with one; in bounded memory."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from thresher.pipeline.sources import ContainerCounts, Split, expand, guess_format, plan_splits, read
from thresher.pipeline.sources.limits import ReadLimits

from . import crawl

# Prints the peak of a process that reads a file, in MB above what the same process needs for an empty one.
# getrusage would tell the size of this process where that is larger: it survives fork and exec.
PEAK = r"""
import json, re, sys
from thresher.pipeline.sources import ContainerCounts, Split, read
def peak():
    with open("/proc/self/status") as file:
        return int(re.search(r"VmHWM:\s+(\d+)", file.read())[1]) / 1000
for empty in json.loads(sys.argv[2]):
    list(read(Split(**empty), ContainerCounts()))
before = peak()
counts, rows = ContainerCounts(), []
for batch in read(Split(**json.loads(sys.argv[1])), counts):
    for error, text in zip(batch["error"], batch["text"]):
        rows.append([error.as_py(), len(text.as_buffer()) if text.is_valid else None])
print(json.dumps([peak() - before, rows[:5], [list(key) for key in counts.outcomes]]))
"""

LINE = b'{"id": "%d", "text": "words of line %d"}\n'


def read_path(path: Path, **split: Any) -> tuple[list[dict[str, Any]], ContainerCounts]:
    counts = ContainerCounts()
    batches = read(Split(str(path), split.pop("format", None) or guess_format(str(path)), **split), counts)
    records = [row for batch in batches for row in batch.to_pylist()]
    assert counts.balanced
    return records, counts


def peak(path: Path, **split: Any) -> tuple[float, list[tuple[str | None, int | None]], list[list[str]]]:
    """Megabytes above an empty read, the first rows' errors and lengths, and what became of containers."""
    empty = path.with_name("empty" + "".join(path.suffixes))
    empty.write_bytes(gzip.compress(b"") if path.suffix == ".gz" else b"")
    plans = [{"path": str(p), "format": guess_format(str(path)), **split} for p in (path, empty)]
    arguments = [json.dumps(plans[0]), json.dumps(plans[1:])]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, timeout=300, check=True
    )
    megabytes, rows, outcomes = json.loads(done.stdout)
    return megabytes, [(error, length) for error, length in rows], outcomes


def write_bomb(path: Path, megabytes: int) -> None:
    with gzip.open(path, "wb", 9) as file:
        for _ in range(megabytes):
            file.write(bytes(1 << 20))


def test_a_gzip_bomb_ends_as_a_named_container_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    write_bomb(path, 1000)
    assert path.stat().st_size < 1_100_000
    megabytes, rows, outcomes = peak(path, limits={"max_line_bytes": 8 << 20})
    assert outcomes == [["file", "error:decompression_bomb"]]
    assert rows == [("line_too_long", None)]
    assert megabytes < 100


def test_what_came_before_a_bomb_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    bomb = gzip.compress(bytes(100 << 20), 9)
    path.write_bytes(gzip.compress(LINE % (1, 1)) + bomb)
    records, counts = read_path(path)
    assert records[0]["text"] == "words of line 1"
    assert [r["error"] for r in records[1:]] == ["truncated_line"]
    assert counts.outcomes == {("file", "error:decompression_bomb"): 1}
    assert "above max_ratio 500" in counts.errors()["detail"][0].as_py()


def test_text_that_merely_compresses_well_is_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(LINE % (1, 1) * 300_000, 1))
    records, counts = read_path(path, limit=10)
    assert len(records) == 10
    assert counts.outcomes == {("file", "read"): 1}
    assert sum(len(batch) for batch in read(Split(str(path), "jsonl"), ContainerCounts())) == 300_000


def test_a_bomb_inside_a_page_is_an_error_of_its_record(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    bomb = crawl.http(gzip.compress(bytes(200 << 20), 9), "Content-Encoding: gzip")
    path.write_bytes(
        b"".join(crawl.members([crawl.page(0), crawl.record("response", bomb, 1), crawl.page(2)]))
    )
    megabytes, rows, outcomes = peak(path)
    assert [error for error, _ in rows] == [None, "decompression_bomb", None]
    assert outcomes == [["file", "read"], ["warc_record", "read"]]
    assert megabytes < 150


def test_a_line_of_50_megabytes_is_read_and_a_larger_one_than_the_limit_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "' + b"x" * 50_000_000 + b'"}\n{"text": "after"}\n')
    megabytes, rows, _ = peak(path)
    assert rows == [(None, 50_000_000), (None, 5)]
    assert megabytes < 450
    megabytes, rows, outcomes = peak(path, limits={"max_line_bytes": 1_000_000})
    assert rows == [("line_too_long", None), (None, 5)]
    assert outcomes == [["file", "read"]]
    assert megabytes < 60


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_a_document_of_200_megabytes_is_one_record(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    head, tail = (b'{"text": "', b'"}\n') if name == "a.jsonl" else (b"", b"")
    path.write_bytes(head + b"some words " * 18_181_818 + tail)
    megabytes, rows, outcomes = peak(path)
    assert rows == [(None, 199_999_998)]
    assert outcomes == [["file", "read"]]
    assert megabytes < 1100


def test_a_row_of_csv_is_held_up_to_a_smaller_size(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text\n" + b"x" * 200_000_000 + b"\n" + b"y" * 50_000_000 + b"\n")
    megabytes, rows, outcomes = peak(path)
    assert rows == [("line_too_long", None), (None, 50_000_000)]
    assert outcomes == [["file", "read"]]
    assert megabytes < 600


def test_a_document_of_200_megabytes_in_a_crawl_is_an_error_of_its_record(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    large = crawl.record("response", crawl.http(b"<html>" + b"some words " * 18_181_818), 1)
    path.write_bytes(gzip.compress(large, 1) + b"".join(crawl.members([crawl.page(2)])))
    megabytes, rows, _ = peak(path)
    assert [error for error, _ in rows] == ["payload_too_large", None]
    assert megabytes < 150


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b'{"text": "' + b"[" * 100_000 + b'"}', None),
        (b'{"text": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"a":' * 100_000, "invalid_json"),
        (b'{"text": "a", "n": 1' + b"0" * 10_000 + b"}", "invalid_json"),
        (b'{"text": "a", "n": 1e999999}', None),
        (b'{"text": "a\\ud800"}', "invalid_unicode"),
        (b'{"text": "a", "other": "\\udfff"}', None),
        (b'{"text": "a\\u0000\\u0007\\u001b"}', None),
        (b'{"text": "a\x00"}', "invalid_json"),
        (b'{"text": "caf\xe9"}', "invalid_utf8"),
        (b'["text", "a"]', "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"text": 7}', "text_not_a_string"),
        (b'{"text": {"a": 1}}', "text_not_a_string"),
        (b'{"txt": "a"}', "missing_text"),
        (b"\x00\x00", "invalid_json"),
        (b"\xff\xfe{\x00", "invalid_utf8"),
    ],
)
def test_a_hostile_line_of_json_costs_no_other(line: bytes, error: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE % (1, 1) + line + b"\n" + LINE % (2, 2))
    records, counts = read_path(path)
    assert [r["error"] for r in records] == [None, error, None]
    assert counts.outcomes == {("file", "read"): 1}


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.string()), pa.struct([("a", pa.string())])])
def test_a_column_of_another_type_makes_every_row_an_error(kind: pa.DataType, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.nulls(2, kind), "id": ["1", "2"]}), path)
    records, _ = read_path(path)
    assert [(r["id"], r["error"]) for r in records] == [("1", "missing_text"), ("2", "missing_text")]


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_a_missing_column_is_a_fault_of_the_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "a.csv":
        path.write_bytes(b"body\na\n")
    else:
        pq.write_table(pa.table({"body": ["a"]}), path)
    assert read_path(path)[1].outcomes == {("file", "error:missing_column"): 1}


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("a.jsonl", "read"),
        ("a.csv", "read"),
        ("a.txt", "read"),
        ("a.html", "read"),
        ("a.warc", "read"),
        ("a.arc", "read"),
        ("a.parquet", "error:corrupt"),
        ("a.jsonl.gz", "error:truncated"),
        ("a.csv.gz", "error:truncated"),
        ("a.txt.zst", "error:truncated"),
        ("a.warc.gz", "error:truncated"),
        ("a.arc.gz", "error:truncated"),
    ],
)
def test_an_empty_file_is_accounted_for(name: str, outcome: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    records, counts = read_path(tmp_path / name)
    assert [r["error"] for r in records] == (
        ["empty_file"] if name in ("a.txt", "a.html", "a.txt.zst") else []
    )
    assert counts.outcomes == {("file", outcome): 1}


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("name", "damage", "outcome"),
    [
        ("a.jsonl.gz", _half, "error:truncated"),
        ("a.txt.gz", _half, "error:truncated"),
        ("a.warc.gz", _half, "error:truncated"),
        ("a.jsonl.gz", lambda data: data[:400] + b"\xff" * 40 + data[440:], "error:corrupt"),
        ("a.parquet", _half, "error:corrupt"),
    ],
)
def test_a_file_that_is_cut_or_damaged_keeps_what_came_before(
    name: str, damage: Callable[[bytes], bytes], outcome: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    plain = b"".join(LINE % (n, n * 7919) for n in range(2000))
    if name == "a.warc.gz":
        path.write_bytes(damage(b"".join(crawl.members(crawl.page(n, 2000) for n in range(20)))))
    elif name == "a.parquet":
        pq.write_table(pa.table({"text": ["a"] * 1000}), path)
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.write_bytes(damage(gzip.compress(plain)))
    records, counts = read_path(path)
    assert counts.outcomes["file", outcome] == 1
    assert name in ("a.parquet", "a.txt.gz") or not records or records[0]["error"] is None


def test_a_file_that_may_not_be_read_is_one_split_whose_reading_raises(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE % (1, 1) * 1000)
    tmp_path.chmod(0o755)
    path.chmod(0)
    code = (
        "import os, sys\n"
        "from thresher.pipeline.sources import ContainerCounts, expand, plan_splits, read\n"
        "import pyarrow, thresher.pipeline.sources.reader\n"
        "from encodings import idna\n"
        "os.getuid() == 0 and (os.setgid(65534), os.setuid(65534))\n"
        "os.chdir(sys.argv[1])\n"
        "[split] = plan_splits(expand('a.jsonl')[0], 'jsonl', {}, 100)\n"
        "try:\n"
        "    list(read(split, ContainerCounts()))\n"
        "except PermissionError as error:\n"
        "    print('refused', error.filename)\n"
    )
    for parent in [tmp_path, *tmp_path.parents][:4]:
        os.chmod(parent, 0o755)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "refused a.jsonl\n", done.stderr


def test_limits_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="max_line_bytes must be above zero, not 0"):
        ReadLimits(max_line_bytes=0)


def test_limits_survive_the_way_through_a_plan(tmp_path: Path) -> None:
    from dataclasses import asdict

    (tmp_path / "a.jsonl").write_bytes(LINE % (1, 1))
    [split] = plan_splits(
        expand(str(tmp_path / "a.jsonl"))[0], "jsonl", {}, limits=ReadLimits(max_line_bytes=7)
    )
    assert Split(**json.loads(json.dumps(asdict(split)))) == split
    assert [r["error"] for b in read(split, ContainerCounts()) for r in b.to_pylist()] == ["line_too_long"]
