from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from thresher.pipeline.sources import ContainerCounts, SourceFile, Split, plan_splits, read
from thresher.schemas.records import RAW_TEXT

Records = list[dict[str, Any]]


def read_table(table: pa.Table, folder: Path, rows_per_group: int = 1000, **split: Any) -> Records:
    path = folder / "a.parquet"
    pq.write_table(table, path, row_group_size=rows_per_group)
    return read_path(path, **split)[0]


def read_path(path: Path, **split: Any) -> tuple[Records, ContainerCounts]:
    counts = ContainerCounts()
    records: Records = []
    for batch in read(Split(str(path), "parquet", **split), counts):
        assert batch.schema == RAW_TEXT
        batch.validate(full=True)
        records += batch.to_pylist()
    assert counts.balanced
    return records, counts


def test_named_columns_become_the_record_and_the_rest_meta(tmp_path: Path) -> None:
    table = pa.table(
        {"id": ["x", None], "text": ["one", "two"], "url": ["u", "v"], "score": [1.5, None], "n": [1, 2]}
    )
    first, second = read_table(table, tmp_path)
    assert (first["id"], first["text"], first["url"], first["meta"]) == (
        "x",
        "one",
        "u",
        '{"score":1.5,"n":1}',
    )
    assert second["id"] == xxhash.xxh3_128_hexdigest(b"v\0two")
    assert second["meta"] == '{"n":2}'
    assert [record["source"].rpartition(":")[2] for record in (first, second)] == ["0", "1"]


def test_a_null_text_is_an_error_of_its_record(tmp_path: Path) -> None:
    records = read_table(pa.table({"text": ["a", None, ""]}), tmp_path)
    assert [(record["text"], record["error"]) for record in records] == [
        ("a", None),
        (None, "missing_text"),
        ("", None),
    ]


def test_text_of_another_type_is_an_error_of_each_record(tmp_path: Path) -> None:
    records = read_table(pa.table({"text": pa.array([1, None])}), tmp_path)
    assert [record["error"] for record in records] == ["text_not_a_string", "missing_text"]


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.string())],
)
def test_every_kind_of_text_column_is_read(kind: pa.DataType, tmp_path: Path) -> None:
    text = pa.array(["ä", "b", None, "ä"]).cast(kind)
    records = read_table(pa.table({"text": text}), tmp_path)
    assert [record["text"] for record in records] == ["ä", "b", None, "ä"]


def test_text_that_is_not_utf8_is_an_error_of_its_record_alone(tmp_path: Path) -> None:
    data = pa.array([b"good", b"b\xffd", b"fine"], pa.binary())
    lying = pa.Array.from_buffers(pa.string(), 3, data.buffers())  # what careless writers store
    table = pa.table({"text": lying, "note": lying, "url": lying})
    records = read_table(table, tmp_path)
    assert [(record["text"], record["error"]) for record in records] == [
        ("good", None),
        (None, "invalid_utf8"),
        ("fine", None),
    ]
    assert records[1]["meta"] == '{"note":"b\ufffdd"}'
    assert records[1]["url"] == "b\ufffdd"


def test_every_type_of_column_becomes_json(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["t"],
            "list": [[1, 2]],
            "struct": [{"a": "b", "c": None}],
            "bytes": [b"plain"],
            "raw": [b"\xff\x00"],
            "when": [datetime.datetime(2024, 5, 1, 12, 30)],
            "day": [datetime.date(2024, 5, 1)],
            "far": pa.array([2**62], pa.timestamp("us")),
            "money": [decimal.Decimal("1.10")],
            "nan": [float("nan")],
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
            "flag": [True],
            "span": [datetime.timedelta(seconds=90)],
        }
    )
    (record,) = read_table(table, tmp_path)
    assert json.loads(record["meta"]) == {
        "list": [1, 2],
        "struct": {"a": "b", "c": None},
        "bytes": "plain",
        "raw": "/wA=",
        "when": "2024-05-01T12:30:00",
        "day": "2024-05-01",
        "far": 2**62,
        "money": "1.10",
        "nan": "nan",
        "map": [["k", 1]],
        "flag": True,
        "span": 90.0,
    }


def test_a_time_can_be_the_date_and_an_integer_the_id(tmp_path: Path) -> None:
    table = pa.table({"text": ["t"], "date": [datetime.datetime(2024, 5, 1)], "id": [42]})
    (record,) = read_table(table, tmp_path)
    assert record["date"].startswith("2024-05-01")
    assert (record["id"], record["meta"]) == ("42", None)


def test_a_page_column_becomes_the_payload(tmp_path: Path) -> None:
    table = pa.table({"html": [b"<p>\xfc</p>", None], "content_type": ["text/html; charset=latin1", None]})
    records = read_table(table, tmp_path, columns={"html": "html"})
    assert (records[0]["payload"], records[0]["content_type"]) == (
        b"<p>\xfc</p>",
        "text/html; charset=latin1",
    )
    assert (records[0]["text"], records[1]["error"]) == (None, "missing_html")
    (text,) = read_table(pa.table({"html": ["<p>ü</p>"]}), tmp_path, columns={"html": "html"})
    assert text["content_type"] == "text/html; charset=utf-8"


def test_every_row_belongs_to_exactly_one_split(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    text = ["x" * (number % 50) for number in range(3000)]
    pq.write_table(pa.table({"text": text}), path, row_group_size=170)
    whole, _ = read_path(path)
    assert [record["text"] for record in whole] == text
    file = SourceFile(str(path), path.stat().st_size, "")
    for target in (1, 3_000, 20_000, 1 << 30):
        splits = plan_splits(file, "parquet", {}, target)
        pieces = [read_path(path, start=split.start, stop=split.stop) for split in splits]
        assert [record for records, _ in pieces for record in records] == whole
        assert sum(counts.met.get("file", 0) for _, counts in pieces) == 1
    assert len(plan_splits(file, "parquet", {}, 1)) == 18
    assert len(plan_splits(file, "parquet", {}, 1 << 30)) == 1


def test_a_limit_stops_reading(tmp_path: Path) -> None:
    records = read_table(pa.table({"text": [str(n) for n in range(5000)]}), tmp_path, limit=1500)
    assert [record["text"] for record in records] == [str(n) for n in range(1500)]


def test_large_texts_make_small_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x" * (3 << 20)] * 6}), path)
    sizes = [batch.nbytes for batch in read(Split(str(path), "parquet"), ContainerCounts())]
    assert len(sizes) >= 3
    assert max(sizes) <= 9 << 20


def test_a_missing_text_column_is_an_error_of_the_file_that_names_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": ["x"]}), path)
    records, counts = read_path(path)
    assert (records, counts.outcomes) == ([], {("file", "error:missing_column"): 1})
    assert "no column 'text'; the file has 'body'" in counts.errors().to_pylist()[0]["detail"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"hello, this is no parquet file at all"])
def test_a_file_that_is_not_parquet_is_a_corrupt_container(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    splits = plan_splits(SourceFile(str(path), len(content), ""), "parquet", {})
    assert [(split.start, split.stop) for split in splits] == [(0, None)]
    records, counts = read_path(path)
    assert (records, counts.outcomes) == ([], {("file", "error:corrupt"): 1})


def test_a_file_with_broken_pages_keeps_the_row_groups_before(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    words = np.random.default_rng(0).integers(0, 1 << 60, 4000).astype(str).tolist()
    pq.write_table(pa.table({"text": words}), path, row_group_size=1024, compression="zstd")
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(2).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    data[start + 40 : start + 4000] = bytes(3960)
    path.write_bytes(bytes(data))
    records, counts = read_path(path)
    assert [record["text"] for record in records] == words[: len(records)]
    assert len(records) == 2048
    assert counts.outcomes == {("file", "error:corrupt"): 1}
