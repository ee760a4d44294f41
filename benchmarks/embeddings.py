"""Semantic dedup beside bare faiss k-means with the products, and the recall of what is not compared.

    python benchmarks/embeddings.py [--quick] [--records 100000] [--clusters 1000] [--runs 3]

Embeddings of 512 numbers, a fifth of them planted near others at cosines from 0.6 to 1, as a scorer has left
them: committed parts on the disk. Ours is the whole step over these parts: sample, centroids,
exchange, products, ledger and survivors, all read, synced and committed. Beside it: faiss' spherical k-means
of as many rounds and records, the nearest centroid of each record, and for each cluster the products and
their maxima, in memory throughout. CPU seconds are those of one process and one thread, without loading
libraries and compiled kernels; wall time is that of a worker for each core, against faiss on all of them.
Recall is that of pairs of a sample of the records, each compared with all.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from figures import Figure, add_option, save
from stages import SynchronousEngine
from thresher.filters.embeddings.matrix import column_of
from thresher.pipeline.commit import PartOutput
from thresher.pipeline.compiled import CorpusStep
from thresher.pipeline.driver import Driver, layer_of
from thresher.pipeline.engines.local import LocalEngine
from thresher.pipeline.neighbours import compile_neighbours
from thresher.pipeline.semantic import compile_semantic
from thresher.pipeline.stage import PartRef, Parts
from thresher.pipeline.store import RunLock
from thresher.schemas.dedup import Neighbours, Semantic
from thresher.schemas.progress import Silent

DIMENSIONS = 512
PARTS = 8
BATCH_ROWS = 8192
THRESHOLD = 0.95
ROUNDS = 20
SAMPLED = 5000  # records whose neighbours are sought among all
CORES = len(os.sched_getaffinity(0))

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Taken:
    """What one run took, and how many records it found to go."""

    cpu: float
    wall: float
    gone: int
    stages: dict[str, float]


def unit(matrix: Matrix) -> Matrix:
    return np.asarray(matrix / np.linalg.norm(matrix, axis=1, keepdims=True), np.float32)


def embeddings(count: int, seed: int = 0) -> Matrix:
    """Directions without groups, of which a fifth are planted near another one.

    The variance of axis i is i**-0.85, as spectra of embeddings fall off; by chance alone few are nearer than
    a cosine of 0.6.
    """
    random = np.random.default_rng(seed)
    spread = np.arange(1, DIMENSIONS + 1, dtype=np.float32) ** np.float32(-0.425)
    rows = unit(random.standard_normal((count, DIMENSIONS), np.float32) * spread)
    planted = count // 5
    cosine = random.uniform(0.6, 1, (planted, 1)).astype(np.float32)
    of = rows[:planted]
    noise = random.standard_normal((planted, DIMENSIONS), np.float32) * spread
    noise = unit(noise - (noise * of).sum(axis=1, keepdims=True) * of)
    rows[-planted:] = cosine * of + np.sqrt(1 - cosine**2) * noise
    return np.asarray(rows[random.permutation(count)].astype(np.float16), np.float32)


def each_part(count: int) -> int:
    return -(-count // PARTS)


def commit_parts(matrix: Matrix, folder: Path) -> Parts:
    """The embeddings as the column `e` of committed parts."""
    parts = []
    for number in range(PARTS):
        mine = matrix[number * each_part(len(matrix)) : (number + 1) * each_part(len(matrix))]
        out = PartOutput(folder, number, "bench")
        for start in range(0, len(mine), BATCH_ROWS):
            some = mine[start : start + BATCH_ROWS]
            rows = np.arange(start, start + len(some), dtype=np.uint64) + np.uint64(number << 32)
            columns = {
                "position": pa.array(rows),
                "id": rows.astype(str).tolist(),
                "source": pa.repeat("embeddings", len(some)),
                "e": column_of(some),
            }
            out.emit("records", pa.RecordBatch.from_pydict(columns))
        committed = out.commit(len(mine), 0)
        stream = committed.streams["records"]
        parts.append(PartRef(number, (layer_of(committed, "records"),), bytes=stream.bytes, rows=stream.rows))
    return tuple(parts)


@contextmanager
def driver(make: Callable[[], CorpusStep], workers: int) -> Iterator[tuple[Path, Driver]]:
    """A work folder and what runs stages in it: without `workers` in this process.

    A step over a few records has been run already, so that libraries and kernels are loaded.
    """
    folder = Path(tempfile.mkdtemp())
    lock = RunLock(folder)
    engine: Any = (LocalEngine if workers else SynchronousEngine)(workers, lock.run)
    try:
        (folder / "few").mkdir()
        make().run(Driver(folder / "few", engine, lock, Silent()), commit_parts(embeddings(200), folder))
        SynchronousEngine.seconds.clear()
        yield folder, Driver(folder, engine, lock, Silent())
    finally:
        engine.close()
        lock.close()
        shutil.rmtree(folder)


def semantic(clusters: int) -> CorpusStep:
    options = Semantic(of="e", threshold=THRESHOLD, clusters=clusters, iterations=ROUNDS)
    return compile_semantic("dedup:semantic", "dedup_0_", options, 0)


def ours(source: Path, clusters: int, workers: int) -> Taken:
    """Our step over committed parts."""
    parts = commit_parts(np.load(source / "embeddings.npy"), Path(tempfile.mkdtemp(dir=source)))
    with driver(lambda: semantic(2), workers) as (_, runs):
        began, wall = time.process_time(), time.perf_counter()
        left = semantic(clusters).run(runs, parts)
        taken = time.process_time() - began, time.perf_counter() - wall
        kept = sum(pq.read_metadata(part.layers[-1].path).num_rows for part in left)
    return Taken(*taken, sum(part.rows for part in parts) - kept, dict(SynchronousEngine.seconds))


def bare(source: Path, clusters: int, threads: int) -> Taken:
    """faiss' k-means, and numpy's products of each cluster."""
    import faiss

    matrix = np.load(source / "embeddings.npy")
    faiss.omp_set_num_threads(threads)
    faiss.Kmeans(DIMENSIONS, 2, niter=1, spherical=True).train(matrix[:200])
    began, wall = time.process_time(), time.perf_counter()
    rows = unit(matrix)
    kmeans = faiss.Kmeans(
        DIMENSIONS, clusters, niter=ROUNDS, spherical=True, max_points_per_centroid=256, seed=1
    )
    kmeans.train(rows)
    nearness, numbers = kmeans.index.search(rows, 1)
    found = {"k-means": time.process_time() - began}
    order = np.lexsort((nearness[:, 0], numbers[:, 0]))
    gone = 0
    for mine in np.split(order, np.flatnonzero(np.diff(numbers[order, 0])) + 1):
        members = rows[mine]
        gone += int((np.triu(members @ members.T, 1).max(axis=0) > THRESHOLD).sum())
    return Taken(time.process_time() - began, time.perf_counter() - wall, gone, found)


def apart(kind: str, source: Path, clusters: int, workers: int, threads: int) -> Taken:
    """One of these in a process of its own, whose libraries have so many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    number = threads if kind == "bare" else workers
    command = [sys.executable, __file__, "--one", kind, str(source), str(clusters), str(number)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{kind}: {result.stderr}")
    return Taken(**json.loads(result.stdout.splitlines()[-1]))


def compare(source: Path, clusters: int, runs: int) -> list[Figure]:
    """Both in alternating runs."""
    alone: dict[str, list[Taken]] = {"ours": [], "bare": []}
    together: dict[str, list[Taken]] = {"ours": [], "bare": []}
    for _ in range(runs):
        for kind in alone:
            alone[kind].append(apart(kind, source, clusters, 0, 1))
            workers, threads = (CORES, 1) if kind == "ours" else (0, CORES)
            together[kind].append(apart(kind, source, clusters, workers, threads))
    cpu = {kind: statistics.median(one.cpu for one in taken) for kind, taken in alone.items()}
    wall = {kind: statistics.median(one.wall for one in taken) for kind, taken in together.items()}
    for kind in alone:
        print(
            f"{kind:6} {cpu[kind]:7.1f} CPU s on one thread, {wall[kind]:6.1f} s on {CORES} cores, "
            f"{alone[kind][0].gone} records go"
        )
        for stage, seconds in alone[kind][0].stages.items():
            print(f"    {stage:40} {seconds:7.2f} CPU s")
    of = f"semantic dedup, {clusters:,} clusters: ours / bare faiss k-means and products"
    return [
        Figure(f"{of}, CPU", cpu["ours"] / cpu["bare"], "x", 1.3, at_most=True),
        Figure(f"{of}, wall time", wall["ours"] / wall["bare"], "x", 1.3, at_most=True),
    ]


def row_of(positions: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.int64]:
    """The rows of the matrix that these positions are of."""
    low = positions & np.uint64(0xFFFFFFFF)
    return ((positions >> np.uint64(32)) * np.uint64(each_part(count)) + low).astype(np.int64)


def boundary_recall(matrix: Matrix, parts: Parts, exact: list[npt.NDArray[np.int64]]) -> list[Figure]:
    """How many of the pairs above the threshold are in one cluster, with as many clusters as by default."""
    from thresher.filters.embeddings.kmeans import assign

    with driver(lambda: semantic(2), 0) as (folder, runs):
        semantic(max(1, len(matrix) // 1000)).run(runs, parts)
        (path,) = folder.glob("stages/*-centroids-*/*.centroids-1.*.npy")
        numbers, _ = assign(matrix, np.load(path), "cosine")
    pairs = sum(map(len, exact))
    met = sum(int((numbers[others] == numbers[row]).sum()) for row, others in enumerate(exact))
    print(f"{pairs} pairs above {THRESHOLD}, of which {met} are in one cluster of some 1,000")
    return [Figure(f"semantic dedup: recall of pairs above {THRESHOLD} across clusters", met / pairs, "")]


def neighbours_recall(matrix: Matrix, parts: Parts, exact: list[npt.NDArray[np.int64]]) -> list[Figure]:
    """How many of the nearest neighbours at the published setting are joined."""
    options = Neighbours(of="e")
    step = compile_neighbours("dedup:neighbours", "dedup_0_", options, 0)
    with driver(lambda: step, 0) as (folder, runs):
        began = time.process_time()
        step.run(runs, parts)
        seconds = time.process_time() - began
        spent = dict(SynchronousEngine.seconds)
        files = sorted(folder.glob("stages/*-nearest-*/*.edges.*.parquet"))
        edges = pa.concat_tables(pq.read_table(file) for file in files)
    ends = [row_of(edges.column(side).to_numpy(), len(matrix)) for side in range(2)]
    joined = set(zip(*(end.tolist() for end in ends), strict=True))
    joined |= {(other, one) for one, other in joined}
    pairs = sum(map(len, exact))
    met = sum((row, other) in joined for row, others in enumerate(exact) for other in others.tolist())
    print(f"neighbours: {seconds:.1f} CPU s, {met} of {pairs} exact nearest neighbours are joined")
    for stage, taken in spent.items():
        print(f"    {stage:40} {taken:7.2f} CPU s")
    return [
        Figure(
            f"neighbours: recall of the {options.k} nearest above {options.min_similarity}", met / pairs, ""
        ),
        Figure("neighbours: whole step", len(matrix) / seconds, "records/s"),
    ]


def exact_neighbours(matrix: Matrix, k: int, bar: float) -> list[npt.NDArray[np.int64]]:
    """For each of the first records the nearest others, at most `k`, with a cosine above `bar`."""
    rows = unit(matrix)
    found = []
    for start in range(0, SAMPLED, 100):
        cosines = rows[start : start + 100] @ rows.T
        for row, line in enumerate(cosines, start):
            line[row] = -2
            near = np.flatnonzero(line > bar)
            found.append(near[np.argsort(-line[near], kind="stable")[:k]])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--clusters", type=int, default=1000, help="of semantic dedup beside faiss")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs")
    parser.add_argument("--quick", action="store_true", help="20,000 records, 200 clusters, one run")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    add_option(parser)
    options = parser.parse_args()
    if options.one:
        kind, source, clusters, number = options.one
        taken = (ours if kind == "ours" else bare)(Path(source), int(clusters), int(number))
        print(json.dumps(asdict(taken)))
        return
    if options.quick:
        options.records, options.clusters, options.runs = 20_000, 200, 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        matrix = embeddings(options.records)
        np.save(folder / "embeddings.npy", matrix)
        found = compare(folder, options.clusters, options.runs)
        parts = commit_parts(matrix, folder / "parts")
        near = exact_neighbours(matrix, len(matrix), THRESHOLD)
        found += boundary_recall(matrix, parts, near)
        found += neighbours_recall(matrix, parts, exact_neighbours(matrix, 64, 0.6))
    save(found, options.figures)


if __name__ == "__main__":
    main()
