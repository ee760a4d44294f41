"""Records of every format arrive intact in shards of every format, read back by the formats' own readers."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
import zstandard
from inline_engine import inline_tasks

ODD = [
    "plain",
    "",
    "a NUL \0 inside",
    "separators \u2028 and \u2029 and \x85",
    "a lone \r, a pair \r\n, a tab \t",
    "e\u0301 \u0301 ﬁ 😀 \U0010ffff \ufdd0",
    "\ufeffa mark at the start",
    'quotes " and \\ and </script> and %s {}',
    "我们 and עברית and ไทย",
    "  ends with white space \n\n",
]
DATE = "2024-05-06T07:08:09Z"


def records(prefix: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{prefix}/{n}.x",
            "text": text,
            "url": None if n % 3 == 2 else f"https://e.org/{prefix}?n={n}&ö=\u2028",
            "date": DATE if n % 2 else None,
            "meta": {"n": n, "tags": ["a", "\0 ü"], "nested": {"x": 0.5, "none": None}},
        }
        for n, text in enumerate(ODD)
    ]


def lines(prefix: str, **names: str) -> list[bytes]:
    """The records as JSON Lines with fields of other names."""
    objects = (
        {names.get(key, key): record[key] for key in ("id", "text", "url", "date") if record[key] is not None}
        | record["meta"]
        for record in records(prefix)
    )
    return [json.dumps(fields, ensure_ascii=False).encode() + b"\n" for fields in objects]


def warc_record(kind: str, id_: str, url: str, body: bytes, content_type: str) -> bytes:
    """A record as a gzip member of its own."""
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <{id_}>\r\nWARC-Date: {DATE}\r\n"
        f"WARC-Target-URI: {url}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + body + b"\r\n\r\n", mtime=0)


def page(number: int) -> bytes:
    html = (
        f"<html><head><title>Page {number}</title></head><body><p>Text of page {number}, ö.</p></body></html>"
    )
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html.encode()


def write_jsonl(folder: Path) -> dict[str, Any]:
    (folder / "plain.jsonl").write_bytes(b"".join(lines("jsonl")))
    return {"path": str(folder / "plain.jsonl")}


def write_gzip(folder: Path) -> dict[str, Any]:
    (folder / "many.jsonl.gz").write_bytes(b"".join(gzip.compress(line) for line in lines("gzip")))
    return {"path": str(folder / "many.jsonl.gz")}


def write_zstd(folder: Path) -> dict[str, Any]:
    compressor = zstandard.ZstdCompressor()
    (folder / "two.jsonl.zst").write_bytes(
        compressor.compress(b"".join(lines("zstd")[:4])) + compressor.compress(b"".join(lines("zstd")[4:]))
    )
    return {"path": str(folder / "two.jsonl.zst")}


def write_mapped(folder: Path) -> dict[str, Any]:
    names = {"id": "key", "text": "content", "url": "link", "date": "when"}
    (folder / "mapped.json").write_bytes(b"".join(lines("mapped", **names)))
    return {"path": str(folder / "mapped.json"), "format": "jsonl", "columns": names}


def write_parquet(folder: Path) -> dict[str, Any]:
    rows = [{**record.pop("meta"), **record} for record in records("parquet")]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet", row_group_size=3)
    return {"path": str(folder / "rows.parquet")}


def write_wet(folder: Path) -> dict[str, Any]:
    members = [warc_record("warcinfo", "urn:i", "", b"software: x\r\n", "application/warc-fields")]
    members += [
        warc_record("conversion", f"urn:wet:{n}", f"https://e.org/wet/{n}", text.encode(), "text/plain")
        for n, text in enumerate(ODD)
    ]
    (folder / "texts.warc.wet.gz").write_bytes(b"".join(members))
    return {"path": str(folder / "texts.warc.wet.gz")}


def write_warc(folder: Path) -> dict[str, Any]:
    http = "application/http; msgtype=response"
    members = [
        warc_record("response", f"urn:warc:{n}", f"https://e.org/{n}", page(n), http) for n in range(3)
    ]
    (folder / "pages.warc.gz").write_bytes(b"".join(members))
    return {"path": str(folder / "pages.warc.gz")}


WRITERS = [write_jsonl, write_gzip, write_zstd, write_mapped, write_parquet, write_wet, write_warc]


def expected() -> list[dict[str, Any]]:
    """What the shards should hold, `meta` read as JSON."""
    prefixes = ("jsonl", "gzip", "zstd", "mapped", "parquet")
    made = [record for prefix in prefixes for record in records(prefix)]
    made += [
        {"id": f"urn:wet:{n}", "text": text, "url": f"https://e.org/wet/{n}", "date": DATE, "meta": None}
        for n, text in enumerate(ODD)
    ]
    for n in range(3):
        made.append(
            {
                "id": f"urn:warc:{n}",
                "text": f"Text of page {n}, ö.",
                "url": f"https://e.org/{n}",
                "date": DATE,
                "meta": {"status": 200, "title": f"Page {n}"},
            }
        )
    return made


def read_parquet(paths: list[Path], cache: Path) -> Iterator[dict[str, Any]]:
    for path in paths:
        yield from pq.read_table(path).to_pylist()


def read_datasets(paths: list[Path], cache: Path) -> Iterator[dict[str, Any]]:
    datasets = pytest.importorskip("datasets")
    builder = "parquet" if paths[0].suffix == ".parquet" else "json"
    files = [str(path) for path in paths]
    for record in datasets.load_dataset(builder, data_files=files, split="train", cache_dir=str(cache)):
        if isinstance(record["date"], datetime):  # its JSON reader takes all that look like times for times
            record["date"] = record["date"].strftime("%Y-%m-%dT%H:%M:%SZ")
        yield record


def read_gzip(paths: list[Path], cache: Path) -> Iterator[dict[str, Any]]:
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            yield from map(json.loads, file)


def read_zstd(paths: list[Path], cache: Path) -> Iterator[dict[str, Any]]:
    for path in paths:
        with path.open("rb") as file:
            data = zstandard.ZstdDecompressor().stream_reader(file).read()
        yield from map(json.loads, data.decode().splitlines())


def read_lines(paths: list[Path], cache: Path) -> Iterator[dict[str, Any]]:
    for path in paths:
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def read_webdataset(paths: list[Path], cache: Path) -> Iterator[dict[str, Any]]:
    webdataset = pytest.importorskip("webdataset")
    for sample in webdataset.WebDataset([str(path) for path in paths], shardshuffle=False):
        yield {**json.loads(sample["json"]), "text": sample["txt"].decode()}


OUTPUTS: list[tuple[str, str, list[Callable[..., Iterator[dict[str, Any]]]]]] = [
    ("parquet", "zstd", [read_parquet, read_datasets]),
    ("jsonl", "gzip", [read_gzip, read_datasets]),
    ("jsonl", "zstd", [read_zstd]),
    ("jsonl", "none", [read_lines, read_datasets]),
    ("webdataset", "none", [read_webdataset]),
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("sources")
    return [write(folder) for write in WRITERS]


@pytest.fixture
def _inline() -> Iterator[None]:
    with inline_tasks():
        yield


@pytest.mark.parametrize(("format", "compression", "readers"), OUTPUTS)
def test_records_of_every_format_arrive_intact_in_every_format(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sources: list[dict[str, Any]],
    format: str,
    compression: str,
    readers: list[Callable[..., Iterator[dict[str, Any]]]],
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    out = tmp_path / "out"
    job = {
        "name": "formats",
        "input": sources,
        "steps": [{"extract": "resiliparse_plain"}],
        "output": {"path": str(out), "format": format, "compression": compression, "shard": "2KB"},
        "run": {"workers": 2},
    }
    result = thresher.run(thresher.load(job))
    manifest = json.loads((out / "manifest.json").read_text())
    assert len(manifest["shards"]) > 2
    for shard in manifest["shards"]:
        data = (out / shard["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])
    assert result.totals["in"] == result.totals["written"] == len(expected())
    wanted = expected()
    for read in readers:
        found = list(read([out / shard["path"] for shard in manifest["shards"]], tmp_path / "cache"))
        assert len(found) == len(wanted)
        for record, right in zip(found, wanted, strict=True):
            meta = json.loads(record["meta"]) if record["meta"] is not None else None
            if "warc" in right["id"]:
                record["text"] = record["text"].strip().removeprefix(right["meta"]["title"]).strip()
            assert {**{key: record[key] for key in ("id", "text", "url", "date")}, "meta": meta} == right
        files = [str(source["path"]) for source in sources]
        assert [f for f in files if f in {record["source"].rpartition(":")[0] for record in found}] == files


@pytest.mark.usefixtures("_inline")
def test_pages_that_no_step_extracts_are_errors(tmp_path: Path) -> None:
    job = {
        "name": "pages",
        "input": [write_warc(tmp_path), write_wet(tmp_path)],
        "output": {"path": str(tmp_path / "out")},
    }
    result = thresher.run(thresher.load(job, check=False))
    assert result.totals["errors"] == {"not_extracted": 3}
    assert result.totals["kept"] == len(ODD)
    ledger = pq.read_table(tmp_path / "out" / "ledger").to_pylist()
    assert {(row["id"], row["step"], row["verdict"], row["reason"]) for row in ledger} == {
        (f"urn:warc:{n}", "input", "error", "not_extracted") for n in range(3)
    }


@pytest.mark.usefixtures("_inline")
def test_files_that_break_off_are_containers_with_a_reason_and_what_could_be_read_is_kept(
    tmp_path: Path,
) -> None:
    whole = {
        "cut.jsonl.gz": gzip.compress(b"".join(lines("gzip")), compresslevel=0),
        "cut.jsonl.zst": zstandard.ZstdCompressor(level=1).compress(b"".join(lines("zstd"))),
        "cut.warc.wet.gz": (tmp_path / write_wet(tmp_path)["path"]).read_bytes(),
        "cut.parquet": (tmp_path / write_parquet(tmp_path)["path"]).read_bytes(),
    }
    (tmp_path / "in").mkdir()
    for name, data in whole.items():
        (tmp_path / "in" / name).write_bytes(data[: len(data) * 2 // 3])
    (tmp_path / "in" / "empty.jsonl.gz").touch()
    (tmp_path / "in" / "sound.jsonl").write_bytes(b"".join(lines("jsonl")))
    job = {
        "name": "broken",
        "input": str(tmp_path / "in" / "*"),
        "output": {"path": str(tmp_path / "out")},
    }
    result = thresher.run(thresher.load(job))
    containers = pq.read_table(tmp_path / "out" / "containers.parquet").to_pylist()
    files = {
        Path(row["source"]).name: (row["reason"], bool(row["detail"]))
        for row in containers
        if row["kind"] == "file"
    }
    assert files == {
        "cut.jsonl.gz": ("truncated", True),
        "cut.jsonl.zst": ("truncated", True),
        "cut.parquet": ("corrupt", True),
        "cut.warc.wet.gz": ("truncated", True),
        "empty.jsonl.gz": ("truncated", True),
    }
    accounts = result.totals["containers"]["file"]
    assert (accounts["in"], accounts["read"], accounts["errors"]) == (6, 1, {"truncated": 4, "corrupt": 1})
    rows = pq.read_table(tmp_path / "out" / result.shards[0].path).to_pylist()
    kept = {row["id"]: row["text"] for row in rows}
    assert {id_: text for id_, text in kept.items() if id_.startswith("jsonl/")} == {
        f"jsonl/{n}.x": text for n, text in enumerate(ODD)
    }
    for prefix, suffix in (("gzip/", ".x"), ("urn:wet:", "")):
        numbers = [n for n in range(len(ODD)) if f"{prefix}{n}{suffix}" in kept]
        assert numbers == list(range(len(numbers))), "what was read is the beginning of the file"
        assert 0 < len(numbers) < len(ODD)
        assert all(kept[f"{prefix}{n}{suffix}"] == ODD[n] for n in numbers)
    ledger = pq.read_table(tmp_path / "out" / "ledger").to_pylist()
    assert {(Path(row["source"].rpartition(":")[0]).name, row["reason"]) for row in ledger} <= {
        ("cut.jsonl.gz", "truncated_line"),
        ("cut.jsonl.zst", "truncated_line"),
    }


@pytest.mark.usefixtures("_inline")
@pytest.mark.parametrize("rows", [3, 1100])
def test_a_damaged_row_group_ends_its_file_and_what_came_before_is_kept(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "rows.parquet"
    texts = [f"text {n} {hashlib.sha256(str(n).encode()).hexdigest()}" for n in range(3 * rows)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=rows, use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    header = column.data_page_offset
    data[header : header + 16] = b"\xff" * 16
    path.write_bytes(data)
    job = {
        "name": "damaged",
        "input": str(path),
        "steps": [{"dedup": "exact"}],
        "output": {"path": str(tmp_path / "out"), "shuffle": "parts"},
    }
    result = thresher.run(thresher.load(job))
    kept = pq.read_table(tmp_path / "out" / result.shards[0].path).column("text").to_pylist()
    assert sorted(kept) == sorted(texts[:rows])
    (container,) = pq.read_table(tmp_path / "out" / "containers.parquet").to_pylist()
    assert (container["kind"], container["source"], container["reason"]) == ("file", str(path), "corrupt")


@pytest.mark.usefixtures("_inline")
@pytest.mark.parametrize("name", ["empty.jsonl", "empty.parquet", "empty.warc.wet.gz"])
def test_a_file_without_records_is_read_and_gives_none(tmp_path: Path, name: str) -> None:
    if name == "empty.parquet":
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / name)
    elif name == "empty.jsonl":
        (tmp_path / name).touch()
    else:
        info = warc_record("warcinfo", "urn:i", "", b"software: x\r\n", "application/warc-fields")
        (tmp_path / name).write_bytes(info)
    job = {
        "name": "nothing",
        "input": str(tmp_path / name),
        "steps": [
            {"rule": "word_count > 1"},
            {"dedup": "minhash"},
            {"select": {"top": 0.5, "by": "word_count"}},
        ],
        "output": {"path": str(tmp_path / "out")},
    }
    result = thresher.run(thresher.load(job))
    assert (result.totals["in"], result.totals["kept"]) == (0, 0)
    assert result.totals["containers"]["file"]["read"] == 1
    assert [shard.records for shard in result.shards] == [0]


@pytest.mark.usefixtures("_inline")
def test_pages_among_records_that_come_with_none_are_extracted(tmp_path: Path) -> None:
    broken = [b"{}\n"] * 1500  # a batch of its own, and the beginning of the next
    page = json.dumps({"id": "page", "html": "<p>Text of a page.</p>"}).encode() + b"\n"
    (tmp_path / "in.jsonl").write_bytes(b"".join([*broken, page, *broken]))
    job = {
        "name": "pages",
        "input": [{"path": str(tmp_path / "in.jsonl"), "columns": {"html": "html"}}],
        "steps": [{"extract": "resiliparse_plain"}],
        "output": {"path": str(tmp_path / "out")},
    }
    result = thresher.run(thresher.load(job))
    assert result.totals["errors"] == {"missing_html": 3000}
    (row,) = pq.read_table(tmp_path / "out" / result.shards[0].path).to_pylist()
    assert (row["id"], row["text"].strip()) == ("page", "Text of a page.")


@pytest.mark.usefixtures("_inline")
def test_records_without_an_id_are_named_by_their_content_wherever_they_stand(tmp_path: Path) -> None:
    texts = [*ODD, "plain"]
    found = []
    for folder, cut in (("one", len(texts)), ("two", 4)):
        (tmp_path / folder).mkdir()
        for number, some in enumerate((texts[:cut], texts[cut:])):
            data = "".join(json.dumps({"text": text}) + "\n" for text in some)
            (tmp_path / folder / f"{number}.jsonl").write_text(data)
        job = {
            "name": "unnamed",
            "input": str(tmp_path / folder / "*.jsonl"),
            "output": {"path": str(tmp_path / folder / "out")},
        }
        result = thresher.run(thresher.load(job))
        assert result.totals["repeated_ids"] == 1
        rows = pq.read_table(tmp_path / folder / "out" / result.shards[0].path).to_pylist()
        found.append([(row["id"], row["text"]) for row in rows])
    assert found[0] == found[1]
    assert [text for _, text in found[0]] == texts
    assert len({id_ for id_, _ in found[0]}) == len(texts) - 1
