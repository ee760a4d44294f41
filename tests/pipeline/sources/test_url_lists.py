from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.pipeline.ingest import Slice, _grouped
from thresher.pipeline.sources import SourceError, Split, expand
from thresher.pipeline.sources.inputs import splits_of
from thresher.pipeline.sources.reader import count

from .image_records import Records, plan_images, read_images_of, read_split, source

Row = dict[str, Any]

ROWS: list[Row] = [{"url": f"http://h/{n}.jpg", "text": f"picture, {n}\nof many", "w": n} for n in range(57)]


def write_parquet(path: Path, rows: list[Row]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"), row_group_size=23)
    return path.with_suffix(".parquet")


def write_jsonl(path: Path, rows: list[Row]) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_csv(path: Path, rows: list[Row]) -> Path:
    path = path.with_suffix(".csv")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_tsv_gz(path: Path, rows: list[Row]) -> Path:
    path = path.with_suffix(".tsv.gz")
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl_gz(path: Path, rows: list[Row]) -> Path:
    plain = write_jsonl(path, rows)
    packed = path.with_suffix(".ndjson.gz")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    return packed


WRITERS = [write_parquet, write_jsonl, write_csv, write_tsv_gz, write_jsonl_gz]


def read_all(splits: list[Split]) -> Records:
    return [record for split in splits for record in read_split(split)[0]]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("part_urls", [1, 7, 23, 50, 57, 1000])
def test_every_row_is_in_one_split_of_at_most_so_many(
    tmp_path: Path, write: Callable[[Path, list[Row]], Path], part_urls: int
) -> None:
    path = write(tmp_path / "a", ROWS)
    whole = read_all(plan_images(path, "urls"))
    splits = plan_images(path, "urls", part_urls)
    by_split = [read_split(split)[0] for split in splits]
    assert max(map(len, by_split)) <= part_urls
    assert [record for records in by_split for record in records] == whole
    assert [(record["url"], record["text"]) for record in whole] == [
        (row["url"], row["text"]) for row in ROWS
    ]
    assert [
        json.loads(record["meta"])["w"] in (row["w"], str(row["w"]))
        for record, row in zip(whole, ROWS, strict=True)
    ]
    assert len({record["source"] for record in whole}) == len(ROWS)


@pytest.mark.parametrize("write", WRITERS)
def test_a_plan_survives_the_way_to_a_worker_and_a_limit_counts_within_it(
    tmp_path: Path, write: Callable[[Path, list[Row]], Path]
) -> None:
    splits = plan_images(write(tmp_path / "a", ROWS), "urls", 20)
    for split in splits:
        again = Split(**json.loads(json.dumps(asdict(split))))
        assert again == split
        records, _ = read_split(split)
        assert count(split) == len(records)
        assert count(split, 3) == 3
        assert read_split(replace(again, limit=3))[0] == records[:3]
        assert read_split(replace(split, limit=10_000))[0] == records


@pytest.mark.parametrize("write", WRITERS)
def test_parts_hold_about_as_many_addresses_as_were_asked_for(
    tmp_path: Path, write: Callable[[Path, list[Row]], Path]
) -> None:
    files = [write(tmp_path / f"f{n}", ROWS[:9]) for n in range(6)]
    splits = [split for path in files for split in plan_images(path, "urls", 20, target=64 << 20)]
    slices = [Slice(split, expand(split.path)[0], "") for split in splits]
    groups = [sum(count(one.split) for one in group) for group in _grouped(slices, 64 << 20)]
    assert groups == [18, 18, 18]


def test_an_id_is_the_named_column_or_the_digest_of_address_and_caption(tmp_path: Path) -> None:
    rows = [{"uid": "abc", "url": "u", "text": "é"}, {"uid": "", "url": "u", "text": "é"}]
    for write in (write_parquet, write_jsonl, write_csv):
        path = write(tmp_path / "a", rows)
        records = read_all(plan_images(path, "urls", columns={"id": "uid"}))
        digest = xxhash.xxh3_128_hexdigest("u\0é".encode())
        assert [record["id"] for record in records] == ["abc", digest]


def test_columns_of_laion_are_named(tmp_path: Path) -> None:
    rows = [{"URL": "http://a/", "TEXT": "a cat", "similarity": 0.3, "LICENSE": None}]
    for write in (write_parquet, write_jsonl, write_csv):
        path = write(tmp_path / "a", rows)
        [record] = read_all(plan_images(path, "urls", columns={"url": "URL", "text": "TEXT"}))
        assert (record["url"], record["text"]) == ("http://a/", "a cat")
        assert float(json.loads(record["meta"])["similarity"]) == 0.3


def test_a_caption_may_be_called_caption_or_be_missing(tmp_path: Path) -> None:
    for write in (write_parquet, write_jsonl, write_csv):
        [record] = read_all(plan_images(write(tmp_path / "a", [{"url": "u", "caption": "c"}]), "urls"))
        assert (record["text"], record["meta"]) == ("c", None)
        [record] = read_all(plan_images(write(tmp_path / "b", [{"url": "u"}]), "urls"))
        assert (record["text"], record["error"]) == (None, None)


def test_a_column_that_is_named_for_captions_must_be_there(tmp_path: Path) -> None:
    for write in (write_parquet, write_csv):
        path = write(tmp_path / "a", [{"url": "u", "text": "c"}])
        _, counts = read_images_of(path, path.suffix[1:], urls=True, columns={"text": "TEXT"})
        assert counts.outcomes == {("file", "error:missing_column"): 1}


def test_a_caption_that_is_no_text_is_none_and_stays_in_meta(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a", [{"url": "u", "text": 3}, {"url": "v", "text": None}])
    first, second = read_all(plan_images(path, "urls"))
    assert (first["text"], first["meta"], first["error"]) == (None, '{"text":3}', None)
    assert (second["text"], second["error"]) == (None, None)
    path = write_parquet(tmp_path / "a", [{"url": "u", "text": 3}])
    [record] = read_all(plan_images(path, "urls"))
    assert (record["text"], record["meta"], record["error"]) == (None, '{"text":3}', None)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_row_without_an_address_is_an_error_of_its_record(tmp_path: Path, value: str | None) -> None:
    rows = [{"id": "7", "url": value, "text": "c"}, {"id": "8", "url": "u", "text": "c"}]
    for write in (write_parquet, write_jsonl, write_csv):
        first, second = read_all(plan_images(write(tmp_path / "a", rows), "urls"))
        assert (first["id"], first["error"], second["error"]) == ("7", "missing_url", None)


def test_a_file_without_the_addresses_column_is_a_container_with_an_error(tmp_path: Path) -> None:
    for write in (write_parquet, write_csv):
        path = write(tmp_path / "a", [{"link": "u"}])
        records, counts = read_images_of(path, path.suffix[1:], urls=True)
        assert (records, counts.outcomes) == ([], {("file", "error:missing_column"): 1})


def test_text_that_is_not_utf8_is_an_error_of_its_record(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"url": ["u", "v"], "text": pa.array([b"\xff", b"ok"], pa.binary())}), path)
    first, second = read_all(plan_images(path, "urls"))
    assert (first["error"], second["text"]) == ("invalid_utf8", "ok")


def test_columns_of_a_csv_file_without_names_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(f"http://h/{n},caption {n},{n}\n" for n in range(10)))
    splits = plan_images(path, "urls", 4, columns={"url": "1", "text": "2"})
    records = read_all(splits)
    assert [record["text"] for record in records] == [f"caption {n}" for n in range(10)]
    assert records[9]["meta"] == '{"column_3":"9"}'
    assert [record["source"].rpartition(":")[2] for record in records] == [str(n) for n in range(1, 11)]


@settings(max_examples=40)
@given(st.text('a,"\n\r\té', max_size=60), st.integers(1, 4))
def test_cutting_a_csv_file_changes_no_record(
    tmp_path_factory: pytest.TempPathFactory, text: str, part_urls: int
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(b"url,text\n" + text.encode())
    whole = read_all(plan_images(path, "urls"))
    assert read_all(plan_images(path, "urls", part_urls)) == whole


def test_a_compressed_list_that_breaks_off_keeps_what_came_before(tmp_path: Path) -> None:
    path = write_jsonl_gz(tmp_path / "a", [{"url": f"http://h/{n * 7919}"} for n in range(20_000)])
    path.write_bytes(path.read_bytes()[:-5000])
    splits = plan_images(path, "urls", 5000)
    read_splits = [read_split(split) for split in splits]
    assert [len(records) for records, _ in read_splits[:-1]] == [5000] * (len(splits) - 1)
    assert all(not counts.errors().num_rows for _, counts in read_splits[:-1])
    assert list(read_splits[-1][1].outcomes) == [("file_range", "error:truncated")]


def test_what_is_no_list_or_of_another_modality_is_refused(tmp_path: Path) -> None:
    for name, format, modality, told in [
        ("a.warc", "urls", "image-text", "a list of addresses is one of"),
        ("a.jsonl", None, "image-text", "format: urls"),
        ("a.jsonl", "jsonl", "image-text", "format: image-folder"),
        ("a.csv", "urls", "text", "modality: image-text"),
        ("a.wet", None, "image-text", "no images"),
        ("a.xyz", "urls", "image-text", "does not say the format"),
    ]:
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(SourceError, match=told):
            splits_of(expand(str(tmp_path / name))[0], source(tmp_path / name, format), 100, modality)
