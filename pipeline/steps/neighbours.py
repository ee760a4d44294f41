"""Nearest neighbours through inverted lists, the edges that they make, and contaminated components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...filters.embeddings.matrix import Matrix, normalised
from ...filters.embeddings.packing import pack, unpack
from ..draws import draws
from ..operator import Operator, Output, Reducer
from .cluster import embeddings_of, read_array
from .groups import Giant, groups

KERNELS: Final = (
    "thresher.filters.embeddings.kmeans",
    "thresher.filters.embeddings.neighbours",
    "thresher.filters.dedup.stars",
)
CONTAMINATED: Final = "contaminated"

# What a query has found in one list.
NEIGHBOURS: Final = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),  # the position of the query, spread over 64 bits
        pa.field("neighbour", pa.uint64(), nullable=False),  # position
        pa.field("similarity", pa.float64(), nullable=False),  # cosine
        pa.field("tie", pa.uint64(), nullable=False),  # draw of the neighbour
    ]
)
MARKS: Final = pa.schema(
    [
        pa.field("position", pa.uint64(), nullable=False),  # of a record whose component is contaminated
        pa.field(CONTAMINATED, pa.bool_(), nullable=False),  # true
    ]
)


class Size(Operator):
    """Adds what orders the records of a component: the characters of the `text`, or the pixels of the
    `image`, and a hash of it."""

    kernels = ("thresher.filters.dedup.exact",)

    def __init__(self, of: str, length: str, hash: str) -> None:
        self._of, self._length, self._hash = of, length, hash

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        from ...filters.dedup import exact, images

        content = batch.column(self._of)
        if self._of == "image":
            lengths, hashes = batch.column("pixels"), images.image_key(content)[0]
        else:
            lengths, hashes = pc.utf8_length(content), exact.text_key(content, "none")[0]
        batch = batch.append_column(self._length, lengths)
        return batch.append_column(self._hash, pc.fill_null(hashes, 0))


class ByLists(Operator):
    """A row for each record that has an embedding and each of the `probes` lists that are nearest to it.

    In the nearest it is among those that are found (`base`), in all it looks for others. `tie` is the draw of
    (seed, purpose, id). `version` is for the fingerprint. Holds the centroids.
    """

    kernels = KERNELS

    def __init__(
        self, column: str, centroids: str, probes: int, seed: int, purpose: str, version: int
    ) -> None:
        self._column, self._path, self._probes = column, centroids, probes
        self._seed, self._purpose = seed, purpose

    def open(self) -> None:
        self._centroids: Matrix = np.ascontiguousarray(read_array(self._path), np.float32)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        from ...filters.dedup.stars import spread
        from ...filters.embeddings.neighbours import nearest_lists

        matrix, there = embeddings_of(batch, self._column, "cosine")
        kind = batch.schema.field(self._column).type
        batch = batch.select(["position", "id"]).filter(pa.array(there))
        if len(matrix) and matrix.shape[1] != self._centroids.shape[1]:
            raise ValueError(
                f"column {self._column}: an embedding has {matrix.shape[1]} numbers where others have "
                f"{self._centroids.shape[1]}"
            )
        lists = nearest_lists(normalised(matrix), self._centroids, self._probes)
        each = lists.shape[1]
        rows = np.repeat(np.arange(len(batch)), each)
        columns = {
            "key": pa.array(spread(lists.reshape(-1).astype(np.uint64))),
            "position": batch.column("position").take(pa.array(rows)),
            "tie": pa.array(draws(batch.column("id"), self._seed, self._purpose)[rows]),
            "base": pa.array(np.arange(len(rows)) % max(1, each) == 0),
            "embedding": pack(matrix, kind).take(pa.array(rows)),
        }
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


class FindNeighbours(Reducer):
    """Finds in each list the `k` nearest of each query, with a cosine above `min_similarity`.

    Holds one list, up to a bound, beyond which it is read from disk, once for each batch that it has; then
    there are `k` of each of these.
    """

    def __init__(self, k: int, min_similarity: float) -> None:
        self._k, self._min = k, min_similarity

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit("neighbours", pa.RecordBatch.from_pylist([], schema=NEIGHBOURS))
        for group in groups(inputs["records"], out.new_file):
            if isinstance(group, Giant):
                for base in group.batches():
                    found = _Rows(base.filter(base.column("base")))
                    for batch in group.batches():
                        self._search(_Rows(batch), found, out)
                continue
            rows = _Rows(group)
            keys = group.column("key").to_numpy()
            bounds = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1], [True]]))
            for start, stop in pairwise(bounds.tolist()):
                queries = rows.some(slice(start, stop))
                self._search(queries, queries.some(queries.base), out)

    def _search(self, queries: _Rows, base: _Rows, out: Output) -> None:
        from ...filters.dedup.stars import spread
        from ...filters.embeddings.neighbours import BLOCK_ROWS, neighbours

        for first in range(0, len(base.positions), BLOCK_ROWS):
            near = base.some(slice(first, first + BLOCK_ROWS))
            for start in range(0, len(queries.positions), BLOCK_ROWS):
                some = queries.some(slice(start, start + BLOCK_ROWS))
                mine, theirs, similarity = neighbours(
                    some.matrix, some.positions, near.matrix, near.positions, near.ties, self._k, self._min
                )
                columns = [
                    spread(some.positions[mine]),
                    near.positions[theirs],
                    similarity,
                    near.ties[theirs],
                ]
                arrays = [pa.array(column) for column in columns]
                out.emit("neighbours", pa.RecordBatch.from_arrays(arrays, schema=NEIGHBOURS))


class _Rows:
    """Rows of an exchange as arrays."""

    def __init__(self, batch: pa.RecordBatch | None = None, **arrays: Any) -> None:
        if batch is not None:
            arrays = {
                "matrix": unpack(batch.column("embedding")),
                "positions": batch.column("position").to_numpy(),
                "ties": batch.column("tie").to_numpy(),
                "base": batch.column("base").to_numpy(zero_copy_only=False),
            }
        self._arrays = arrays
        self.matrix: Matrix = arrays["matrix"]
        self.positions: np.ndarray = arrays["positions"]
        self.ties: np.ndarray = arrays["ties"]
        self.base: np.ndarray = arrays["base"]

    def some(self, which: slice | np.ndarray) -> _Rows:
        return _Rows(**{name: array[which] for name, array in self._arrays.items()})


class MergeNeighbours(Reducer):
    """Commits an edge from each record to each of its `k` nearest, of all lists that were searched.

    Of equally near ones those with the least tie come first, then those that are first in the corpus.
    """

    def __init__(self, k: int) -> None:
        self._k = k

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        from ...filters.dedup.edges import EDGES
        from ...filters.dedup.stars import gather

        out.emit("edges", pa.RecordBatch.from_pylist([], schema=EDGES))
        for group in groups(inputs["neighbours"], out.new_file):
            if isinstance(group, Giant):
                chosen = NEIGHBOURS.empty_table().combine_chunks()
                for batch in group.batches():
                    chosen = self._nearest(pa.Table.from_batches([*chosen.to_batches(), batch]))
            else:
                chosen = self._nearest(pa.Table.from_batches([group]))
            one, other = gather(_numbers(chosen, "key")), _numbers(chosen, "neighbour")
            ends = [pa.array(np.minimum(one, other)), pa.array(np.maximum(one, other))]
            out.emit("edges", pa.RecordBatch.from_arrays(ends, schema=EDGES))

    def _nearest(self, rows: pa.Table) -> pa.Table:
        from ...filters.embeddings.neighbours import first_of_each

        names = ("key", "similarity", "tie", "neighbour")
        keys, similarity, ties, positions = (_numbers(rows, name) for name in names)
        return rows.take(pa.array(first_of_each(keys, similarity, ties, positions, self._k)))


def _numbers(table: pa.Table, name: str) -> Any:
    return table.column(name).to_numpy()


class FindContaminated(Reducer):
    """The positions of the components in which `column` is true of any record."""

    def __init__(self, column: str) -> None:
        self._column = column

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit("contaminated", _marks(pa.array([], pa.uint64())))
        for group in groups(inputs["members"], out.new_file):
            if isinstance(group, Giant):
                if any(self._truth(batch).any() for batch in group.batches()):
                    for batch in group.batches():
                        out.emit("contaminated", _marks(batch.column("position")))
                continue
            keys = group.column("key").to_numpy()
            tainted = np.isin(keys, keys[self._truth(group)])
            out.emit("contaminated", _marks(group.column("position").filter(pa.array(tainted))))

    def _truth(self, batch: pa.RecordBatch) -> Any:
        return truth(batch, self._column).to_numpy(zero_copy_only=False)


def _marks(positions: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([positions, pa.repeat(True, len(positions))], schema=MARKS)


def truth(batch: pa.RecordBatch, column: str) -> pa.BooleanArray:
    """A column of true and false; null is false. Raises ValueError for another type."""
    values = batch.column(column)
    if not (pa.types.is_boolean(values.type) or pa.types.is_null(values.type)):
        raise ValueError(f"contaminated: column {column} holds {values.type}, not true and false")
    return pc.fill_null(values.cast(pa.bool_()), False)


class DropNeighbours(Operator):
    """Drops what is contaminated, or near what is, and of the rest the duplicates, naming the one that was
    kept.

    `contaminated`: the columns that say so.
    """

    def __init__(self, step: str, keeper: str, contaminated: Sequence[str]) -> None:
        self._step, self._keeper, self._contaminated = step, keeper, list(contaminated)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        keeper = batch.column(self._keeper)
        reasons = pc.if_else(pc.is_valid(keeper), "duplicate", None)
        verdicts = pa.repeat(pa.scalar("duplicate", pa.string()), len(batch))
        for column in self._contaminated:
            tainted = truth(batch, column)
            reasons = pc.if_else(tainted, CONTAMINATED, reasons)
            verdicts = pc.if_else(tainted, "dropped", verdicts)
            keeper = pc.if_else(tainted, None, keeper)
        return out.drop(self._step, batch, reasons, keeper, verdicts)
