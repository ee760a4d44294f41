"""Clusters of embeddings: a sample of the corpus, centroids of it, and each record's nearest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...filters.embeddings.matrix import Matrix, is_embedding, matrix_of, normalised
from ..draws import draws
from ..operator import Combiner, Operator, Output, Reducer
from ..stage import StreamRef
from ..store import HashedFile, at_hand

KERNELS: Final = ("thresher.filters.embeddings.kmeans",)
SAMPLE: Final = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),  # the record's draw: the lowest are the sample
        pa.field("embedding", pa.list_(pa.float32()), nullable=False),
    ]
)
SAMPLED: Final = pa.schema([pa.field("records", pa.int64(), nullable=False)])


class SampleEmbeddings(Operator):
    """A row for each record that has an embedding and whose draw of (seed, purpose, id) is below `below`.

    `below` is None for all. By cosine, an embedding of zeros is none.
    """

    def __init__(self, column: str, metric: str, seed: int, purpose: str, below: int | None) -> None:
        self._column, self._metric = column, metric
        self._seed, self._purpose, self._below = seed, purpose, below

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        keys = draws(batch.column("id"), self._seed, self._purpose)
        if self._below is not None:
            low = keys < np.uint64(self._below)
            batch, keys = batch.filter(pa.array(low)), keys[low]
        matrix, there = embeddings_of(batch, self._column, self._metric)
        rows, dimensions = matrix.shape
        offsets = np.arange(rows + 1, dtype=np.int64) * dimensions
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(matrix.reshape(-1)))
        return pa.RecordBatch.from_arrays([pa.array(keys[there]), lists], schema=SAMPLE)


class Lowest(Combiner):
    """The `count` rows with the lowest keys."""

    def __init__(self, count: int) -> None:
        self._count = count

    def combine(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.slice(0, self._count)


class FindCentroids(Reducer):
    """Commits the centroids of every level, as .npy, and what is in which cluster of the level above.

    They are found from the `sample` rows with the lowest keys, of equal ones those that come first in the
    corpus. Where there are fewer, though `whole` is false and there may be more, only `sampled` is committed.
    Holds these rows twice, as float32.
    """

    def __init__(
        self,
        clusters: Sequence[int],
        sample: int,
        whole: bool,
        iterations: int,
        metric: str,
        seed: int,
        resample: int,
        nearest: int,
        version: int,
    ) -> None:
        self._clusters, self._sample, self._whole = list(clusters), sample, whole
        self._options = {
            "iterations": iterations,
            "metric": metric,
            "seed": seed,
            "resample": resample,
            "nearest": nearest,
        }

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        from ...filters.embeddings.hierarchy import train_levels

        matrices: list[Matrix] = []
        rows = 0
        for batch in inputs["sample"]:
            batch = batch.slice(0, self._sample - rows)
            rows += len(batch)
            if len(batch):
                dimensions = matrices[0].shape[1] if matrices else None
                matrices.append(matrix_of(batch.column("embedding"), dimensions)[0])
            if rows == self._sample:
                break
        out.emit("sampled", pa.RecordBatch.from_pydict({"records": [rows]}, schema=SAMPLED))
        if rows < self._sample and not self._whole:
            return
        matrix = np.concatenate(matrices) if matrices else np.zeros((0, 0), np.float32)
        matrices.clear()
        for number, level in enumerate(train_levels(matrix, self._clusters, **self._options), 1):  # type: ignore[arg-type]
            _commit(f"centroids-{number}", level.centroids, out)
            if level.members is not None:
                _commit(f"members-{number}", level.members, out)


def _commit(stream: str, array: npt.NDArray[np.generic], out: Output) -> None:
    file = HashedFile(out.new_file(f"{stream}.npy"))
    np.lib.format.write_array(file, array, allow_pickle=False)
    file.close()
    out.attach(stream, StreamRef(str(file.path), len(array), file.bytes, file.checksum))


def read_array(path: str) -> npt.NDArray[np.generic]:
    """A .npy of any place, in memory."""
    with at_hand(path) as file:
        found: npt.NDArray[np.generic] = np.load(file, allow_pickle=False)
    return found


class AssignClusters(Operator):
    """Adds `columns`: the number of the nearest centroid, how near it is, and the clusters that this is in.

    `centroids`: a .npy; `members`: for each level above a .npy with the number of the cluster that each of
    the level below is in. `checksum`, of centroids that come with the job, and `version` are for the
    fingerprint. Null where a record has no embedding and, by cosine, where that is zeros. Holds the
    centroids.
    """

    kernels = KERNELS

    def __init__(
        self,
        step: str,
        column: str,
        columns: Sequence[str],
        metric: str,
        centroids: str,
        members: Sequence[str],
        version: int,
        checksum: str = "",
    ) -> None:
        self._step, self._column, self._columns, self._metric = step, column, list(columns), metric
        self._paths, self._given = (centroids, *members), bool(checksum)

    def open(self) -> None:
        centroids, *self._members = map(read_array, self._paths)
        self._centroids: Matrix = np.ascontiguousarray(centroids, np.float32)
        if self._given and self._metric == "cosine":
            self._centroids = normalised(self._centroids)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        from ...filters.embeddings.kmeans import assign

        matrix, there = embeddings_of(batch, self._column, self._metric)
        rows = np.flatnonzero(there)
        found, closeness = assign(matrix, self._centroids, self._metric)  # type: ignore[arg-type]
        numbers = np.zeros(len(batch), np.int32)
        nearness = np.zeros(len(batch), np.float32)
        numbers[rows], nearness[rows] = found, closeness
        for name, values in zip(self._columns, self._levels(numbers, nearness, len(rows)), strict=True):
            batch = batch.append_column(name, pa.array(values, mask=~there))
        return out.drop(self._step, batch, pa.nulls(len(batch), pa.string()))

    def _levels(
        self, numbers: npt.NDArray[np.int32], nearness: npt.NDArray[np.float32], rows: int
    ) -> Iterator[npt.NDArray[np.generic]]:
        yield numbers
        yield nearness
        for members in self._members:
            # Without any record that has an embedding there are no clusters either.
            numbers = members[numbers] if rows else numbers  # type: ignore[assignment]
            yield numbers


def embeddings_of(batch: pa.RecordBatch, column: str, metric: str) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    """As `matrix_of`, with what has no direction left out where the metric is cosine.

    Raises ValueError, which names the column, for what `matrix_of` refuses and for another type.
    """
    values = batch.column(column)
    if not is_embedding(values.type) and not pa.types.is_null(values.type):
        raise ValueError(
            f"column {column} holds {values.type}; embeddings are lists of floating-point numbers"
        )
    if values.null_count == len(values):
        return np.zeros((0, 0), np.float32), np.zeros(len(values), np.bool_)
    try:
        matrix, there = matrix_of(values)
    except ValueError as error:
        raise ValueError(f"column {column}: {error}") from error
    if metric == "cosine":
        directed = matrix.any(axis=1)
        if not directed.all():
            matrix = matrix[directed]
            there[np.flatnonzero(there)[~directed]] = False
    return matrix, there
