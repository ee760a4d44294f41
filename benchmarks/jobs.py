"""Whole jobs as a person runs them: `thresher run` with one worker, and what each of their stages costs."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import process_tree
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

COMMAND = Path(sys.executable).with_name("thresher")
EXPORT = ("sizes", "export")  # the stages that plan and write shards

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """A job without its places."""

    steps: Sequence[Mapping[str, Any]]
    output: Mapping[str, Any]

    def write(self, source: Path, folder: Path) -> Path:
        """The job file for a source, with output and work in `folder`. JSON is YAML."""
        described = {
            "name": "benchmark",
            "input": [{"path": str(source.resolve())}],
            "steps": list(self.steps),
            "output": {"path": str(folder / "out"), **self.output},
            "run": {"workers": 1, "work": str(folder / "work")},
        }
        path = folder / "job.yaml"
        path.write_text(json.dumps(described), encoding="utf-8")
        return path


@dataclass(frozen=True)
class Cost:
    """CPU seconds of a job: the whole command, and stage by stage in one process."""

    whole: float
    stages: Mapping[str, float]
    removed: frozenset[str]  # ids in the ledger

    @property
    def to_survivors(self) -> float:
        """All stages and the driver but for the shards: it is known, and in the accounts, who survives."""
        return sum(seconds for stage, seconds in self.stages.items() if stage not in EXPORT)

    @property
    def to_shards(self) -> float:
        """All stages and the driver."""
        return sum(self.stages.values())


def cost(job: Job, source: Path) -> Cost:
    """Runs a job twice, as a command and stage by stage, each time from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        whole = command(job, source, Path(folder))
        ledger = pq.read_table(Path(folder) / "out" / "ledger", columns=["id"])
    with tempfile.TemporaryDirectory() as folder:
        script = Path(__file__).with_name("stages.py")
        done = subprocess.run(
            [sys.executable, script, job.write(source, Path(folder)), "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    return Cost(whole.cpu, json.loads(done.stdout.splitlines()[-1]), frozenset(ledger["id"].to_pylist()))


def command(
    job: Job, source: Path, folder: Path, environment: dict[str, str] | None = None
) -> process_tree.Usage:
    """What `thresher run` takes with the processes that it starts; `folder` gets output and work."""
    return process_tree.measure([str(COMMAND), "run", str(job.write(source, folder)), "--quiet"], environment)


def start(job: Job, folder: Path, environment: dict[str, str] | None = None) -> process_tree.Usage:
    """What a job of one record takes: libraries, compiled kernels from the cache, a worker, the commits."""
    source = folder / "one.jsonl"
    source.write_text(json.dumps({"id": "one", "text": "One record of a few words."}) + "\n")
    return command(job, source, folder, environment)


def alternate(contenders: Mapping[str, Callable[[], T]], runs: int) -> dict[str, list[T]]:
    """What each contender returns in each of so many rounds; in a round each runs once."""
    results: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(runs):
        for name, run in contenders.items():
            if sys.stderr.isatty():
                print(f"\r\x1b[Kround {number + 1} of {runs}: {name}", end="", file=sys.stderr, flush=True)
            results[name].append(run())
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return results


def median_of(costs: Sequence[Cost], part: Callable[[Cost], float]) -> float:
    return statistics.median(part(found) for found in costs)


def documents(corpus: Path, count: int | None = None, columns: Sequence[str] = ("id", "text")) -> pa.Table:
    """The documents of a corpus, or `count` of them, evenly spread."""
    table = pq.read_table(corpus / "docs.parquet", columns=list(columns))
    if count is None or count >= len(table):
        return table
    return table.take(pa.array([place * len(table) // count for place in range(count)]))


def megabytes(table: pa.Table) -> float:
    """Millions of UTF-8 bytes of text."""
    size: int = pc.sum(pc.binary_length(table["text"])).as_py() or 0
    return size / 1e6


def write_json_lines(table: pa.Table, path: Path) -> Path:
    """The rows of a table, an object a line."""
    with path.open("w", encoding="utf-8") as file:
        for batch in table.to_batches(1024):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())
    return path


def write_parquet(table: pa.Table, path: Path) -> Path:
    """The rows of a table as the corpus has them: zstd, row groups of 2,000."""
    pq.write_table(table, path, compression="zstd", row_group_size=2000)
    return path
