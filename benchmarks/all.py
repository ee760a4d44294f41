"""Every benchmark, one after the other, and a table of their figures at the end.

    python benchmarks/all.py --corpus DIR [--peer-python PYTHON] [--quick] [--only minhash commands]

`--quick` takes samples, in under five minutes: too short for figures to quote, long enough to see that
everything runs. A target that is not met is said; the exit status is 1 only where a benchmark failed.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from figures import NOT_RUN, Figure, add_option, load, save, table

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Benchmark:
    """A script of this folder, and what it is told."""

    name: str
    quick: tuple[str, ...] = ()  # options that make it short
    corpus: str | None = "--corpus"  # how it is told the corpus
    source: str = "."  # what of the corpus
    peers: bool | None = None  # None: takes none; False: runs without them; True: needs them
    alternates: bool = False  # whether it takes the number of alternating runs
    of_images: bool = False  # whether its peers are those of images, in an environment of their own


BENCHMARKS = (
    Benchmark("filters", quick=("--documents", "4000", "--sample", "60"), peers=False, alternates=True),
    Benchmark(
        "minhash",
        quick=("--documents", "4000", "--slow-documents", "100", "--seeds", "4"),
        peers=False,
        alternates=True,
    ),
    Benchmark("exact", quick=("--documents", "4000"), alternates=True),
    Benchmark("growth", quick=("--pages", "200", "--sizes", "1", "2")),
    Benchmark("engines", quick=("--pages", "100", "--engines", "local-1", "beam"), alternates=True),
    Benchmark("commands", quick=("--all", "4000", "--documents", "60"), peers=False, alternates=True),
    Benchmark("warc", quick=("--limit", "300", "--rounds", "3"), corpus="--pages", source="html_paths.txt"),
    Benchmark("extraction", corpus=None),
    Benchmark("scoring", quick=("--documents", "1000")),
    Benchmark("agreement", quick=("--documents", "60"), peers=True),
    Benchmark("embeddings", quick=("--quick",), corpus=None, alternates=True),
    Benchmark("dsir", quick=("--documents", "4000", "--sample", "200"), peers=False, alternates=True),
    Benchmark("language_models", quick=("--documents", "12", "--lines", "200"), alternates=True),
    Benchmark("selection", quick=("--quick",)),
    Benchmark("clip", quick=("--quick",), corpus=None, alternates=True),
    Benchmark("images", quick=("--quick",), corpus=None, peers=False, alternates=True, of_images=True),
)


def run(benchmark: Benchmark, corpus: Path, peers: Path | None, runs: int | None) -> list[Figure] | None:
    """The figures of one benchmark, none where its data is not there; None where it failed.

    `runs`: how often contenders alternate; None: once, over samples.
    """
    command = [sys.executable, str(HERE / f"{benchmark.name}.py")]
    if benchmark.corpus:
        command += [benchmark.corpus, str(corpus / benchmark.source)]
    if peers is not None and benchmark.peers is not None:
        command += ["--peer-python", str(peers)]
    if runs is None:
        command += benchmark.quick
    if benchmark.alternates:
        command += ["--runs", str(runs or 1)]
    with tempfile.TemporaryDirectory() as folder:
        left = Path(folder) / "figures.json"
        status = subprocess.run([*command, "--figures", str(left)], check=False).returncode
        if status == NOT_RUN:
            return []
        return None if status else load(left)


def machine() -> str:
    """Where the figures come from."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    load_now = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores, {model}; load {load_now}; Python {platform.python_version()}"


def main() -> None:
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="what corpus.py has built")
    parser.add_argument(
        "--peer-python", type=Path, help="the Python of peers/setup.py; without it, ours alone"
    )
    parser.add_argument("--image-peer-python", type=Path, help="the same of images_requirements.txt")
    parser.add_argument("--quick", action="store_true", help="samples")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    add_option(parser)
    options = parser.parse_args()
    found: list[Figure] = []
    failed: list[str] = []
    print(machine(), flush=True)
    for benchmark in BENCHMARKS:
        if benchmark.name not in options.only or (benchmark.peers and options.peer_python is None):
            continue
        print(f"\n{benchmark.name}", flush=True)
        began = time.monotonic()
        peers = options.image_peer_python if benchmark.of_images else options.peer_python
        figures = run(benchmark, options.corpus, peers, None if options.quick else options.runs)
        print(f"({time.monotonic() - began:.0f} s)", flush=True)
        if figures is None:
            failed.append(benchmark.name)
        else:
            found += figures
    print(f"\n{machine()}\n{table(found)}")
    if options.quick:
        print("These are samples: what an input costs however small it is weighs too much for the targets.")
    save(found, options.figures)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
