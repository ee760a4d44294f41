"""The nearest rows of a matrix, among all of them or among those that a mask lets through.

What faiss computes depends on how it was called: a block of 20 queries or more goes through a matrix product
whose last bits depend on the size of the block, the position of a row and the threads. Here faiss only
proposes rows, more than were asked for. Their values are computed anew in an order of additions of our own,
and where a row that was not proposed could still belong to the nearest, by the bound on what single precision
loses, more are proposed. So a query's result is the same in whatever block and with however many threads, and
of equal values that of the lower row comes first.

Filtered search follows what arXiv:2507.21989 compares, with faiss' own selectors: where few rows are let
through they are all compared, which is exact; where many are, the lists of an inverted file are scanned with
a bitmap over the rows, more of them as fewer rows count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ..kernels import kernel
from . import kmeans
from .matrix import Matrix

VERSION: Final = 1  # changes whenever some result does

Metric = Literal["inner_product", "euclidean"]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

LIST_ROWS: Final = 39  # for each list that is found; what faiss asks for at least before it warns
SAMPLE_ROWS: Final = 256  # for each list at most, as faiss' default
ROUNDS: Final = 20  # of k-means
KERNELS: Final = ("thresher.filters.embeddings.search", *kmeans.KERNELS)
_KMEANS: Final[dict[Metric, kmeans.Metric]] = {"inner_product": "cosine", "euclidean": "euclidean"}
_READ: Final = "Array(float32, 2, 'C', readonly=True)"
_SPARE: Final = 16  # rows proposed beyond those asked for
_WIDEST: Final = 1024  # rows proposed at most, before all are compared
_GPU_WIDEST: Final = 2048  # rows that faiss finds on a GPU at most
_QUERIES: Final = 4096  # at a time
_GATHERED: Final = 1 << 17  # rows copied at a time
_PRODUCTS: Final = 1 << 24  # of a product that is kept
# How much faster a product of matrices compares two rows than the scan of a list with a bitmap.
_PRODUCT_GAIN: Final = 5


@dataclass(frozen=True)
class Nearest:
    """The nearest rows of each query, best first: `rows` is -1 and `values` is NaN where there are no more.

    `values` are inner products, or for the metric euclidean squared distances.
    """

    values: npt.NDArray[np.float32]
    rows: Rows


class Index:
    """The rows of a matrix, ready to be searched.

    `lists`: how many lists k-means, from `seed`, cuts the rows into, of which a search scans the `probes`
    nearest; without lists each row is compared, which is exact. Of fewer than LIST_ROWS rows for each list no
    lists are made. They keep a second copy of the matrix. For cosine similarity pass rows and queries of
    length one.
    """

    def __init__(
        self,
        matrix: Matrix,
        metric: Metric = "inner_product",
        *,
        lists: int | None = None,
        probes: int = 16,
        seed: int = 0,
    ) -> None:
        if matrix.ndim != 2 or not len(matrix) or not matrix.shape[1]:
            raise ValueError(f"a matrix with rows and columns is searched, not one of shape {matrix.shape}")
        if probes < 1 or (lists is not None and lists < 1):
            raise ValueError(f"lists ({lists}) and probes ({probes}) are 1 or more")
        self._matrix: Matrix = np.ascontiguousarray(matrix, np.float32)
        self._metric = metric
        self._longest = math.sqrt(
            max(float(np.einsum("ij,ij->i", *2 * (part,)).max()) for part in self._parts())
        )
        self._centroids: Index | None = None  # what lists are chosen by
        self.lists, self.probes = 1, 1
        if lists is not None and lists > 1 and len(matrix) >= LIST_ROWS * lists:
            centroids = _centroids(self._matrix, lists, metric, seed)
            self.lists, self.probes = len(centroids), min(probes, len(centroids))
            self._centroids = Index(centroids, metric)
            self._inverted, self._quantizer = self._listed(centroids)

    def __len__(self) -> int:
        return len(self._matrix)

    @property
    def dimensions(self) -> int:
        return int(self._matrix.shape[1])

    def search(self, queries: Matrix, k: int, where: Mask | None = None) -> Nearest:
        """The `k` nearest rows of each query; with `where` only rows for which it is true count.

        With lists a row in none of the lists that are scanned is missed; but as many rows are found as there
        are, up to `k`.
        """
        if queries.ndim != 2 or queries.shape[1] != self._matrix.shape[1]:
            raise ValueError(
                f"queries of shape {queries.shape} do not fit rows of {self._matrix.shape[1]} numbers"
            )
        if k < 1:
            raise ValueError(f"k is {k}; ask for 1 row or more")
        if where is not None and (where.shape != (len(self),) or where.dtype != np.bool_):
            raise ValueError(f"where is a mask of {len(self)} rows, not {where.dtype} of shape {where.shape}")
        scope = _Scope(self, None if where is None or where.all() else where)
        queries = np.ascontiguousarray(queries, np.float32)
        values = np.full((len(queries), k), np.nan, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        for start in range(0, len(queries) if scope.count else 0, _QUERIES):
            block = slice(start, start + _QUERIES)
            self._search(queries[block], scope, values[block], rows[block])
        return Nearest(values, rows)

    def _search(self, queries: Matrix, scope: _Scope, values: npt.NDArray[np.float32], rows: Rows) -> None:
        k = min(values.shape[1], scope.count)
        lengths = np.sqrt(np.einsum("ij,ij->i", queries, queries))
        slack = _slack(lengths, self._longest, queries.shape[1], self._metric)
        pending, left = np.arange(len(queries)), np.empty(0, np.int64)
        width = widest = min(k + _SPARE, scope.count)
        while len(pending) and width <= max(_WIDEST, widest):
            proposed, candidates = scope.propose(queries[pending], width)
            found, sorted_rows = self._ranked(queries[pending], candidates, k)
            values[pending, :k], rows[pending, :k] = self._told(found), sorted_rows
            is_short = sorted_rows[:, -1] < 0
            is_all = candidates[:, -1] < 0 if scope.probes else np.full(len(pending), width == scope.count)
            is_done = is_all | (found[:, -1] > proposed[:, -1] + slack[pending])
            left = np.concatenate([left, pending[is_short]])
            pending = pending[~is_short & ~is_done]
            width = min(8 * width, scope.count) if width < scope.count else _WIDEST + widest
        pending = np.concatenate([left, pending])
        step = max(1, _PRODUCTS // scope.count)
        for start in range(0, len(pending), step):
            some = pending[start : start + step]
            found, sorted_rows = self._exhausted(queries[some], scope.rows, slack[some], k)
            values[some, :k], rows[some, :k] = self._told(found), sorted_rows

    def _ranked(self, queries: Matrix, candidates: Rows, k: int) -> tuple[npt.NDArray[np.float32], Rows]:
        """The k best of each query's candidates (-1: none) with their exact values, highest first."""
        found = np.empty(candidates.shape, np.float32)
        _compare(queries, self._matrix, candidates, self._metric == "euclidean", found)
        order = np.lexsort((candidates, -found), axis=-1)[:, :k]
        return np.take_along_axis(found, order, 1), np.take_along_axis(candidates, order, 1)

    def _exhausted(
        self, queries: Matrix, rows: Rows | None, slack: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.float32], Rows]:
        """The k best of all rows: for queries that have very many rows of nearly the same value."""
        count = len(self) if rows is None else len(rows)
        near = np.empty((len(queries), count), np.float32)
        for start in range(0, count, _GATHERED):
            part = self._matrix[
                slice(start, start + _GATHERED) if rows is None else rows[start : start + _GATHERED]
            ]
            products = queries @ part.T
            if self._metric == "euclidean":
                products = 2 * products - np.einsum("ij,ij->i", part, part)
                products -= np.einsum("ij,ij->i", queries, queries)[:, None]
            near[:, start : start + _GATHERED] = products
        values, nearest = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        for query in range(len(queries)):
            least = np.partition(near[query], count - k)[count - k] - slack[query]
            numbers = np.flatnonzero(near[query] >= least)
            chosen = numbers if rows is None else rows[numbers]
            found, best = self._ranked(queries[query : query + 1], chosen[None, :], k)
            values[query], nearest[query] = found[0], best[0]
        return values, nearest

    def _told(self, found: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        there = np.where(np.isneginf(found), np.float32(np.nan), found)
        return -there if self._metric == "euclidean" else there

    def _parts(self) -> Iterator[Matrix]:
        for start in range(0, len(self._matrix), _GATHERED):
            yield self._matrix[start : start + _GATHERED]

    def _listed(self, centroids: Matrix) -> tuple[Any, Any]:
        import faiss

        metric = faiss.METRIC_L2 if self._metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        quantizer = faiss.IndexFlat(self._matrix.shape[1], metric)
        quantizer.add(centroids)
        inverted = faiss.IndexIVFFlat(quantizer, self._matrix.shape[1], self.lists, metric)
        first = 0
        for part in self._parts():
            lists = kmeans.nearest(part, centroids, _KMEANS[self._metric]).astype(np.int64)
            ids = np.arange(first, first + len(part))
            arrays = [faiss.swig_ptr(array) for array in (part, ids, lists)]
            inverted.add_core(len(part), *arrays)
            first += len(part)
        return inverted, quantizer


class _Scope:
    """The rows that one search may find, and how it looks for them."""

    def __init__(self, index: Index, where: Mask | None) -> None:
        self._index = index
        self.rows: Rows | None = None if where is None else np.flatnonzero(where)
        self.count = len(index) if self.rows is None else len(self.rows)
        self.probes: int | None = None  # None: every row is compared
        if index._centroids is None or not self.count:
            return
        share = self.count / len(index)
        if share * index.lists > _PRODUCT_GAIN * index.probes:
            self.probes = min(index.lists, math.ceil(index.probes / share))
        elif where is None and index.probes < index.lists:
            self.probes = index.probes
        self._bits = None if where is None else np.packbits(where, bitorder="little")

    def propose(self, queries: Matrix, width: int) -> tuple[npt.NDArray[np.float32], Rows]:
        """`width` rows for each query (-1: no more) and about their values, highest first."""
        near, rows = self._all(queries, width) if self.probes is None else self._probed(queries, width)
        return (-near if self._index._metric == "euclidean" else near), rows

    def _all(self, queries: Matrix, width: int) -> tuple[npt.NDArray[np.float32], Rows]:
        matrix, rows = self._index._matrix, self.rows
        if rows is None:
            return _flat(queries, matrix, width, self._index._metric)
        sign = 1 if self._index._metric == "euclidean" else -1
        best, chosen = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        for start in range(0, len(rows), _GATHERED):
            some = rows[start : start + _GATHERED]
            near, numbers = _flat(queries, matrix[some], min(width, len(some)), self._index._metric)
            best, chosen = np.hstack([best, near]), np.hstack([chosen, some[numbers]])
            order = np.argsort(sign * best, axis=1, kind="stable")[:, :width]
            best, chosen = np.take_along_axis(best, order, 1), np.take_along_axis(chosen, order, 1)
        return best, chosen

    def _probed(self, queries: Matrix, width: int) -> tuple[npt.NDArray[np.float32], Rows]:
        import faiss

        index, probes = self._index, self.probes
        assert index._centroids is not None
        assert probes is not None
        lists = index._centroids.search(queries, probes)
        near = np.empty((len(queries), width), np.float32)
        rows = np.empty((len(queries), width), np.int64)
        parameters: Any = faiss.SearchParametersIVF()
        parameters.nprobe = probes
        # faiss keeps addresses only: what it points to must outlive the call.
        selector = None
        if self._bits is not None:
            selector = faiss.IDSelectorBitmap(8 * len(self._bits), faiss.swig_ptr(self._bits))
            parameters.sel = selector
        numbers, distances = np.ascontiguousarray(lists.rows), np.ascontiguousarray(lists.values)
        arrays = [faiss.swig_ptr(array) for array in (numbers, distances, near, rows)]
        index._inverted.search_preassigned_c(
            len(queries), faiss.swig_ptr(queries), width, *arrays, False, parameters
        )
        del selector
        return near, rows


def compared(queries: Matrix, matrix: Matrix, numbers: Rows, rows: Rows) -> npt.NDArray[np.float32]:
    """The inner product of each pair of a query and a row, whatever the other pairs are."""
    found = np.empty((len(rows), 1), np.float32)
    _compare(queries[numbers], matrix, np.ascontiguousarray(rows, np.int64)[:, None], False, found)
    return found[:, 0]


def _flat(
    queries: Matrix, matrix: Matrix, width: int, metric: Metric
) -> tuple[npt.NDArray[np.float32], Rows]:
    import faiss

    kind = faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
    if width <= _GPU_WIDEST and hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        near, rows = faiss.knn_gpu(faiss.StandardGpuResources(), queries, matrix, width, metric=kind)
    else:
        near, rows = faiss.knn(queries, matrix, width, metric=kind)
    return near, rows


def _slack(
    lengths: npt.NDArray[np.float32], longest: float, dimensions: int, metric: Metric
) -> npt.NDArray[np.float32]:
    """By how much single precision may mistake the difference of two values of a query.

    An inner product of d numbers is wrong by at most d units of the last place of the lengths' product,
    whatever the order of its additions; a squared distance, made of three such, of the lengths' squared sum.
    """
    unit = (dimensions + 4) * 2.0**-24
    scale = (lengths + longest) ** 2 if metric == "euclidean" else lengths * longest
    return np.asarray(2 * unit * scale, np.float32)


def _centroids(matrix: Matrix, lists: int, metric: Metric, seed: int) -> Matrix:
    size = min(len(matrix), SAMPLE_ROWS * lists)
    drawn = np.argsort(np.random.PCG64(seed).random_raw(len(matrix)), kind="stable")[:size]
    sample = np.ascontiguousarray(matrix[np.sort(drawn)])
    return kmeans.train(sample, lists, iterations=ROUNDS, metric=_KMEANS[metric], seed=seed)


@kernel(f"void({_READ}, {_READ}, int64[:,::1], boolean, float32[:,::1])")
def _compare(queries: Any, matrix: Any, candidates: Any, euclidean: bool, found: Any) -> None:
    """The value of each candidate, the higher the nearer: an inner product, or less the squared distance;
    -inf where the candidate is -1. Four sums in double precision, so that they need not wait on each other.
    """
    dimensions = queries.shape[1]
    whole = dimensions - dimensions % 4
    for query in range(len(queries)):
        for place in range(candidates.shape[1]):
            row = candidates[query, place]
            if row < 0:
                found[query, place] = -np.inf
                continue
            a, b, c, d = 0.0, 0.0, 0.0, 0.0
            if euclidean:
                for at in range(0, whole, 4):
                    a -= (np.float64(queries[query, at]) - np.float64(matrix[row, at])) ** 2
                    b -= (np.float64(queries[query, at + 1]) - np.float64(matrix[row, at + 1])) ** 2
                    c -= (np.float64(queries[query, at + 2]) - np.float64(matrix[row, at + 2])) ** 2
                    d -= (np.float64(queries[query, at + 3]) - np.float64(matrix[row, at + 3])) ** 2
                for at in range(whole, dimensions):
                    a -= (np.float64(queries[query, at]) - np.float64(matrix[row, at])) ** 2
            else:
                for at in range(0, whole, 4):
                    a += np.float64(queries[query, at]) * np.float64(matrix[row, at])
                    b += np.float64(queries[query, at + 1]) * np.float64(matrix[row, at + 1])
                    c += np.float64(queries[query, at + 2]) * np.float64(matrix[row, at + 2])
                    d += np.float64(queries[query, at + 3]) * np.float64(matrix[row, at + 3])
                for at in range(whole, dimensions):
                    a += np.float64(queries[query, at]) * np.float64(matrix[row, at])
            found[query, place] = np.float32((a + b) + (c + d))
