from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from thresher.pipeline.sources import ContainerCounts, Split, guess_format, plan_splits, read
from thresher.pipeline.sources.delimited import read_rows
from thresher.pipeline.sources.files import expand
from thresher.pipeline.sources.jsonl import Line
from thresher.pipeline.sources.limits import ReadLimits

Records = list[dict[str, Any]]


def read_bytes(
    data: bytes, folder: Path, name: str = "a.csv", **split: Any
) -> tuple[Records, ContainerCounts]:
    path = folder / name
    path.write_bytes(data)
    counts = ContainerCounts()
    records: Records = []
    for batch in read(Split(str(path), guess_format(name), **split), counts):
        records += batch.to_pylist()
    assert counts.balanced
    return records, counts


def outcomes(records: Records) -> list[tuple[str, str | None, str | None]]:
    """The line of each record, its text and its error."""
    return [(r["source"].rpartition(":")[2], r["text"], r["error"]) for r in records]


def test_each_row_is_a_record_whose_other_fields_go_to_meta(tmp_path: Path) -> None:
    data = b"id,text,url,licence,empty\n7,hello,https://e.org/,cc0,\n8,there,,,\n"
    [first, second], counts = read_bytes(data, tmp_path)
    assert (first["id"], first["text"], first["url"]) == ("7", "hello", "https://e.org/")
    assert first["meta"] == '{"licence":"cc0"}'
    assert (second["id"], second["url"], second["meta"]) == ("8", None, None)
    assert first["source"] == str(tmp_path / "a.csv") + ":2"
    assert counts.outcomes == {("file", "read"): 1}


def test_quoted_fields_hold_newlines_delimiters_and_quotes(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbftext,id\r\n"one\r\ntwo, ""three""\n",1\r\nlast,2'
    records, _ = read_bytes(data, tmp_path)
    assert outcomes(records) == [("2", 'one\r\ntwo, "three"\n', None), ("5", "last", None)]


def test_tabs_separate_the_fields_of_tsv(tmp_path: Path) -> None:
    records, _ = read_bytes(b'text\tid\na,b\t1\n"c\td"\t2\n', tmp_path, "a.tsv")
    assert [(r["id"], r["text"]) for r in records] == [("1", "a,b"), ("2", "c\td")]


def test_a_compressed_file_reads_like_a_plain_one(tmp_path: Path) -> None:
    data = b"text\n" + b"some words\n" * 3000
    plain, _ = read_bytes(data, tmp_path)
    packed, _ = read_bytes(gzip.compress(data), tmp_path, "b.csv.gz")
    assert len(plain) == 3000
    assert outcomes(plain) == outcomes(packed)


def test_columns_by_number_make_the_first_row_a_record(tmp_path: Path) -> None:
    columns = {"text": "2", "id": "1"}
    records, _ = read_bytes(b"1,a,x\n2,b,y\n", tmp_path, columns=columns)
    assert [(r["id"], r["text"], r["meta"]) for r in records] == [
        ("1", "a", '{"column_3":"x"}'),
        ("2", "b", '{"column_3":"y"}'),
    ]
    short, _ = read_bytes(b"1\n", tmp_path, columns=columns)
    assert outcomes(short) == [("1", None, "missing_text")]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (b"1", "wrong_field_count"),
        (b"1,b,3", "wrong_field_count"),
        (b"", "empty_line"),
        (b'1,"b"c', "invalid_quoting"),
        (b'1,"b', None),
        (b"1,b\xff", "invalid_utf8"),
        (b"1\xff,b", "invalid_utf8"),
        (b"1,b\rc", "invalid_quoting"),
    ],
)
def test_a_bad_row_is_an_error_and_costs_no_other_row(row: bytes, error: str | None, tmp_path: Path) -> None:
    records, counts = read_bytes(b"id,text\n0,before\n" + row + b"\n2,after\n3,last\n", tmp_path)
    found = outcomes(records)
    assert found == [
        ("2", "before", None),
        ("3", None, error or "unclosed_quote"),
        ("4", "after", None),
        ("5", "last", None),
    ]
    assert records[1]["detail"].startswith("line 3")
    assert counts.outcomes == {("file", "read"): 1}


def test_a_quote_that_is_not_closed_within_the_limit_costs_only_its_line(tmp_path: Path) -> None:
    data = b'text\n"open\n' + b"a row\n" * 500 + b'"closed"\n'
    records, _ = read_bytes(data, tmp_path, limits=ReadLimits(max_row_bytes=1000))
    assert outcomes(records)[0] == ("2", None, "unclosed_quote")
    assert [r["text"] for r in records[1:]] == ["a row"] * 500 + ["closed"]


def test_a_row_above_the_limit_is_an_error(tmp_path: Path) -> None:
    data = b"text\n" + b"x" * 5000 + b"\nshort\n"
    records, _ = read_bytes(data, tmp_path, limits=ReadLimits(max_row_bytes=1000))
    assert outcomes(records) == [("2", None, "line_too_long"), ("3", "short", None)]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"id,body\n1,a\n", "no column 'text'; the first row has 'id', 'body'"),
        (b"text,id,id\na,1,2\n", "'id' stands twice"),
        (b'te"xt,id\n', "no column 'text'"),
        (b'"text\n', "the row of names cannot be read: unclosed_quote"),
        ("text,id\na,1\n".encode("utf-16"), "no column 'text'"),
    ],
)
def test_a_first_row_without_the_text_is_a_fault_of_the_file(data: bytes, told: str, tmp_path: Path) -> None:
    records, counts = read_bytes(data, tmp_path)
    assert records == []
    assert counts.outcomes == {("file", "error:missing_column"): 1}
    assert told in counts.errors()["detail"][0].as_py()


@pytest.mark.parametrize("data", [b"", b"text,id\n"])
def test_a_file_without_rows_is_read_and_gives_none(data: bytes, tmp_path: Path) -> None:
    records, counts = read_bytes(data, tmp_path)
    assert records == []
    assert counts.outcomes == {("file", "read"): 1}


def test_a_cut_gzip_file_keeps_its_rows_and_names_the_last(tmp_path: Path) -> None:
    data = b"text\n" + b"".join(b"row %d\n" % n for n in range(5000))
    packed = gzip.compress(data, mtime=0)
    records, counts = read_bytes(packed[: len(packed) // 2], tmp_path, "a.csv.gz")
    assert 100 < len(records) < 5000
    assert [r["text"] for r in records[:-1]] == [f"row {n}" for n in range(len(records) - 1)]
    assert records[-1]["error"] in (None, "truncated_line")
    assert counts.outcomes == {("file", "error:truncated"): 1}


def test_a_file_is_never_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'text\n"' + b"in\nside\n" * 1000 + b'"\n')
    assert len(plan_splits(expand(str(path))[0], "csv", {}, 100)) == 1


def rows_of(data: bytes, max_bytes: int = 1 << 20) -> list[Any]:
    offset, lines = 0, []
    for line in data.removesuffix(b"\n").split(b"\n") if data else []:
        lines.append(Line(offset, line))
        offset += len(line) + 1
    return list(read_rows(iter(lines), ",", max_bytes))


texts = st.text(st.sampled_from('ab,"\n\r é\0'), max_size=8)


@given(st.lists(st.lists(texts, min_size=2, max_size=4), max_size=6))
def test_what_a_csv_writer_writes_comes_back(rows: list[list[str]]) -> None:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    assert [row.fields for row in rows_of(written.getvalue().encode())] == rows


@given(st.binary(max_size=60), st.sampled_from([3, 20, 1 << 20]))
@example(b'"\n"\n""\n', 3)
def test_every_line_of_any_bytes_is_in_exactly_one_row(data: bytes, max_bytes: int) -> None:
    rows = rows_of(data, max_bytes)
    starts = [row.number for row in rows]
    total = len(data.removesuffix(b"\n").split(b"\n")) if data else 0
    assert starts == sorted(set(starts))
    assert starts[:1] == ([1] if total else [])
    for row, following in zip(rows, [*starts, total + 1][1:], strict=True):
        spanned = following - row.number
        if row.error:
            assert row.raw.count(b"\n") + 1 == spanned
        else:
            assert sum(field.count("\n") for field in row.fields) + 1 == spanned
