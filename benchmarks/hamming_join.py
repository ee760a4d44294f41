"""The exact join of perceptual hashes by Hamming distance, on the stages that a job runs.

python benchmarks/hamming_join.py COUNT WORKERS     # prints edges, planted pairs found, planted pairs
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from thresher.pipeline.dedup_plan import DedupPlan
from thresher.pipeline.driver import Driver
from thresher.pipeline.engines.local import LocalEngine
from thresher.pipeline.operator import Output, Reader
from thresher.pipeline.perceptual import find_near
from thresher.pipeline.stage import OperatorRef, PartRef
from thresher.pipeline.store import RunLock
from thresher.schemas.progress import Silent

RADIUS = 6
PLANTED = 20  # of a hundred hashes, those that are near another
PARTS = 8
SAMPLE = 20_000  # hashes of which every pair is compared

Edges = npt.NDArray[np.int64]


def hashes(count: int, seed: int = 0) -> npt.NDArray[np.uint64]:
    """Hashes as those of pictures are: half of their bits set, some near another one."""
    random = np.random.default_rng(seed)
    found = random.integers(0, 2**64, count, np.uint64)
    near = count * PLANTED // 100
    found[-near:] = found[:near]
    for _ in range(RADIUS - 1):  # the same bit may be drawn twice
        found[-near:] ^= np.uint64(1) << random.integers(0, 64, near, np.uint64)
    return found


class Hashes(Reader):
    """One part of `hashes`."""

    def __init__(self, count: int) -> None:
        self._count = count

    def read(self, part: int, out: Output) -> Iterator[pa.RecordBatch]:
        each = -(-self._count // PARTS)
        mine = hashes(self._count)[part * each : (part + 1) * each]
        positions = np.arange(len(mine), dtype=np.uint64) + np.uint64(part << 32)
        whole = pa.RecordBatch.from_arrays([pa.array(positions), pa.array(mine)], names=["position", "phash"])
        yield from (whole.slice(start, 65_536) for start in range(0, len(mine), 65_536))


def join(count: int, workers: int) -> Edges:
    """Joins so many hashes on the local engine: their edges as rows of `hashes`."""
    each = -(-count // PARTS)
    reader = OperatorRef.of(Hashes, count=count)
    parts = tuple(
        PartRef(part, reader=reader, rows=min(each, count - part * each), bytes=each * 16)
        for part in range(PARTS)
    )
    plan = DedupPlan(
        "phash", None, "pixels", "", "perceptual", None, keys_per_record=1, memory=1 << 30, radius=RADIUS
    )
    folder = Path(tempfile.mkdtemp())
    lock = RunLock(folder)
    engine = LocalEngine(workers, lock.run)
    try:
        commits = find_near(Driver(folder, engine, lock, Silent()), "near", plan, parts)
        edges = pa.concat_tables(pq.read_table(c.streams["edges"].path) for c in commits)
    finally:
        engine.close()
        lock.close()
        shutil.rmtree(folder)
    ends = [edges.column(side).to_numpy() for side in range(2)]
    rows = [(end >> np.uint64(32)) * np.uint64(each) + (end & np.uint64(0xFFFFFFFF)) for end in ends]
    return np.stack(rows, 1).astype(np.int64)


def clusters(edges: Edges, count: int) -> npt.NDArray[np.int64]:
    """The least member of the cluster of each of `count` nodes."""
    parent = np.arange(count)
    while True:
        least = parent.copy()
        for one, other in ((0, 1), (1, 0)):
            np.minimum.at(least, edges[:, one], parent[edges[:, other]])
        least = least[least]
        if (least == parent).all():
            return parent
        parent = least


def brute_force(of: npt.NDArray[np.uint64]) -> Edges:
    """Every pair of hashes within the radius."""
    pairs = []
    for row in range(len(of)):
        near = np.flatnonzero(np.bitwise_count(of[row] ^ of[row + 1 :]) <= RADIUS) + row + 1
        pairs.append(np.stack([np.full(len(near), row), near], 1))
    return np.concatenate(pairs)


def check_join() -> None:
    """The clusters of a sample are those of all pairs, one by one. Ends the program where they are not."""
    found = clusters(join(SAMPLE, 1), SAMPLE)
    if (found != clusters(brute_force(hashes(SAMPLE)), SAMPLE)).any():
        sys.exit(f"the join of {SAMPLE} hashes differs from the comparison of all pairs")


def main(count: int, workers: int) -> None:
    """Says how many edges there are, and how many of the planted pairs are together."""
    edges = join(count, workers)
    planted = count * PLANTED // 100
    found = clusters(edges, count)
    together = int((found[count - planted :] == found[:planted]).sum())
    print(f"{len(edges)} {together} {planted}")


if __name__ == "__main__":
    # Workers look the reader up in a module of this name.
    import hamming_join

    hamming_join.main(int(sys.argv[1]), int(sys.argv[2]))
