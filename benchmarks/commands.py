"""Whole commands: filters from files to shards beside datatrove's, and what starting costs.

    python benchmarks/commands.py --corpus DIR [--peer-python PYTHON] [--documents 1000] [--runs 3]

The job is FineWeb's filters: Gopher repetition and quality, C4, FineWeb. Ours runs over the whole corpus as
`thresher run` with one worker; both run over the same sample, Parquet to Parquet. Seconds are CPU seconds
of the process tree, medians of alternating runs. Every command starts up first: libraries, compiled
kernels, a worker; a job of one record shows what that takes. Rates are those of the stages alone, timed in
one process (see stages.py). The MinHash job has its own table: benchmarks/minhash.py.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import process_tree
from figures import Figure, add_option, save

from jobs import (
    COMMAND,
    Cost,
    Job,
    alternate,
    command,
    cost,
    documents,
    median_of,
    megabytes,
    start,
    write_json_lines,
    write_parquet,
)

STEPS = [
    {"filter": "gopher_repetition"},
    {"filter": "gopher_quality"},
    {"filter": {"c4": {"line_ending": False}}},
    {"filter": "fineweb"},
]
JSON_LINES = Job(STEPS, {"format": "jsonl", "compression": "gzip"})
PARQUET = Job(STEPS, {"format": "parquet"})
COLUMNS = ("id", "text", "source", "url")
HELP_RUNS = 9


def from_nothing(run: Callable[[Path], float]) -> float:
    """What a run takes in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder))


def datatrove(python: Path, source: Path, out: Path) -> float:
    """CPU seconds of datatrove's pipeline."""
    script = Path(__file__).parent / "peers" / "datatrove_job.py"
    return process_tree.measure([str(python), str(script), str(source), str(out / "datatrove")]).cpu


def whole_corpus(corpus: Path, folder: Path, count: int | None, runs: int) -> list[Figure]:
    """Our job over all documents: the command, its start, and each stage."""
    table = documents(corpus, count, COLUMNS)
    sources = {
        "JSON Lines to JSON Lines": (JSON_LINES, write_json_lines(table, folder / "all.jsonl")),
        "Parquet to Parquet": (PARQUET, write_parquet(table, folder / "all.parquet")),
    }
    size = megabytes(table)
    print(f"filters job, {len(table)} documents, {size:.1f} MB")
    costs = alternate({name: partial(cost, *of) for name, of in sources.items()}, runs)
    starts = alternate(
        {
            name: partial(from_nothing, lambda at, job=job: start(job, at).cpu)
            for name, (job, _) in sources.items()
        },
        runs,
    )
    found = []
    for name in sources:
        beginning = statistics.median(starts[name])
        show(name, size, costs[name], beginning)
        rate = size / median_of(costs[name], lambda one: one.to_shards)
        found.append(Figure(f"filters job: {name}", rate, "MB/s a core"))
    return found


def show(name: str, size: float, costs: list[Cost], beginning: float) -> None:
    """The whole command, its start, what is left, and the stages of one process."""
    whole = median_of(costs, lambda one: one.whole)
    print(f"{name}: command {whole:.2f} CPU s, of which {beginning:.2f} for one record")
    for label, seconds in (
        ("command without its start", whole - beginning),
        ("stages, to shards", median_of(costs, lambda one: one.to_shards)),
        ("stages, to survivors", median_of(costs, lambda one: one.to_survivors)),
    ):
        print(f"    {label:28} {seconds:8.2f} CPU s {size / seconds:8.1f} MB/s a core")
    for stage in costs[0].stages:
        print(f"        {stage:64.64} {median_of(costs, lambda one, of=stage: one.stages[of]):8.2f} CPU s")


def beside_datatrove(
    corpus: Path, folder: Path, python: Path, count: int, runs: int, ours: float
) -> list[Figure]:
    """Both over one sample; datatrove also over one record, so that its start can be left out.

    `ours`: MB/s over the whole corpus; a sample that datatrove ends in minutes is too short to time ours
    without its start.
    """
    table = documents(corpus, count, COLUMNS)
    size = megabytes(table)
    sample = write_parquet(table, folder / "sample.parquet")
    one = write_parquet(table.slice(0, 1), folder / "one.parquet")
    contenders: dict[str, Callable[[], float]] = {
        "thresher": partial(from_nothing, lambda at: command(PARQUET, sample, at).cpu),
        "datatrove": partial(from_nothing, lambda at: datatrove(python, sample, at)),
        "datatrove, one record": partial(from_nothing, lambda at: datatrove(python, one, at)),
    }
    seconds = {name: statistics.median(all_) for name, all_ in alternate(contenders, runs).items()}
    print(f"Parquet to Parquet beside datatrove, {len(table)} documents, {size:.2f} MB")
    for name, spent in seconds.items():
        print(f"    {name:24} command {spent:8.2f} CPU s")
    commands = seconds["datatrove"] / seconds["thresher"]
    theirs = size / (seconds["datatrove"] - seconds["datatrove, one record"])
    print(
        f"    datatrove without its start {theirs:.2f} MB/s a core, thresher (above) {ours:.1f} MB/s a core"
    )
    print(f"    ratio: commands {commands:.1f}, rates {ours / theirs:.1f}")
    return [
        Figure(f"filters job: datatrove's command / ours, {size:.0f} MB", commands, "x"),
        Figure("filters job: our rate / datatrove's", ours / theirs, "x"),
    ]


def starting() -> list[Figure]:
    """`thresher --help`, and a job of one record with the cache of compiled kernels empty, then full."""
    wall = statistics.median(process_tree.measure([str(COMMAND), "--help"]).wall for _ in range(HELP_RUNS))
    with tempfile.TemporaryDirectory() as cache:
        environment = {"THRESHER_CACHE": cache}
        usages, states = [], []
        for _ in range(2):
            with tempfile.TemporaryDirectory() as folder:
                usages.append(start(JSON_LINES, Path(folder), environment))
            files = [path for path in Path(cache).rglob("*") if path.is_file()]
            states.append({path: path.stat().st_mtime_ns for path in files})
    first, second = usages
    written = len(states[1].items() - states[0].items())
    print("starting")
    print(f"    thresher --help              {wall:8.3f} s of wall time")
    for name, usage in (("empty cache of kernels", first), ("second process", second)):
        print(f"    one record, {name:24} {usage.cpu:8.2f} CPU s {usage.wall:8.2f} s of wall time")
    print(f"    files of compiled code: {len(states[0])}; written by the second process: {written}")
    return [
        Figure("thresher --help, wall time", wall, "s", 0.4, at_most=True),
        Figure("one record, kernels compiled before, wall time", second.wall, "s"),
        Figure("kernels that a second process compiles", written, "files", 0, at_most=True),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--all", type=int, help="documents that ours runs over; all if left out")
    parser.add_argument("--documents", type=int, default=1000, help="documents that both run over")
    parser.add_argument("--peer-python", type=Path, help="a Python that has datatrove")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs")
    add_option(parser)
    options = parser.parse_args()
    found = starting()
    with tempfile.TemporaryDirectory() as folder:
        found += whole_corpus(options.corpus, Path(folder), options.all, options.runs)
        if options.peer_python:
            found += beside_datatrove(
                options.corpus,
                Path(folder),
                options.peer_python,
                options.documents,
                options.runs,
                found[-1].value,
            )
    save(found, options.figures)


if __name__ == "__main__":
    main()
