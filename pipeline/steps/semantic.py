"""Records by the cluster of their embedding, and those of a cluster that are too near an earlier one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...filters.embeddings.matrix import Matrix
from ...filters.embeddings.packing import pack, unit_rows, unpack
from ..draws import draws
from ..operator import Operator, Output, Reducer
from .cluster import embeddings_of, read_array
from .groups import Giant, groups
from .survivors import DUPLICATES

KERNELS: Final = (
    "thresher.filters.embeddings.kmeans",
    "thresher.filters.dedup.semantic",
    "thresher.filters.dedup.stars",
)

Int64s = npt.NDArray[np.int64]


class ByCluster(Operator):
    """A row for each record that has an embedding, under its nearest centroid.

    `similarity` is the cosine of the two, `draw` that of (seed, purpose, id). `version` is for the
    fingerprint. Holds the centroids.
    """

    kernels = KERNELS

    def __init__(self, column: str, centroids: str, seed: int, purpose: str, version: int) -> None:
        self._column, self._path = column, centroids
        self._seed, self._purpose = seed, purpose

    def open(self) -> None:
        self._centroids: Matrix = np.ascontiguousarray(read_array(self._path), np.float32)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        from ...filters.dedup.stars import spread
        from ...filters.embeddings.kmeans import assign

        matrix, there = embeddings_of(batch, self._column, "cosine")
        kind = batch.schema.field(self._column).type
        batch = batch.select(["position", "id"]).filter(pa.array(there))
        numbers, similarity = assign(matrix, self._centroids, "cosine")
        columns = {
            "key": pa.array(spread(numbers.astype(np.uint64))),
            "position": batch.column("position"),
            "similarity": pa.array(similarity),
            "draw": pa.array(draws(batch.column("id"), self._seed, self._purpose)),
            "id": batch.column("id"),
            "embedding": pack(matrix, kind),
        }
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


class FindTooNear(Reducer):
    """Names the records of each cluster that are too near an earlier one, and the nearest of these.

    Holds one cluster, up to a bound, beyond which its embeddings are put in order on disk and read block by
    block; then it holds 65 bytes for each record of the cluster.
    """

    def __init__(self, threshold: float, order: str) -> None:
        from ...filters.dedup import semantic

        self._semantic: Any = semantic
        self._threshold, self._order = threshold, order

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit("duplicates", pa.RecordBatch.from_pylist([], schema=DUPLICATES))
        for group in groups(inputs["records"], out.new_file):
            found = self._of_giant(group, out) if isinstance(group, Giant) else self._of_whole(group)
            out.emit("duplicates", found)

    def _of_whole(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        keys = batch.column("key").to_numpy()
        order = self._in_order(batch, keys)
        matrix = unpack(batch.column("embedding"))
        bounds = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1], [True]]))
        gone, keepers = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for start, stop in pairwise(bounds.tolist()):
            if stop - start < 2:
                continue
            rows = order[start:stop]
            mine = matrix[rows]
            found = self._semantic.too_near(stop - start, _slices(mine), self._threshold)
            gone.append(rows[found[0]])
            keepers.append(rows[found[1]])
        lost = pa.array(np.concatenate(gone))
        names = batch.column("id").take(pa.array(np.concatenate(keepers)))
        return pa.RecordBatch.from_arrays([batch.column("position").take(lost), names], schema=DUPLICATES)

    def _in_order(self, batch: pa.RecordBatch, keys: Any = None) -> Int64s:
        columns = (batch.column(name).to_numpy() for name in ("similarity", "draw", "position"))
        order: Int64s = self._semantic.in_order(*columns, self._order, keys)
        return order

    def _of_giant(self, giant: Giant, out: Output) -> pa.RecordBatch:
        light = [batch.select(["position", "similarity", "draw"]) for batch in giant.batches()]
        rows = pa.concat_batches(light)
        light.clear()
        order = self._in_order(rows)
        path = out.new_file("ordered")
        try:
            size = _write_in_order(giant, order, path, out.new_file("unordered"))

            def read(start: int, stop: int) -> Matrix:
                with path.open("rb") as file:
                    file.seek(start * size * 2)
                    return unit_rows(np.fromfile(file, np.float16, (stop - start) * size).reshape(-1, size))

            gone, keepers = self._semantic.too_near(len(order), read, self._threshold)
        finally:
            path.unlink(missing_ok=True)
        positions = rows.column("position").take(pa.array(order[gone]))
        return pa.RecordBatch.from_arrays([positions, _ids(giant, order[keepers])], schema=DUPLICATES)


def _slices(matrix: Matrix) -> Callable[[int, int], Matrix]:
    return lambda start, stop: matrix[start:stop]


def _write_in_order(giant: Giant, order: Int64s, path: Path, unordered: Path) -> int:
    """Writes the embeddings of a giant to `path` in this order; returns how many numbers each has."""
    size = 1
    try:
        with unordered.open("xb") as file:
            for batch in giant.batches():
                column = batch.column("embedding")
                size = column.type.list_size
                file.write(column.flatten().to_numpy(zero_copy_only=False).tobytes())
        # Not mapped into memory: what is read would count as the process's own.
        source = os.open(unordered, os.O_RDONLY)
        try:
            with path.open("xb") as file:
                for row in order.tolist():
                    file.write(os.pread(source, size * 2, row * size * 2))
        finally:
            os.close(source)
    finally:
        unordered.unlink(missing_ok=True)
    return size


def _ids(giant: Giant, rows: Int64s) -> pa.Array:
    """The ids of these rows of a giant."""
    wanted, place = np.unique(rows, return_inverse=True)
    found: list[pa.Array] = [pa.array([], pa.string())]
    first = 0
    for batch in giant.batches():
        mine = wanted[(wanted >= first) & (wanted < first + len(batch))] - first
        found.append(batch.column("id").take(pa.array(mine)))
        first += len(batch)
    return pa.concat_arrays(found).take(pa.array(place))
