"""Clusters of positions: by one union-find, or by stars that many tasks make in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ..operator import Operator, Output, Reducer
from .groups import Giant, groups

MEMBERS = pa.schema(
    [
        pa.field("position", pa.uint64(), nullable=False),  # unique
        pa.field("root", pa.uint64(), nullable=False),  # least position of the cluster
    ]
)
MOVED = "moved_edges"  # the figure that says whether the clusters are found
EMITTED_ROWS = 1 << 16

KERNELS = ("thresher.filters.dedup.clusters", "thresher.filters.dedup.stars")


class FindClusters(Reducer):
    """Puts the positions of edges into clusters. One partition: the memory is that of UnionFind."""

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        from ...filters.dedup.clusters import UnionFind

        forest = UnionFind()
        for batch in inputs["edges"]:
            forest.add(batch.column("src").to_numpy(), batch.column("dst").to_numpy())
        members, roots = forest.components()
        del forest
        for first in range(0, max(1, len(members)), EMITTED_ROWS):
            some = slice(first, first + EMITTED_ROWS)
            out.emit(
                "members",
                pa.RecordBatch.from_arrays([pa.array(members[some]), pa.array(roots[some])], schema=MEMBERS),
            )


class FacingEdges(Operator):
    """The rows of large-star, where `both`, or of small-star."""

    kernels = KERNELS

    def __init__(self, both: bool) -> None:
        from ...filters.dedup import stars

        self._rows = stars.mirrored if both else stars.downward

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        keys, others = self._rows(batch.column("src").to_numpy(), batch.column("dst").to_numpy())
        return pa.RecordBatch.from_arrays([pa.array(keys), pa.array(others)], names=["key", "other"])


class MakeStars(Reducer):
    """Large-star or small-star: fewer steps from each vertex to the least of its component.

    Holds one group of rows, up to a bound, beyond which it is read twice from disk.
    """

    def __init__(self, large: bool) -> None:
        from ...filters.dedup import stars

        self._star: Any = stars.large_star if large else stars.small_star

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        from ...filters.dedup.edges import EDGES
        from ...filters.dedup.stars import NOTHING

        out.emit("edges", pa.RecordBatch.from_pylist([], schema=EDGES))
        for group in groups(inputs["edges"], out.new_file):
            least = NOTHING
            if isinstance(group, Giant):
                least = min(int(_others(batch).min()) for batch in group.batches())
            for batch in group.batches() if isinstance(group, Giant) else [group]:
                edges, moved = self._star(batch.column("key").to_numpy(), _others(batch), least)
                out.accounts.figures[MOVED] += moved
                out.emit(
                    "edges", pa.RecordBatch.from_arrays([pa.array(side) for side in edges], schema=EDGES)
                )


def _others(batch: pa.RecordBatch) -> Any:
    return batch.column("other").to_numpy()


class Members(Operator):
    """The rows of stars, of which each edge joins a root with a member, in the order of positions.

    A root is a member too, and is told once or more.
    """

    def __init__(self, shift: int) -> None:
        self._shift = np.uint64(shift)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        roots = np.unique(batch.column("src").to_numpy())
        positions = np.concatenate([roots, batch.column("dst").to_numpy()])
        of = np.concatenate([roots, batch.column("src").to_numpy()])
        return pa.RecordBatch.from_arrays(
            [pa.array(positions << self._shift), pa.array(of)], names=["key", "root"]
        )
