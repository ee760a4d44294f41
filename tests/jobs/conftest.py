"""A small finished run on disk, in the layout that the pipeline leaves."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_server import s3, s3_server
from thresher.schemas.ledger import LEDGER

__all__ = ["s3", "s3_server"]

TOTALS: dict[str, Any] = {
    "in": 10,
    "added": 0,
    "kept": 4,
    "written": 4,
    "dropped": {"filter:gopher_quality": {"too_few_words": 3, "too_many_words": 1}},
    "duplicates": {"dedup:minhash": 1},
    "errors": {"invalid_json": 1},
    "repeated_ids": 2,
    "containers": {"file": {"in": 3, "read": 1, "skipped": {"empty": 1}, "errors": {"truncated": 1}}},
    "steps": [
        {"step": "input", "in": 10, "added": 0, "kept": 9, "dropped": {}, "duplicates": 0,
         "errors": {"invalid_json": 1}},
        {"step": "filter:gopher_quality", "in": 9, "added": 0, "kept": 5,
         "dropped": {"too_few_words": 3, "too_many_words": 1}, "duplicates": 0, "errors": {}},
        {"step": "dedup:minhash", "in": 5, "added": 0, "kept": 4, "dropped": {}, "duplicates": 1,
         "errors": {}},
    ],
}  # fmt: skip


def make(folder: Path, ledger: str = "full") -> Path:
    """Writes job.yaml, out/ and out/.work; returns the job file."""
    job = folder / "job.yaml"
    job.write_text(
        f"name: small\ninput: docs.jsonl\nsteps:\n  - filter: gopher_quality\n  - dedup: minhash\n"
        f"output: {{path: out}}\nrun: {{ledger: {ledger}, workers: 1}}\n"
    )
    output = folder / "out"
    (output / "ledger").mkdir(parents=True)
    (output / "job.yaml").write_text(job.read_text().replace("path: out", f"path: {output}"))
    pq.write_table(pa.table({"id": ["kept-1", "kept-2"], "text": ["a", "b"]}), output / "shard-00000.parquet")
    pq.write_table(pa.table({"id": ["kept-3", "kept-4"], "text": ["c", "d"]}), output / "shard-00001.parquet")
    shards = [
        {"path": f"shard-0000{n}.parquet", "records": 2, "bytes": 100, "sha256": f"{n}" * 64} for n in (0, 1)
    ]
    manifest = {"name": "small", "shards": shards, "totals": TOTALS}
    (output / "manifest.json").write_text(json.dumps(manifest))
    rows = [
        {"position": 1, "id": "short", "source": "docs.jsonl:0", "step": "filter:gopher_quality",
         "verdict": "dropped", "reason": "too_few_words", "value": "12"},
        {"position": (1 << 32) + 5, "id": "copy", "source": "docs.jsonl:99", "step": "dedup:minhash",
         "verdict": "duplicate", "reason": "duplicate", "value": "kept-1"},
        {"position": 7, "id": "broken", "source": "docs.jsonl:50", "step": "input", "verdict": "error",
         "reason": "invalid_json", "value": None},
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=LEDGER), output / "ledger" / "part-00000.parquet")
    write_stage(output / ".work", "00-read-0123456789ab", parts=2, finished=True)
    write_stage(output / ".work", "01-dedup-minhash-0123456789ab", parts=1, finished=False)
    write_used(output / ".work", "00-read-0123456789ab", "01-dedup-minhash-0123456789ab")
    (output / ".work" / "runs").mkdir()
    (output / ".work" / "sources.json").write_text("[]")
    return job


def write_stage(work: Path, name: str, parts: int, finished: bool) -> None:
    directory = work / "stages" / name
    directory.mkdir(parents=True)
    for part in range(parts):
        position = [(part << 32) + row for row in (1, 3, 5)]
        streams = {
            "records": pa.table(
                {"position": pa.array(position, pa.uint64()), "id": [f"x{part}", "kept-1", "z"]}
            ),
            "signals": pa.table(
                {"position": pa.array(position, pa.uint64()), "word_count": [12 + part, 70, 80]}
            ),
        }
        entry: dict[str, Any] = {"part": part, "rows": [5, 3], "bytes": 500, "streams": {}, "accounts": {}}
        for stream, table in streams.items():
            path = directory / f"{part:05d}.{stream}.{'ab' * 6}.parquet"
            pq.write_table(table, path)
            entry["streams"][stream] = {
                "path": path.name, "rows": 3, "bytes": 100, "checksum": "ab" * 16,
                "columns": table.column_names,
            }  # fmt: skip
        (directory / f"{part:05d}.json").write_text(json.dumps(entry))
    if finished:
        (directory / "rollup.json").write_text("{}")


def write_used(work: Path, *names: str) -> None:
    (work / "stages" / "used.json").write_text(json.dumps(names))


@pytest.fixture
def totals() -> dict[str, Any]:
    """The totals of the run that `make_run` leaves."""
    return copy.deepcopy(TOTALS)


@pytest.fixture
def make_stage() -> Callable[..., None]:
    """Writes a stage into a work directory: `<number>-<name>-<fingerprint>`, its parts, whether it ended."""
    return write_stage


@pytest.fixture
def use_stages() -> Callable[..., None]:
    """Writes down in a work directory which stages, by the names of their folders, the last run has used."""
    return write_used


@pytest.fixture
def make_run() -> Callable[..., Path]:
    """Writes a finished run into a folder and returns its job file; `ledger` as in a job."""
    return make


@pytest.fixture
def finished_job(tmp_path: Path) -> Path:
    """The job file of a run that has finished; its output is `out` beside it."""
    return make(tmp_path)
