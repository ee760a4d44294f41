"""How CPU time and memory of a whole recipe grow with the crawl: WARC to Parquet at 1, 2, 4 and 8 times.

    python benchmarks/growth.py --corpus DIR                                  # the recipe as it is
    python benchmarks/growth.py --corpus DIR --set steps.0.extract=hybrid     # with another extractor

The crawl is made of the corpus: its HTML files as they are, its manual pages and texts as pages of a site
with menu and footer. No two pages of the largest crawl are the same, and smaller crawls are its first pages.
CPU seconds are those of all processes of the run. The exponent is the slope of their logarithms, less what a
run over a page for each worker takes, over the logarithms of the pages (least squares). Memory is that of the
process tree, where shared pages count once, looked at five times a second.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import process_tree
import pyarrow.compute as pc
import pyarrow.parquet as pq
from figures import Figure, add_option, save
from warc import content, write_warc

FILES = 8  # of the smallest crawl
PLANTED = "d"  # what the ids of planted copies begin with
SEED = 20260101
RECIPES = Path(__file__).resolve().parent.parent / "jobs" / "recipes"
MOST_EXPONENT, LEAST_SECONDS, MOST_BYTES = 1.05, 60, 1.5e9
SITE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<link rel="stylesheet" href="/style.css"><script>window.page = {{"section": "reference"}};</script></head>
<body><header><a href="/">Reference</a><nav><ul>{menu}</ul></nav></header>
<main><article><h1>{title}</h1>
{body}
</article></main>
<aside><h2>See also</h2><ul>{menu}</ul></aside>
<footer><p>Contents | Index | Terms of use | Report a problem</p></footer></body></html>
"""
MENU = "".join(
    f'<li><a href="/{name}/">{name.title()}</a></li>' for name in ("guides", "tools", "news", "faq")
)


def pages(corpus: Path, count: int) -> Iterator[tuple[str, bytes]]:
    """Address and HTML of so many pages of a corpus, no two the same, in a fixed random order."""
    unpacked = corpus / "deb" / "x"
    table = pq.read_table(corpus / "docs.parquet", columns=["id", "text", "source", "url"])
    texts = table.filter((pc.field("source") != "html") & ~pc.starts_with(pc.field("id"), PLANTED))
    sources: list[Path | int] = [path for path in sorted(unpacked.rglob("*.htm*")) if _fits(path)]
    sources += range(len(texts))
    random.Random(SEED).shuffle(sources)
    seen: set[bytes] = set()
    for source in sources:
        if isinstance(source, Path):
            url, body = f"https://docs.example.org/{source.relative_to(unpacked)}", content(source)
        else:
            row = texts.slice(source, 1).to_pylist()[0]
            url, body = row["url"], page_of(row["url"].rpartition("/")[2], row["text"])
        digest = hashlib.md5(body).digest()
        if digest not in seen:
            if len(seen) == count:
                return
            seen.add(digest)
            yield url, body
    if len(seen) < count:
        raise SystemExit(f"the corpus has {len(seen)} pages; {count} are needed")


def _fits(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and 2000 < path.stat().st_size < 500_000


def page_of(title: str, text: str) -> bytes:
    """A page of a site that has a text as its article."""
    blocks = [block.strip() for block in text.split("\n\n")]
    body = "\n".join(f"<p>{html.escape(block)}</p>" for block in blocks if block)
    return SITE.format(title=html.escape(title), menu=MENU, body=body).encode()


def write_crawl(corpus: Path, folder: Path, count: int, each: int) -> list[Path]:
    """The WARC files of so many pages, `each` in one."""
    files = []
    source = pages(corpus, count)
    for first in range(0, count, each):
        files.append(folder / f"crawl-{first // each:04d}.warc.gz")
        write_warc(islice(source, each), files[-1], first + 1)
    return files


class Clock:
    """Hears the stages of a job, and asks for the CPU seconds of its processes where one ends."""

    def __init__(self) -> None:
        self.stages: defaultdict[str, float] = defaultdict(float)
        self.pid = os.getpid()
        self.last = process_tree.cpu_seconds(self.pid)

    def lap(self, name: str) -> None:
        """What was used since the last lap belongs to `name`."""
        now = process_tree.cpu_seconds(self.pid)
        self.stages[name] += now - self.last
        self.last = now

    def stage_started(self, name: str, tasks: int, done: int, bytes: int) -> None:
        self.lap("driver")

    def task_done(self, name: str, records_in: int, records_out: int, bytes: int) -> None: ...

    def stage_finished(self, name: str) -> None:
        self.lap(name)

    def note(self, message: str) -> None: ...


def run_one(job: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Runs a job in this process and its workers: CPU seconds of each stage, records in and out."""
    import thresher

    clock = Clock()
    result = thresher.run(thresher.load(job, overrides), listener=clock)
    clock.lap("driver")
    totals = result.totals
    return {"stages": dict(clock.stages), "in": totals["in"], "written": totals["written"]}


@dataclass(frozen=True)
class Run:
    """What a run over some pages took."""

    pages: int
    bytes: int
    cpu: float
    wall: float
    tree: int
    largest: int
    stages: dict[str, float]
    written: int


def measure(recipe: Path, files: Sequence[Path], options: argparse.Namespace, part: int) -> Run:
    """Runs the recipe over WARC files as a command of its own, in a folder that goes away."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        (folder / "crawl").mkdir()
        for file in files:
            (folder / "crawl" / file.name).symlink_to(file)
        overrides = [
            f"input.0.path={folder / 'crawl'}/*.warc.gz",
            f"output.path={folder / 'out'}",
            f"run.workers={options.workers}",
            f"run.part={part}",
            *options.overrides,
        ]
        sets = [word for override in overrides for word in ("--set", override)]
        command = [sys.executable, str(Path(__file__).resolve()), "--one", str(recipe), *sets]
        usage = process_tree.measure(command, sampled=True)
    found = json.loads(usage.output.splitlines()[-1])
    print(
        f"{found['in']} pages, {usage.cpu:.1f} CPU s, {usage.tree / 1e6:.0f} MB", file=sys.stderr, flush=True
    )
    size = sum(file.stat().st_size for file in files)
    return Run(
        found["in"], size, usage.cpu, usage.wall, usage.tree, usage.peak, found["stages"], found["written"]
    )


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log(seconds) over log(sizes), by least squares."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in seconds]
    return statistics.linear_regression(x, y).slope


def median_run(runs: Sequence[Run]) -> Run:
    """The run that took the median of the CPU seconds (the lower of two)."""
    return sorted(runs, key=lambda run: run.cpu)[(len(runs) - 1) // 2]


def show(runs: Sequence[Run], start: Run) -> None:
    """A line for each size, then CPU seconds and growth of each stage; the start is left out of both."""
    print(
        f"{'pages':>8} {'WARC MB':>8} {'CPU s':>8} {'less start':>10} {'wall s':>7} {'written':>8} "
        f"{'MB in all':>9} {'MB in one':>9}"
    )
    for run in (start, *runs):
        less = run.cpu - start.cpu
        print(
            f"{run.pages:8} {run.bytes / 1e6:8.1f} {run.cpu:8.1f} {less:10.1f} {run.wall:7.0f} "
            f"{run.written:8} {run.tree / 1e6:9.0f} {run.largest / 1e6:9.0f}"
        )
    print(f"\n{'stage':44} " + " ".join(f"{run.pages:8}" for run in runs) + "    share  exponent")
    all_ = sum(runs[-1].stages.values()) - sum(start.stages.values())
    for stage in runs[-1].stages:
        less = [run.stages.get(stage, 0) - start.stages.get(stage, 0) for run in runs]
        # Hundredths of a second are the clock's own.
        slope = f"{exponent([r.pages for r in runs], less):9.2f}" if min(less) > 0.1 and len(less) > 1 else ""
        print(
            f"{stage:44.44} "
            + " ".join(f"{value:8.2f}" for value in less)
            + f" {less[-1] / all_:8.1%} {slope}".rstrip()
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, help="what corpus.py has built")
    parser.add_argument("--recipe", default="fineweb", help="the name of a recipe")
    parser.add_argument("--pages", type=int, default=6000, help="of the smallest crawl")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8], help="times the smallest")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--part", type=int, default=8 << 20, help="bytes of WARC that a task reads")
    parser.add_argument("--runs", type=int, default=1, help="how often each size is run; medians count")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="a value of the job")
    parser.add_argument("--folder", type=Path, help="where crawls and runs are; needs as much as the crawls")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    add_option(parser)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(options.one, options.overrides)))
        return
    recipe = RECIPES / f"{options.recipe}.yaml"
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        save(compare(recipe, Path(name), options), options.figures)


def compare(recipe: Path, folder: Path, options: argparse.Namespace) -> list[Figure]:
    """Runs every size and prints what it took."""
    began = time.monotonic()
    sizes = sorted(set(options.sizes))
    each = -(-options.pages // FILES)
    files = write_crawl(options.corpus, folder, each * FILES * sizes[-1], each)
    (folder / "start").mkdir()
    few = write_crawl(options.corpus, folder / "start", options.workers, 1)
    largest = max(file.stat().st_size for file in few)  # so that each is a part
    runs: dict[int, list[Run]] = {size: [] for size in sizes}
    starts = []
    measure(recipe, few, options, largest)  # compiles what is not compiled yet
    for _ in range(options.runs):
        starts.append(measure(recipe, few, options, largest))
        for size in sizes:
            runs[size].append(measure(recipe, files[: FILES * size], options, options.part))
    medians, start = [median_run(runs[size]) for size in sizes], median_run(starts)
    what = " ".join([options.recipe, *options.overrides])
    print(
        f"{what}: {options.workers} workers, parts of {options.part} bytes, runs of each size: {options.runs}"
    )
    show(medians, start)
    slope = exponent([run.pages for run in medians], [run.cpu - start.cpu for run in medians])
    peak = max(run.tree for of_size in runs.values() for run in of_size)
    print(f"\nexponent {slope:.3f} (at most {MOST_EXPONENT}); {time.monotonic() - began:.0f} s in all")
    return [
        Figure(f"growth of {what}: CPU s at the smallest size", medians[0].cpu, "CPU s", LEAST_SECONDS),
        Figure(f"growth of {what}: exponent", slope, "", MOST_EXPONENT, at_most=True),
        Figure(f"growth of {what}: peak memory of all", peak / 1e6, "MB", MOST_BYTES / 1e6, at_most=True),
    ]


if __name__ == "__main__":
    main()
