"""Image-text jobs: downloads beside img2dataset's, tar files, perceptual hashes and their join, growth.

    python benchmarks/images.py [--peer-python PYTHON] [--only downloads tars hashing join growth] [--quick]

Pictures are drawn from a seed. Both downloaders fetch the same JPEGs of about 98 kB from one server on
loopback, which is measured with neither, and write shards of 256 pixels; CPU seconds are those of the process
tree, medians of alternating runs, memory that of the tree (see process_tree.py). The rest is measured in one
process, but for the join and for growth, whose stages have workers. `--quick` takes samples.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import growth
import hamming_join
import image_parts
import pictures
import process_tree
import pyarrow as pa
import pyarrow.parquet as pq
from figures import Figure, add_option, save

from jobs import COMMAND, alternate

HERE = Path(__file__).parent
SIDE = 256
# Whoever imports albumentations asks the network for a newer version of it, but for this.
QUIET = {"NO_ALBUMENTATIONS_UPDATE": "1"}
PART = 4 << 20  # bytes of input of a task, so that the smallest job has some for each worker
MOST_CPU, MOST_MEMORY = 0.5, 0.2  # of img2dataset's

Counted = tuple[process_tree.Usage, int]  # and the pictures that came through


def job(source: Path, format: str, steps: Sequence[Mapping[str, Any]], folder: Path, **run: Any) -> Path:
    """A job file with one worker, or what else `run` says; output and work go into `folder`."""
    columns = {"columns": {"url": "URL", "caption": "TEXT"}} if format == "urls" else {}
    described = {
        "name": "benchmark",
        "modality": "image-text",
        "input": [{"path": str(source), "format": format, **columns}],
        "steps": list(steps),
        "output": {"path": str(folder / "out"), "format": "webdataset"},
        "run": {"workers": 1, "work": str(folder / "work"), **run},
    }
    path = folder / "job.yaml"
    path.write_text(json.dumps(described), encoding="utf-8")
    return path


def download(source: Path, threads: int) -> Counted:
    """Ours, with one worker."""
    steps = [
        {"download": {"concurrency": threads, "per_host": threads, "allow": ["127.0.0.1"]}},
        {"resize": {"mode": "keep_ratio", "size": SIDE}},
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [str(COMMAND), "run", str(job(source, "urls", steps, folder)), "--quiet"]
        usage = process_tree.measure(command, sampled=True)
        manifest = json.loads((folder / "out" / "manifest.json").read_text(encoding="utf-8"))
    return usage, manifest["totals"]["kept"]


def img2dataset(python: Path, source: Path, threads: int) -> Counted:
    """img2dataset with one process."""
    script = HERE / "peers" / "images_img2dataset.py"
    with tempfile.TemporaryDirectory() as name:
        command = [str(python), str(script), str(source), f"{name}/out", str(threads), str(SIDE)]
        usage = process_tree.measure(command, QUIET, sampled=True)
    return usage, int(usage.output.split()[-1])


def downloads(folder: Path, options: argparse.Namespace) -> list[Figure]:
    """From addresses to shards, beside img2dataset where its Python is given."""
    pictures.draw(folder / "served", distinct=options.distinct)
    size = statistics.mean(path.stat().st_size for path in (folder / "served").iterdir()) / 1e3
    with pictures.serving(folder / "served") as address:
        lists = {}
        for count in (1, options.pictures):
            lists[count] = folder / f"{count}.parquet"
            urls = [f"{address}/{number}.jpg" for number in range(count)]
            captions = [pictures.caption(number) for number in range(count)]
            pq.write_table(pa.table({"URL": urls, "TEXT": captions}), lists[count])
        contenders: dict[str, Callable[[], Counted]] = {}
        for count, source in lists.items():
            contenders[f"thresher, {count}"] = partial(download, source, options.threads)
            if options.peer_python:
                contenders[f"img2dataset, {count}"] = partial(
                    img2dataset, options.peer_python, source, options.threads
                )
        download(lists[1], options.threads)  # compiles what is not compiled yet
        found = alternate(contenders, options.runs)
    print(f"{options.pictures} addresses, {size:.0f} kB each, to {SIDE} pixels, {options.threads} at a time")
    cpu, memory = {}, {}
    for name, counted in found.items():
        cpu[name] = statistics.median(usage.cpu for usage, _ in counted)
        memory[name] = statistics.median(usage.tree for usage, _ in counted)
        wall = statistics.median(usage.wall for usage, _ in counted)
        successes = {count for _, count in counted}
        print(
            f"    {name:24} {cpu[name]:8.2f} CPU s {wall:8.2f} s of wall time {memory[name] / 1e6:6.0f} MB, "
            f"successes {', '.join(map(str, sorted(successes)))}"
        )
    ours, ours_one = (f"thresher, {count}" for count in (options.pictures, 1))
    each = (cpu[ours] - cpu[ours_one]) / (options.pictures - 1) * 1e3
    figures = [
        Figure("download and resize, without the start", each, "CPU ms"),
        Figure("download and resize: memory of all processes", memory[ours] / 1e6, "MB"),
    ]
    if options.peer_python:
        figures += _beside(found, cpu, memory, options.pictures)
    return figures


def _beside(
    found: Mapping[str, Sequence[Counted]], cpu: Mapping[str, float], memory: Mapping[str, float], count: int
) -> list[Figure]:
    ours, ours_one, theirs, theirs_one = (
        f"{name}, {number}" for name in ("thresher", "img2dataset") for number in (count, 1)
    )
    missed = statistics.median(done for _, done in found[theirs]) - statistics.median(
        done for _, done in found[ours]
    )
    steady = (cpu[ours] - cpu[ours_one]) / (cpu[theirs] - cpu[theirs_one])
    what = "download and resize: "
    return [
        Figure(f"{what}our CPU / img2dataset's", cpu[ours] / cpu[theirs], "x", MOST_CPU, at_most=True),
        Figure(f"{what}the same without starting", steady, "x", MOST_CPU, at_most=True),
        Figure(
            f"{what}our memory / img2dataset's", memory[ours] / memory[theirs], "x", MOST_MEMORY, at_most=True
        ),
        Figure(f"{what}successes that only img2dataset has", missed, "pictures", 0, at_most=True),
    ]


def tars(folder: Path, options: argparse.Namespace) -> list[Figure]:
    """Reading and writing shards."""
    small = pictures.draw(folder / "small", SIDE, options.distinct)
    each = -(-options.samples // 4)
    shards = pictures.write_tars(pictures.repeated(small), folder / "tars", options.samples, each)
    return image_parts.tars(shards, options.runs)


def hashing(folder: Path, options: argparse.Namespace) -> list[Figure]:
    """The perceptual hash."""
    small = pictures.draw(folder / "small", SIDE, options.distinct)
    return image_parts.hashing(small, options.hashed, options.runs)


def join(folder: Path, options: argparse.Namespace) -> list[Figure]:
    """The Hamming join: of a sample against all pairs, and of many as a process of its own."""
    hamming_join.check_join()
    command = [sys.executable, str(HERE / "hamming_join.py"), str(options.hashes), str(options.workers)]
    usage = process_tree.measure(command, sampled=True)
    edges, together, planted = map(int, usage.output.split())
    print(
        f"Hamming join of {options.hashes} hashes within {hamming_join.RADIUS} bits, "
        f"{options.workers} workers"
    )
    print(
        f"    {usage.cpu:.1f} CPU s, {usage.wall:.1f} s of wall time, {usage.tree / 1e6:.0f} MB, "
        f"{edges} edges"
    )
    return [
        Figure("Hamming join: CPU", usage.cpu, "CPU s"),
        Figure("Hamming join: memory of all processes", usage.tree / 1e6, "MB"),
        Figure("Hamming join: planted pairs missed", planted - together, "pairs", 0, at_most=True),
    ]


STEPS: list[dict[str, Any]] = [
    {"filter": "datacomp_basic"},
    {"resize": {"mode": "keep_ratio", "size": 224, "only_larger": True}},
    {"rule": "not near_uniform"},
    {"frequency": {"of": "text", "max": 10}},
    {"dedup": {"exact": {"on": "image"}}},
    {"dedup": {"perceptual": {"radius": 4}}},
]


def grown(shards: Sequence[Path], options: argparse.Namespace) -> growth.Run:
    """The whole job over some shards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for shard in shards:
            (folder / "in" / shard.name).symlink_to(shard)
        described = job(
            folder / "in" / "*.tar", "webdataset", STEPS, folder, workers=options.workers, part=PART
        )
        command = [sys.executable, str(HERE / "growth.py"), "--one", str(described)]
        usage = process_tree.measure(command, sampled=True)
    found = json.loads(usage.output.splitlines()[-1])
    size = sum(shard.stat().st_size for shard in shards)
    return growth.Run(
        found["in"], size, usage.cpu, usage.wall, usage.tree, usage.peak, found["stages"], found["written"]
    )


def growing(folder: Path, options: argparse.Namespace) -> list[Figure]:
    """CPU time and memory of a whole job over 1, 2, 4 and 8 times as many pairs."""
    sizes, files = sorted(set(options.sizes)), 4
    each = -(-options.pairs // files)
    shards = pictures.write_tars(pictures.crawled, folder / "grown", each * files * sizes[-1], each)
    few = pictures.write_tars(pictures.crawled, folder / "few", options.workers, 1)
    grown(few, options)  # compiles what is not compiled yet
    start = grown(few, options)
    runs = []
    for size in sizes:
        runs.append(grown(shards[: files * size], options))
        print(f"{runs[-1].pages} pairs, {runs[-1].cpu:.1f} CPU s", file=sys.stderr, flush=True)
    growth.show(runs, start)
    slope = growth.exponent([run.pages for run in runs], [run.cpu - start.cpu for run in runs])
    peak = max(run.tree for run in runs) / 1e6
    print(f"\nexponent {slope:.3f} (at most {growth.MOST_EXPONENT})")
    return [
        Figure("growth of an image-text job: exponent", slope, "", growth.MOST_EXPONENT, at_most=True),
        Figure("growth of an image-text job: peak memory", peak, "MB", growth.MOST_BYTES / 1e6, at_most=True),
    ]


PARTS: dict[str, Callable[[Path, argparse.Namespace], list[Figure]]] = {
    "downloads": downloads,
    "tars": tars,
    "hashing": hashing,
    "join": join,
    "growth": growing,
}
QUICK = {"pictures": 300, "distinct": 20, "samples": 1000, "hashed": 200, "hashes": 50_000, "pairs": 800}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", type=Path, help="a Python that has img2dataset")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--pictures", type=int, default=3000, help="that are downloaded")
    parser.add_argument("--distinct", type=int, default=200, help="of these and of samples, pictures drawn")
    parser.add_argument("--threads", type=int, default=64, help="downloads at a time, of both")
    parser.add_argument("--samples", type=int, default=8000, help="in tar files")
    parser.add_argument("--hashed", type=int, default=2000, help="pictures whose hash is taken")
    parser.add_argument("--hashes", type=int, default=1_000_000, help="that are joined")
    parser.add_argument("--pairs", type=int, default=3000, help="of the smallest job")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8], help="times the smallest")
    parser.add_argument("--workers", type=int, default=2, help="of the join and of growth")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs")
    parser.add_argument("--quick", action="store_true", help="samples")
    parser.add_argument("--folder", type=Path, help="where pictures are drawn and kept")
    add_option(parser)
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK, sizes=[1, 2])
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = []
        for name in options.only:
            began = time.monotonic()
            found += PARTS[name](folder, options)
            print(f"({name}: {time.monotonic() - began:.0f} s)\n", flush=True)
        save(found, options.figures)
    finally:
        if not options.folder:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
