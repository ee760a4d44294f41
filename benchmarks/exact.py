"""Exact dedup beside Dolma's Bloom filter: megabytes of text a second of CPU time.

    python benchmarks/exact.py --corpus DIR [--documents 10000] [--peer-python PYTHON] [--runs 3]

DIR holds docs.parquet and truth.json (see corpus.py); a fifth of the planted copies are exact. Seconds are
CPU seconds, medians of alternating runs:

- kernel: from texts in memory to 128-bit keys, for each normalisation;
- job, to survivors: the stages of `thresher run` timed in one process, with all that they read, write and
  commit, the ledger too, but without writing shards; from Parquet, and from gzipped JSON Lines;
- Dolma: its whole `dedupe` command over the same JSON Lines, to attributes. It starts up within that time;
  where `--peer-python` is left out, its rate is the one that was recorded for Dolma 1.2.1 on another machine.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
from figures import Figure, add_option, save
from thresher.filters.dedup.exact import Normalization, text_key

from jobs import Job, alternate, cost, documents, megabytes, write_parquet

NORMALIZATIONS: tuple[Normalization, ...] = ("none", "whitespace", "lower")
BATCH = 1024  # documents
RECORDED = 76.0  # MB/s of Dolma 1.2.1 over documents, in the comparison that this project began with
PARQUET, LINES, DOLMA = "job, to survivors, from Parquet", "job, to survivors, from JSON Lines", "Dolma"

Found = tuple[float, frozenset[str]]  # seconds, ids that go


def kernel(table: pa.Table, normalize: Normalization) -> Found:
    """From texts to keys."""
    batches = [batch.column("text") for batch in table.to_batches(BATCH)]
    text_key(batches[0], normalize)  # compiled code is loaded
    start = time.process_time()
    for texts in batches:
        text_key(texts, normalize)
    return time.process_time() - start, frozenset()


def job(source: Path) -> Found:
    """`thresher run` with one dedup step."""
    found = cost(Job([{"dedup": {"exact": {"keep": "first"}}}], {"format": "parquet"}), source)
    return found.to_survivors, found.removed


def dolma(python: Path, source: Path) -> Found:
    """Dolma's `dedupe`. Exits with its last words where it fails."""
    script = Path(__file__).parent / "peers" / "exact_dolma.py"
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        done = subprocess.run([python, script, source, answer], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
        said = json.loads(answer.read_text())
    return said["seconds"], frozenset(said["removed"])


def write_gzipped(table: pa.Table, path: Path) -> Path:
    """The rows of a table, an object a line, as Dolma wants them."""
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=6) as file:
        for batch in table.to_batches(BATCH):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())
    return path


def figures(rates: dict[str, float]) -> list[Figure]:
    """The rates, and ours over Dolma's."""
    found = [
        Figure("exact: kernel", rates["kernel, whitespace"], "MB/s a core"),
        Figure(f"exact: {PARQUET}", rates[PARQUET], "MB/s a core", 150),
        Figure(f"exact: {LINES}", rates[LINES], "MB/s a core"),
    ]
    peer, whose = (rates[DOLMA], "Dolma") if DOLMA in rates else (RECORDED, "Dolma as recorded")
    found.append(Figure(f"exact: job, same JSON Lines / {whose}", rates[LINES] / peer, "x", 2))
    found.append(Figure(f"exact: job, same documents in Parquet / {whose}", rates[PARQUET] / peer, "x"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--documents", type=int, help="size of the sample; all if left out")
    parser.add_argument("--peer-python", type=Path, help="interpreter that has Dolma")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs")
    add_option(parser)
    options = parser.parse_args()

    table = documents(options.corpus, options.documents)
    with tempfile.TemporaryDirectory() as folder:
        parquet = write_parquet(table, Path(folder) / "docs.parquet")
        lines = write_gzipped(table, Path(folder) / "docs.jsonl.gz")
        contenders: dict[str, Callable[[], Found]] = {
            f"kernel, {kind}": partial(kernel, table, kind) for kind in NORMALIZATIONS
        }
        contenders |= {PARQUET: partial(job, parquet), LINES: partial(job, lines)}
        if options.peer_python:
            contenders[DOLMA] = partial(dolma, options.peer_python, lines)
        rounds = alternate(contenders, options.runs)
    size = megabytes(table)
    rates = {name: size / statistics.median(seconds for seconds, _ in runs) for name, runs in rounds.items()}
    print(f"{len(table)} documents, {size:.0f} MB")
    for name, rate in rates.items():
        removed = rounds[name][0][1]
        print(f"{name:40}{rate:9.1f} MB/s" + (f"  removed {len(removed)}" if removed else ""))
    save(figures(rates), options.figures)


if __name__ == "__main__":
    main()
