"""Shards as their readers see them: pyarrow, datasets, webdataset, tarfile, gzip, zstd and plain Python."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from thresher.pipeline.row_groups import RowGroups, value_bytes
from thresher.pipeline.sinks import FORMATS, ShardInfo, open_sink, suffix_of
from thresher.schemas.records import TEXT

SCHEMA = TEXT.append(pa.field("quality", pa.float32()))
EVERY = [(name, compression) for name, (_, compressions) in FORMATS.items() for compression in compressions]
ODD_TEXTS = [
    "",
    "a\nb\r\nc\rd",
    "nul\0nul",
    "line\u2028para\u2029nel\x85",
    '"quoted" \\ back',
    "é漢🦄",
    "\x1e\x7f",
    " ",
]


def records(texts: Sequence[str], scores: Sequence[float | None] | None = None) -> pa.RecordBatch:
    n = len(texts)
    return pa.RecordBatch.from_pydict(
        {
            "id": [f"http://a.b/c.d/{row}" for row in range(n)],
            "text": list(texts),
            "url": [None if row % 2 else f"http://a.b/{row}?x=%20" for row in range(n)],
            "source": [f"in/part.jsonl:{row * 100}" for row in range(n)],
            "date": ["2024-05-01T00:00:00Z"] * n,
            "lang": ["en"] * n,
            "lang_score": pa.array([0.1] * n, pa.float32()),
            "meta": ['{"a": [1, "x"]}'] * n,
            "quality": pa.array(scores if scores is not None else [0.1] * n, pa.float32()),
        },
        schema=SCHEMA,
    )


def name_of(format: str, compression: str) -> str:
    return "shard" + suffix_of(format, compression)


def written(path: Path, format: str, compression: str | None, *batches: pa.RecordBatch) -> ShardInfo:
    sink = open_sink(format, compression, SCHEMA, path)
    for batch in batches:
        sink.write(batch)
    return sink.close()


def decompressed(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(raw)
    if path.suffix == ".zst":
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw)) as stream:
            return stream.read()
    return raw


def read_back(path: Path) -> list[dict[str, Any]]:
    """The rows of a shard, read with the standard library or pyarrow alone."""
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    content = decompressed(path)
    if ".jsonl" in path.suffixes:
        lines = content.decode().split("\n")
        assert lines.pop() == ""
        return [json.loads(line) for line in lines]
    rows: dict[str, dict[str, Any]] = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            key, _, kind = member.name.partition(".")
            stream = tar.extractfile(member)
            assert stream is not None
            body = stream.read()
            rows.setdefault(key, {}).update(json.loads(body) if kind == "json" else {"text": body.decode()})
    return list(rows.values())


@pytest.mark.parametrize(("format", "compression"), EVERY)
def test_every_format_gives_back_the_odd_texts_it_was_given(
    tmp_path: Path, format: str, compression: str
) -> None:
    batch = records(ODD_TEXTS)
    path = tmp_path / name_of(format, compression)
    info = written(path, format, compression, batch)
    rows = read_back(path)
    assert [row["text"] for row in rows] == ODD_TEXTS
    for row, original in zip(rows, batch.to_pylist(), strict=True):
        assert row.keys() == original.keys()
        assert row["quality"] == pytest.approx(original["quality"], abs=1e-8)
        assert {k: v for k, v in row.items() if "quality" not in k and "score" not in k} == {
            k: v for k, v in original.items() if "quality" not in k and "score" not in k
        }
    assert info.records == len(ODD_TEXTS)


@pytest.mark.parametrize(("format", "compression"), EVERY)
def test_the_shard_info_is_true_of_the_file(tmp_path: Path, format: str, compression: str) -> None:
    info = written(tmp_path / "shard", format, compression, records(["one", "two"]), records([]))
    content = Path(info.path).read_bytes()
    told = replace(info, sidecars=())
    assert told == ShardInfo(str(tmp_path / "shard"), 2, len(content), hashlib.sha256(content).hexdigest())
    for file in info.sidecars:
        content = Path(file.path).read_bytes()
        assert file.path == str(tmp_path / f"shard{file.suffix}")
        assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert {path.name for path in tmp_path.iterdir()} == {
        "shard", *(f"shard{file.suffix}" for file in info.sidecars)
    }  # fmt: skip
    assert bool(info.sidecars) == (format == "webdataset")


@pytest.mark.parametrize(("format", "compression"), EVERY)
def test_the_bytes_do_not_depend_on_how_rows_come_in_batches(
    tmp_path: Path, format: str, compression: str
) -> None:
    batch = records([f"{row} " * (row * 37 % 5000) for row in range(1500)])
    shuffled = batch.select(batch.schema.names[::-1]).append_column("extra", pa.array([0] * len(batch)))
    large = batch.set_column(1, "text", batch.column("text").cast(pa.large_string()))
    whole = written(tmp_path / "a", format, compression, batch)
    pieces = [shuffled.slice(row, 7) for row in range(0, 700, 7)] + [large.slice(700, 1), large.slice(701)]
    cut = written(tmp_path / "b", format, compression, *pieces)
    assert (whole.sha256, whole.bytes, whole.records) == (cut.sha256, cut.bytes, cut.records)
    assert [file.sha256 for file in whole.sidecars] == [file.sha256 for file in cut.sidecars]


@pytest.mark.parametrize(("format", "compression"), EVERY)
def test_a_shard_without_records_can_be_read(tmp_path: Path, format: str, compression: str) -> None:
    path = tmp_path / name_of(format, compression)
    assert written(path, format, compression).records == 0
    assert read_back(path) == []


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=6),
    format=st.sampled_from(["parquet", "jsonl", "webdataset"]),
    edge=st.integers(0, 6),
)
@settings(max_examples=120, deadline=None)
def test_any_text_comes_back_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], format: str, edge: int
) -> None:
    path = tmp_path_factory.mktemp("shards") / name_of(format, "none")
    batch = records(texts)
    written(path, format, "none", batch.slice(0, edge), batch.slice(edge))
    assert [row["text"] for row in read_back(path)] == texts


def test_json_lines_are_one_line_each_for_readers_that_split_at_any_unicode_line_end(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", "jsonl", "none", records(ODD_TEXTS))
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ODD_TEXTS


def test_json_numbers_are_short_and_what_json_cannot_hold_is_null(tmp_path: Path) -> None:
    scores = [0.1, None, math.nan, math.inf, 1.0, 1e-20]
    written(tmp_path / "a.jsonl", "jsonl", "none", records(["x"] * 6, scores))
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [line.rpartition('"quality":')[2] for line in lines] == [
        "0.1}", "null}", "null}", "null}", "1.0}", "1e-20}"
    ]  # fmt: skip


def test_columns_of_every_arrow_type_can_be_written_as_json(tmp_path: Path) -> None:
    batch = pa.record_batch(
        {
            '50% "done"': pa.array([True, None]),
            "list": pa.array([[1.5, math.nan], None], pa.list_(pa.float64())),
            "struct": pa.array([{"a": "é"}, None]),
            "bytes": pa.array([b"\xff", None]),
            "day": pa.array([0, None], pa.date32()),
            "double": pa.array([0.1, None]),
            "tag": pa.array(["x", None]).dictionary_encode(),
        }
    )
    sink = open_sink("jsonl", "none", batch.schema, tmp_path / "a.jsonl")
    sink.write(batch)
    sink.close()
    first, second = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert list(first.values()) == [True, [1.5, None], {"a": "é"}, "/w==", "1970-01-01", 0.1, "x"]
    assert set(second.values()) == {None}


def test_gzip_and_zstd_programs_can_read_the_shards(tmp_path: Path) -> None:
    for compression, program in (("gzip", ["gzip", "-dc"]), ("zstd", ["zstd", "-dc"])):
        path = tmp_path / name_of("jsonl", compression)
        written(path, "jsonl", compression, records(["hello"]))
        try:
            done = subprocess.run([*program, str(path)], capture_output=True, check=True)
        except FileNotFoundError:
            continue
        assert json.loads(done.stdout)["text"] == "hello"


def test_row_groups_are_cut_by_rows_and_bytes_alone() -> None:
    sizes = [10, 10, 100, 1, 1, 1, 1, 200, 5, 95]
    schema = pa.schema([pa.field("text", pa.string())])
    batch = pa.RecordBatch.from_pydict(
        {"text": ["x" * (size - 4) if size > 4 else "" for size in sizes]}, schema
    )
    assert value_bytes(batch.column(0)).tolist() == [10, 10, 100, 4, 4, 4, 4, 200, 5, 95]
    for cuts in ([10], [1] * 10, [3, 0, 6, 1]):
        groups, found, start = RowGroups(schema, rows=3, size=100), [], 0
        for size in cuts:
            found += [len(group) for group in groups.add(batch.slice(start, size))]
            start += size
        found += [len(group) for group in groups.rest()]
        assert found == [2, 1, 3, 1, 1, 2]


def test_the_bytes_of_a_row_are_counted_in_lists_and_structs_too() -> None:
    lists = pa.array([["ab"], None, [], ["c", ""]]).slice(0)
    assert value_bytes(lists).tolist() == [10, 4, 4, 13]
    assert value_bytes(lists.slice(2)).tolist() == [4, 13]
    assert value_bytes(pa.array([{"a": 1, "b": "xyz"}, {"a": None, "b": None}])).tolist() == [15, 12]
    assert value_bytes(pa.array([True, None])).tolist() == [1, 1]


def test_a_parquet_shard_has_the_row_groups_of_its_rows_and_the_schema_it_was_given(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"n": pa.array(range(70_000), pa.int64())})
    sink = open_sink("parquet", None, batch.schema, tmp_path / "a.parquet")
    for start in range(0, 70_000, 999):
        sink.write(batch.slice(start, 999))
    sink.close()
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    assert [metadata.row_group(row).num_rows for row in range(metadata.num_row_groups)] == [65_536, 4_464]
    written(tmp_path / "b.parquet", "parquet", "zstd", records(["x"]))
    assert pq.read_schema(tmp_path / "b.parquet").equals(SCHEMA)


def test_a_tar_says_nothing_of_who_wrote_it_and_when(tmp_path: Path) -> None:
    written(tmp_path / "a.tar", "webdataset", "none", records(["one", "two"]))
    with tarfile.open(tmp_path / "a.tar") as tar:
        members = tar.getmembers()
    keys = [xxhash.xxh3_128_hexdigest(f"http://a.b/c.d/{row}".encode()) for row in range(2)]
    assert [member.name for member in members] == [
        f"{key}.{kind}" for key in keys for kind in ("txt", "json")
    ]  # fmt: skip
    for member in members:
        described = (member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode)
        assert described == (0, 0, 0, "", "", 0o644)
        assert member.isreg()
        assert not member.pax_headers
    assert (tmp_path / "a.tar").stat().st_size % 10_240 == 0


def test_gnu_tar_reads_the_archive_without_a_warning(tmp_path: Path) -> None:
    written(tmp_path / "a.tar", "webdataset", "none", records(["one"]))
    done = subprocess.run(["tar", "-xvf", "a.tar"], cwd=tmp_path, capture_output=True, check=True)
    assert done.stderr == b""
    (text,) = tmp_path.glob("*.txt")
    assert text.read_text() == "one"


def test_webdataset_reads_one_sample_for_each_record_whatever_its_id(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    path = tmp_path / name_of("webdataset", "none")
    written(path, "webdataset", "none", records(ODD_TEXTS))
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    assert [sample["txt"].decode() for sample in samples] == ODD_TEXTS
    assert [json.loads(sample["json"])["id"] for sample in samples] == [
        f"http://a.b/c.d/{row}" for row in range(len(ODD_TEXTS))
    ]


@pytest.mark.parametrize(("format", "compression"), EVERY)
def test_datasets_loads_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, compression: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    texts = ODD_TEXTS
    path = tmp_path / name_of(format, compression)
    written(path, format, compression, records(texts))
    builder = {"jsonl": "json"}.get(format, format)
    loaded = datasets.load_dataset(
        builder, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    if format == "webdataset":
        assert [row["json"]["id"] for row in loaded] == [f"http://a.b/c.d/{row}" for row in range(len(texts))]
        found = [row["txt"] for row in loaded]
        assert [text.decode() if isinstance(text, bytes) else text for text in found] == texts
    else:
        assert loaded["text"][:] == texts
        assert loaded["meta"][0] == '{"a": [1, "x"]}'


def test_a_discarded_shard_leaves_nothing(tmp_path: Path) -> None:
    for format, compression in EVERY:
        sink = open_sink(format, compression, SCHEMA, tmp_path / "shard")
        sink.write(records(["x"]))
        sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused_with_what_can(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="parquet, jsonl, webdataset"):
        open_sink("csv", None, SCHEMA, tmp_path / "a")
    with pytest.raises(ValueError, match="zstd, gzip, none"):
        open_sink("jsonl", "lz4", SCHEMA, tmp_path / "a")
    with pytest.raises(ValueError, match="needs a column text"):
        open_sink("webdataset", None, pa.schema([("id", pa.string())]), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    sink = open_sink("jsonl", None, SCHEMA, tmp_path / "a")
    with pytest.raises(ValueError, match="no column text, meta"):
        sink.write(records(["x"]).drop_columns(["text", "meta"]))
    sink.discard()


def test_suffixes_name_format_and_compression() -> None:
    assert suffix_of("parquet") == suffix_of("parquet", "gzip") == ".parquet"
    assert suffix_of("jsonl", "zstd") == ".jsonl.zst"
    assert suffix_of("webdataset") == ".tar"
    assert suffix_of("datacomp") == ".npy"
