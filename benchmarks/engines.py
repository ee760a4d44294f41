"""What each engine costs: the same recipe over the same crawl on all of them, as ratios to the local engine.

    python benchmarks/engines.py --corpus DIR [--pages 6000] [--runs 2] [--engines local-2 ray]

CPU seconds are those of all processes that a run starts: for the portable runner the job service and the pool
of workers too, for Ray its own servers. Each run begins with nothing; contenders alternate, and medians are
compared. Memory is that of the process tree, where shared pages count once, looked at five times a second,
and of the largest process. The checksums of shards and ledger are compared: a ratio of other work is none.

With `--exchange`, how much memory an exchange takes that is eight times as large as its bound: the records of
`shuffle: global` travel whole, and no process may hold more than the bound.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import process_tree
import pyarrow as pa
import pyarrow.parquet as pq
from figures import Figure, add_option, save
from growth import FILES, RECIPES, write_crawl

from jobs import COMMAND, alternate, documents

ROOT = Path(__file__).resolve().parent.parent
MOST = {"beam": 1.3, "beam-portable": 2.5, "ray": 2.5}  # times the CPU seconds of one local worker
BOUND = 512 << 20  # bytes of the largest process, in an exchange of eight times as much
ENGINES: Mapping[str, Sequence[str]] = {
    "local-1": ("run.engine=local", "run.workers=1"),
    "local-2": ("run.engine=local", "run.workers=2"),
    "beam": ("run.engine=beam",),
    "beam-portable": ("run.engine=beam", "run.beam.runner=PortableRunner"),
    "ray": ("run.engine=ray", "run.workers=2"),
}


@dataclass(frozen=True)
class Run:
    """What a run took, and what it left: one checksum of all shards, one of the ledger."""

    usage: process_tree.Usage
    shards: str
    ledger: str


def checksum(files: Sequence[Path]) -> str:
    """SHA-256 of the files, one after the other."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def measure(engine: str, job: Path, overrides: Sequence[str], folder: Path) -> Run:
    """Runs a job on an engine as a command of its own, in a folder that goes away."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        out = Path(name) / "out"
        sets = [f"output.path={out}", *ENGINES[engine], *overrides]
        words = [word for value in sets for word in ("--set", value)]
        if engine == "beam-portable":
            command = [sys.executable, str(Path(__file__).resolve()), "--portable", str(job), *words]
        else:
            command = [str(COMMAND), "run", str(job), "--quiet", *words]
        usage = process_tree.measure(command, sampled=True)
        run = Run(usage, checksum(list(out.glob("shard-*"))), checksum(list((out / "ledger").glob("*"))))
    print(
        f"{engine}: {usage.cpu:.1f} CPU s, {usage.wall:.0f} s, {usage.tree / 1e6:.0f} MB, "
        f"shards {run.shards}, ledger {run.ledger}",
        file=sys.stderr,
        flush=True,
    )
    return run


def run_portable(job: Path, overrides: Sequence[str]) -> None:
    """Runs a job through a job service and a pool of external workers, which it starts and ends."""
    import subprocess

    sys.path.insert(0, str(ROOT / "tests" / "engines"))
    from beam_services import beam_services  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder, beam_services(Path(folder)) as services:
        sets = [*overrides, f"run.beam.options={json.dumps(services.options)}"]
        words = [word for value in sets for word in ("--set", value)]
        status = subprocess.run([str(COMMAND), "run", str(job), "--quiet", *words], check=False).returncode
    raise SystemExit(status)


def compare(options: argparse.Namespace, folder: Path) -> list[Figure]:
    """The recipe on every engine, a table, and the ratios."""
    files = write_crawl(options.corpus, folder, options.pages, -(-options.pages // FILES))
    overrides = [f"input.0.path={files[0].parent}/*.warc.gz", f"run.part={options.part}", *options.overrides]
    recipe = RECIPES / f"{options.recipe}.yaml"
    contenders: dict[str, Callable[[], Run]] = {
        name: partial(measure, name, recipe, overrides, folder) for name in options.engines
    }
    measure("local-2", recipe, overrides, folder)  # compiles what is not compiled yet
    runs = alternate(contenders, options.runs)
    left = {(run.shards, run.ledger) for of_engine in runs.values() for run in of_engine}
    if len(left) != 1:
        raise SystemExit(f"the engines left different shards or ledgers: {sorted(left)}")
    print(f"{options.recipe}, {options.pages} pages, {options.runs} runs of each; all left the same files\n")
    print(f"{'engine':16} {'CPU s':>8} {'wall s':>8} {'MB in all':>10} {'MB in one':>10} {'CPU ratio':>10}")
    cpu = {name: statistics.median(run.usage.cpu for run in found) for name, found in runs.items()}
    for name, found in runs.items():
        wall = statistics.median(run.usage.wall for run in found)
        tree, largest = max(run.usage.tree for run in found), max(run.usage.peak for run in found)
        ratio = f"{cpu[name] / cpu['local-1']:10.2f}" if "local-1" in cpu else ""
        print(f"{name:16} {cpu[name]:8.1f} {wall:8.1f} {tree / 1e6:10.0f} {largest / 1e6:10.0f} {ratio}")
    if "local-1" not in cpu:
        return []
    return [
        Figure(
            f"{name} / local: CPU s of {options.recipe}", cpu[name] / cpu["local-1"], "x", most, at_most=True
        )
        for name, most in MOST.items()
        if name in cpu
    ]


def exchange(options: argparse.Namespace, folder: Path) -> list[Figure]:
    """Shuffles eight times the bound through the exchange on the engines that spill."""
    size = write_large(options.corpus, folder / "large.parquet", 8 * BOUND)
    job = folder / "shuffle.json"
    described = {
        "name": "shuffle",
        "input": [{"path": str(folder / "large.parquet")}],
        "steps": [{"rule": "char_count > 0"}],
        "output": {"path": "out", "shuffle": "global"},
    }
    job.write_text(json.dumps(described))
    figures = []
    for name in ("local-2", "ray"):
        if name in options.engines:
            run = measure(name, job, options.overrides, folder)
            peak, times = run.usage.peak / 1e6, size / BOUND
            print(f"{name}: {size / 1e6:.0f} MB shuffled, {peak:.0f} MB in the largest process")
            what = f"{name}: largest process in an exchange of {times:.1f} times the bound"
            figures.append(Figure(what, peak, "MB", BOUND / 1e6, at_most=True))
    return figures


def write_large(corpus: Path, path: Path, size: int) -> int:
    """A Parquet file of at least `size` bytes of text: the corpus again and again, each with other ids."""
    table = documents(corpus)
    written = number = 0
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        while written < size:
            ids = pa.array([f"{number}-{one}" for one in table["id"].to_pylist()])
            writer.write_table(table.set_column(0, "id", ids), row_group_size=2000)
            written += table["text"].nbytes
            number += 1
    return written


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, help="what corpus.py has built")
    parser.add_argument("--recipe", default="fineweb", help="the name of a recipe")
    parser.add_argument("--pages", type=int, default=6000)
    parser.add_argument("--part", type=int, default=8 << 20, help="bytes of WARC that a task reads")
    parser.add_argument("--runs", type=int, default=1, help="alternating runs")
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--exchange", action="store_true", help="the memory of a large exchange instead")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="a value of the job")
    parser.add_argument("--folder", type=Path, help="where crawl and runs are")
    parser.add_argument("--portable", type=Path, help=argparse.SUPPRESS)
    add_option(parser)
    options = parser.parse_args()
    if options.portable:
        run_portable(options.portable, options.overrides)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        work = exchange if options.exchange else compare
        save(work(options, Path(name)), options.figures)


if __name__ == "__main__":
    main()
