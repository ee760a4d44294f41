"""Records near a curated set: the nearest of each query, those in the queries' clusters, and who stays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...filters import expressions
from ...filters.embeddings.matrix import Matrix, normalised
from ...schemas.contracts import Decision
from ...schemas.records import POSITION
from ...schemas.verbs import OnNull
from ..draws import draws
from ..operator import Combiner, Operator, Output, Reader, Reducer
from ..selectors.cap import ROWS
from ..selectors.groups import check_scores
from ..selectors.top import TopSelector
from ..store import at_hand
from .cluster import KERNELS as CLUSTER_KERNELS
from .cluster import embeddings_of, read_array
from .selection import report

STARS: Final = "thresher.filters.dedup.stars"
SEARCH_KERNELS: Final = ("thresher.filters.embeddings.nearest_records", STARS)
NEAREST: Final = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),  # the number of the query, spread over 64 bits
        pa.field("similarity", pa.float64(), nullable=False),
        pa.field("tie", pa.uint64(), nullable=False),  # the record's draw: of equally near ones the lowest
        pa.field(POSITION, pa.uint64(), nullable=False),
    ]
)
FOUND: Final = pa.schema(
    [
        pa.field(POSITION, pa.uint64(), nullable=False),
        pa.field("kept", pa.bool_(), nullable=False),
    ]
)
QUERIES: Final = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),  # the cluster's number, spread over 64 bits
        pa.field("cluster", pa.int64(), nullable=False),
        pa.field("queries", pa.int64(), nullable=False),
    ]
)
HELD_BYTES: Final = 128 << 20  # embeddings of records that are searched at a time
QUERY_ROWS: Final = 8192  # that are assigned to clusters at a time
NOT_RETRIEVED, OVER_BUDGET, NULL_EMBEDDING = "not_retrieved", "over_budget", "null_embedding"


class HasEmbedding(Operator):
    """Adds the column `column`: whether a record has an embedding that points anywhere."""

    def __init__(self, of: str, column: str) -> None:
        self._of, self._column = of, column

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        _, there = embeddings_of(batch, self._of, "cosine")
        return batch.append_column(self._column, pa.array(there))


class Candidates(Operator):
    """The records for which an expression is true. `columns`: what each of its names is called in a batch."""

    def __init__(self, where: str, columns: Mapping[str, str]) -> None:
        self._where, self._columns = expressions.parse(where), dict(columns)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        met = self._where.evaluate({name: batch.column(of) for name, of in self._columns.items()})
        return batch.filter(pc.fill_null(met, False))


class FindNearest(Operator):
    """A row for each query and record of a part that is among the `k` nearest of the query there.

    `bounds` are streams of BestOfQueries over other parts: what is less near than the `k` that were found
    there needs no row. Rows of such streams pass as they are. Holds the queries, 128 MB of embeddings, and
    the nearest of some queries.
    """

    kernels = SEARCH_KERNELS

    def __init__(
        self,
        column: str,
        queries: str,
        array: str | None,
        checksum: str,
        k: int,
        min_similarity: float,
        seed: int,
        purpose: str,
        bounds: Sequence[str] = (),
    ) -> None:
        self._column, self._path, self._array, self._k = column, queries, array, k
        self._min, self._seed, self._purpose, self._bounds = min_similarity, seed, purpose, list(bounds)

    def open(self) -> None:
        from ...filters.dedup.stars import gather, spread

        self._spread: Any = spread
        self._queries = read_queries(self._path, self._array)
        self._least = np.full(len(self._queries), self._min, np.float64)
        for path in self._bounds:
            with at_hand(path) as file:
                found = pq.read_table(file, columns=["key", "similarity"]).combine_chunks()
            queries = gather(found.column("key").to_numpy()).astype(np.int64)
            full = np.bincount(queries, minlength=len(self._least)) == self._k
            farthest = np.full(len(self._least), np.inf)
            np.minimum.at(farthest, queries, found.column("similarity").to_numpy())
            self._least[full] = np.maximum(self._least[full], farthest[full])

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        return pa.concat_batches(list(self.flow(iter([batch]), out)))

    def flow(self, batches: Iterator[pa.RecordBatch], out: Output) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pylist([], schema=NEAREST)
        held: list[tuple[Matrix, npt.NDArray[np.uint64], npt.NDArray[np.uint64]]] = []
        size = 0
        for batch in batches:
            if "key" in batch.schema.names:  # no column of a job has this name
                yield batch.select(NEAREST.names).cast(NEAREST)
                continue
            matrix, there = embeddings_of(batch, self._column, "cosine")
            if not len(matrix):
                continue
            if matrix.shape[1] != self._queries.shape[1]:
                raise ValueError(
                    f"column {self._column}: an embedding has {matrix.shape[1]} numbers where those of "
                    f"{Path(self._path).name} have {self._queries.shape[1]}"
                )
            ties = draws(batch.column("id").filter(pa.array(there)), self._seed, self._purpose)
            held.append((normalised(matrix), ties, batch.column(POSITION).to_numpy()[there]))
            size += matrix.nbytes
            if size >= HELD_BYTES:
                yield from self._search(held)
                held, size = [], 0
        if held:
            yield from self._search(held)

    def _search(self, held: list[Any]) -> Iterator[pa.RecordBatch]:
        from ...filters.embeddings.nearest_records import NearestRecords, queries_at_once

        step = queries_at_once(self._k)
        for start in range(0, len(self._queries), step):
            block = slice(start, start + step)
            nearest = NearestRecords(self._queries[block], self._k, self._least[block])
            for matrix, ties, positions in held:
                nearest.add(matrix, ties, positions)
            queries, *columns = nearest.rows()
            keys = self._spread((queries + start).astype(np.uint64))
            yield pa.RecordBatch.from_arrays(
                [pa.array(column) for column in (keys, *columns)], schema=NEAREST
            )


def read_queries(path: str, array: str | None) -> Matrix:
    """The embeddings of a curated set that point anywhere, with length one. Raises AssetError."""
    from ...filters.embeddings.reference import read_reference

    matrix = read_reference(Path(path), array).matrix
    directed = matrix.any(axis=1)
    return matrix if directed.all() else matrix[directed]


class PruneNearest(Combiner):
    """Of each query the `k` nearest."""

    def __init__(self, k: int) -> None:
        self._k = k

    def combine(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return _nearest(batch, self._k)


def _nearest(rows: pa.RecordBatch, k: int) -> pa.RecordBatch:
    """The `k` nearest of each query, sorted by key."""
    from ...filters.embeddings.neighbours import first_of_each

    key, similarity, tie, position = (rows.column(name).to_numpy() for name in NEAREST.names)
    return rows.take(pa.array(first_of_each(key, similarity, tie, position, k)))


class BestOfQueries(Reducer):
    """Commits the `k` nearest records of each query, and the positions alone. Holds those of one query."""

    def __init__(self, k: int) -> None:
        self._k = k

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        held = pa.RecordBatch.from_pylist([], schema=NEAREST)
        _emit(held, out)
        for batch in inputs["nearest"]:
            if not len(batch):
                continue
            best = _nearest(pa.concat_batches([held, batch.select(NEAREST.names).cast(NEAREST)]), self._k)
            keys = best.column("key").to_numpy()
            last = int(np.searchsorted(keys, keys[-1]))
            _emit(best.slice(0, last), out)
            held = best.slice(last)
        _emit(held, out)


def _emit(rows: pa.RecordBatch, out: Output) -> None:
    out.emit("nearest", rows)
    out.emit("found", _found(rows.column(POSITION)))


def _found(positions: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([positions, pa.array(np.ones(len(positions), np.bool_))], schema=FOUND)


class ReadQueries(Reader):
    """Some of the embeddings of a curated set, from row `first` to before row `stop`."""

    def __init__(self, path: str, array: str | None, first: int, stop: int) -> None:
        self._path, self._array, self._first, self._stop = path, array, first, stop

    def read(self, part: int, out: Output) -> Iterator[pa.RecordBatch]:
        matrix = read_queries(self._path, self._array)
        kind = pa.list_(pa.float32())
        yield pa.RecordBatch.from_arrays([pa.array([], kind)], names=["embedding"])
        for start in range(self._first, self._stop, QUERY_ROWS):
            some = np.ascontiguousarray(matrix[start : min(start + QUERY_ROWS, self._stop)])
            offsets = np.arange(len(some) + 1, dtype=np.int32) * some.shape[1]
            lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(some.reshape(-1)), type=kind)
            out.rows_in += len(some)
            yield pa.RecordBatch.from_arrays([lists], names=["embedding"])


class CountQueries(Operator):
    """A row for each cluster that queries of a part are in."""

    kernels = (*CLUSTER_KERNELS, STARS)

    def __init__(self, centroids: str, metric: str, version: int) -> None:
        self._path, self._metric = centroids, metric

    def open(self) -> None:
        self._centroids: Any = read_array(self._path)

    def begin(self, part: int) -> None:
        self._counts = np.zeros(len(self._centroids), np.int64)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        from ...filters.embeddings.kmeans import assign

        matrix, _ = embeddings_of(batch, "embedding", self._metric)
        numbers, _ = assign(matrix, self._centroids, self._metric)  # type: ignore[arg-type]
        if len(self._centroids):
            self._counts += np.bincount(numbers, minlength=len(self._counts))
        return pa.RecordBatch.from_pylist([], schema=QUERIES)

    def end(self, out: Output) -> pa.RecordBatch:
        from ...filters.dedup.stars import spread

        clusters = np.flatnonzero(self._counts)
        columns = [spread(clusters.astype(np.uint64)), clusters, self._counts[clusters]]
        return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=QUERIES)


class TakeClusters(Reducer):
    """Commits the clusters that hold at least `least` queries. Holds a row for each cluster and part."""

    def __init__(self, least: int) -> None:
        self._least = least

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        rows = pa.concat_batches([batch.select(QUERIES.names).cast(QUERIES) for batch in inputs["queries"]])
        clusters, counts = rows.column("cluster").to_numpy(), rows.column("queries").to_numpy()
        totals = np.bincount(clusters, counts, minlength=1)
        taken = np.flatnonzero(totals >= self._least)
        columns = [pa.array(taken), pa.array(totals[taken].astype(np.int64))]
        out.emit("taken", pa.RecordBatch.from_arrays(columns, names=["cluster", "queries"]))


class FindMembers(Operator):
    """The records of a part that are in one of the clusters `taken`.

    With `draw_for`, a row for the exchange by cluster, ranked by a draw of (seed, draw_for, id); else they
    are committed, marked by a column `found`, and nothing flows on. `version` is that of how clusters are
    found.
    """

    kernels = (*CLUSTER_KERNELS, STARS)

    def __init__(
        self,
        column: str,
        centroids: str,
        metric: str,
        version: int,
        taken: str,
        found: str = "",
        seed: int = 0,
        draw_for: str | None = None,
    ) -> None:
        self._column, self._paths, self._metric = column, (centroids, taken), metric
        self._found, self._seed, self._draw_for = found, seed, draw_for

    def open(self) -> None:
        centroids, taken = self._paths
        self._centroids: Any = read_array(centroids)
        with at_hand(taken) as file:
            numbers = pq.read_table(file, columns=["cluster"])["cluster"].to_numpy()
        self._taken = np.zeros(max(1, len(self._centroids)), np.bool_)
        self._taken[numbers] = True

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        from ...filters.dedup.stars import spread
        from ...filters.embeddings.kmeans import assign

        matrix, there = embeddings_of(batch, self._column, self._metric)
        numbers, _ = assign(matrix, self._centroids, self._metric)  # type: ignore[arg-type]
        inside = np.zeros(len(numbers), np.bool_) if not len(self._centroids) else self._taken[numbers]
        rows = pa.array(np.flatnonzero(there)[inside])
        positions = batch.column(POSITION).take(rows)
        if self._draw_for is None:
            out.emit("found", _found(positions).rename_columns([POSITION, self._found]))
            return batch.slice(0, 0)
        ids = batch.column("id").take(rows).cast(pa.string())
        count = len(rows)
        columns = [
            spread(numbers[inside].astype(np.uint64)),
            np.zeros(count, np.uint64),
            draws(ids, self._seed, self._draw_for),
            np.ones(count, np.int64),
        ]
        arrays = [*(pa.array(column) for column in columns), ids, positions]
        return pa.RecordBatch.from_arrays(arrays, schema=ROWS)


class DrawFound(Operator):
    """Adds a draw of (seed, purpose, id) for each record that is found, null for the others."""

    def __init__(self, found: str, column: str, seed: int, purpose: str) -> None:
        self._found, self._column, self._seed, self._purpose = found, column, seed, purpose

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        rows = np.flatnonzero(pc.is_valid(batch.column(self._found)).to_numpy(zero_copy_only=False))
        drawn = np.zeros(len(batch), np.uint64)
        drawn[rows] = draws(batch.column("id").take(pa.array(rows)), self._seed, self._purpose)
        without = np.ones(len(batch), np.bool_)
        without[rows] = False
        return batch.append_column(self._column, pa.array(drawn, mask=without))


class KeepRetrieved(Operator):
    """Drops what was not found, what a budget left out, and what has no embedding, as `on_null` says.

    `budget`: the column of the draws, and the decision of a TopSelector over it. With `report`, all stay, and
    the column of that name says which would have.
    """

    def __init__(
        self,
        step: str,
        of: str,
        there: str,
        found: str,
        on_null: OnNull,
        report: str | None = None,
        budget: Sequence[str] | None = None,
    ) -> None:
        self._step, self._of, self._there, self._found = step, of, there, found
        self._on_null, self._report = on_null, report
        self._selector: TopSelector | None = None
        if budget is not None:
            column, decision = budget
            self._selector = TopSelector(column, budget=0, step=step)
            self._decision = Decision(json.loads(decision))

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        there = batch.column(self._there).to_numpy(zero_copy_only=False)
        check_scores(batch, there, self._of, self._step, self._on_null)
        none = pa.scalar(None, pa.string())
        kept: Any = none
        if self._selector is not None and len(batch):
            chosen = self._selector.decide(batch, self._decision)
            kept = pc.if_else(chosen.column("keep"), none, OVER_BUDGET)
        reasons = pc.if_else(pc.is_valid(batch.column(self._found)), kept, NOT_RETRIEVED)
        without = none if self._on_null == "keep" else pa.scalar(NULL_EMBEDDING)
        reasons = pc.if_else(pa.array(there), reasons, without)
        if self._report is not None:
            return report(batch, self._report, pc.is_null(reasons), self._step, out)
        return out.drop(self._step, batch, reasons)
