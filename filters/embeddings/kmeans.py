"""k-means of embeddings: the same to the last bit whatever multiplies the matrices.

Products of matrices differ in their last bits with the library, the processor, the threads and where a block
ends. Here they only say which centroids may be the nearest: of those that are nearer than any other by less
than the products' error, a sum of fixed order decides. All that follows is sums of fixed order too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import xxhash

from ..kernels import kernel
from .matrix import Matrix, normalised

Metric = Literal["cosine", "euclidean"]
Numbers = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

KERNELS: Final = ("thresher.filters.embeddings.kmeans",)
BLOCK_NUMBERS: Final = 1 << 22  # products that are held at a time: 16 MB
_BLOCK_ROWS: Final = 8192
_ROUNDING: Final = 2.0**-24  # of float32
_LEAST_SQUARE: Final = np.float32(1e-30)
# By how much the halves of a cluster that is split move apart; faiss (Clustering.cpp) takes the same.
_APART: Final = 1 / 1024

_RO = "Array(float32, 2, 'C', readonly=True)"


@kernel("float64(Array(float32, 1, 'C', readonly=True), Array(float32, 1, 'C', readonly=True), boolean)")
def _closeness(row: Floats, centroid: Floats, euclidean: bool) -> float:
    """The product, or minus the square of the distance: four sums of fixed order, so that they overlap."""
    a = b = c = d = 0.0
    whole = len(row) // 4 * 4
    if euclidean:
        for i in range(0, whole, 4):
            p = np.float64(row[i]) - np.float64(centroid[i])
            q = np.float64(row[i + 1]) - np.float64(centroid[i + 1])
            r = np.float64(row[i + 2]) - np.float64(centroid[i + 2])
            s = np.float64(row[i + 3]) - np.float64(centroid[i + 3])
            a += p * p
            b += q * q
            c += r * r
            d += s * s
        for i in range(whole, len(row)):
            p = np.float64(row[i]) - np.float64(centroid[i])
            a += p * p
        return -((a + b) + (c + d))
    for i in range(0, whole, 4):
        a += np.float64(row[i]) * np.float64(centroid[i])
        b += np.float64(row[i + 1]) * np.float64(centroid[i + 1])
        c += np.float64(row[i + 2]) * np.float64(centroid[i + 2])
        d += np.float64(row[i + 3]) * np.float64(centroid[i + 3])
    for i in range(whole, len(row)):
        a += np.float64(row[i]) * np.float64(centroid[i])
    return (a + b) + (c + d)


@kernel(f"void(float32[:, ::1], float32[::1], {_RO}, {_RO}, boolean, int32[::1])")
def _settle(
    products: Matrix, bars: Floats, rows: Matrix, centroids: Matrix, euclidean: bool, numbers: Numbers
) -> None:
    """For each row the nearest of the centroids whose product is not below its bar, of equals the first."""
    for i in range(len(products)):
        bar = bars[i]
        found = 0
        best = 0.0
        number = 0
        for j in range(products.shape[1]):
            if products[i, j] < bar:
                continue
            found += 1
            if found == 1:
                number = j
                continue
            if found == 2:
                best = _closeness(rows[i], centroids[number], euclidean)
            here = _closeness(rows[i], centroids[j], euclidean)
            if here > best:
                best, number = here, j
        numbers[i] = number


@kernel(f"void({_RO}, {_RO}, int32[::1], boolean, float32[::1])")
def _measure(rows: Matrix, centroids: Matrix, numbers: Numbers, euclidean: bool, closeness: Floats) -> None:
    for i in range(len(rows)):
        found = _closeness(rows[i], centroids[numbers[i]], euclidean)
        closeness[i] = -np.sqrt(-found) if euclidean else found


@kernel(f"void({_RO}, int32[::1], float64[:, ::1], int64[::1])")
def _add_up(
    rows: Matrix, numbers: Numbers, sums: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
) -> None:
    for i in range(len(rows)):
        number = numbers[i]
        counts[number] += 1
        for j in range(rows.shape[1]):
            sums[number, j] += rows[i, j]


@kernel("void(float64[:, ::1], int64[::1], boolean, float32[:, ::1])")
def _place(
    sums: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], spherical: bool, centroids: Matrix
) -> None:
    """Moves each centroid to the mean of its rows, with length one where they are on a sphere; one without
    rows, or whose rows cancel out, stays where it is."""
    for i in range(len(sums)):
        size = float(counts[i])
        if spherical:
            square = 0.0
            for j in range(sums.shape[1]):
                square += sums[i, j] * sums[i, j]
            size = float(np.sqrt(square))
        if size > 0:
            for j in range(sums.shape[1]):
                centroids[i, j] = sums[i, j] / size


def train(sample: Matrix, clusters: int, *, iterations: int, metric: Metric, seed: int) -> Matrix:
    """Centroids by Lloyd's k-means of the rows of `sample`: float32 (k, dimensions).

    It begins with `clusters` different rows, drawn by `seed` and the order of the rows, and ends after
    `iterations` rounds, or once none changes anything; a cluster that has become empty gets half of the
    largest one. k is `clusters`, or the number of different rows where that is less (0 of no row).

    `cosine`: rows count by their direction, centroids have length one; rows of zeros, which have none, are
    left out. The result is the same for the same arguments on any number of threads. Memory: `sample` once
    more (for cosine), 12 bytes for each number of a centroid, and 16 MB.
    """
    rows = np.ascontiguousarray(sample, np.float32)
    if metric == "cosine":
        rows = normalised(rows[rows.any(axis=1)])
    order = np.argsort(np.random.PCG64(seed & (1 << 64) - 1).random_raw(len(rows)), kind="stable")
    centroids = rows[_first_distinct(rows, order, clusters)]
    before: Numbers | None = None
    for _ in range(iterations if len(centroids) else 0):
        numbers = nearest(rows, centroids, metric)
        if before is not None and np.array_equal(numbers, before):
            break
        sums, counts = np.zeros(centroids.shape, np.float64), np.zeros(len(centroids), np.int64)
        _add_up(rows, numbers, sums, counts)
        _place(sums, counts, metric == "cosine", centroids)
        before = None if _fill_empty(centroids, counts, metric) else numbers
    return centroids


def assign(matrix: Matrix, centroids: Matrix, metric: Metric) -> tuple[Numbers, Floats]:
    """For each row of `matrix` the number of the nearest centroid, and how near it is.

    int32 (n,): of equally near centroids the lowest number; -1 where there are no centroids. float32 (n,):
    `cosine` the cosine, for centroids of length one, as `train` gives them, and rows of any length (0 for a
    row of zeros, which is then in cluster 0); `euclidean` minus the distance. Neither depends on what else is
    in `matrix`, nor on threads.

    Raises ValueError where rows and centroids have different dimensions.
    """
    if not len(centroids) or not len(matrix):
        return np.full(len(matrix), -1, np.int32), np.full(len(matrix), np.nan, np.float32)
    if matrix.shape[1] != centroids.shape[1]:
        raise ValueError(
            f"an embedding has {matrix.shape[1]} numbers where centroids have {centroids.shape[1]}"
        )
    rows = np.ascontiguousarray(matrix, np.float32)
    if metric == "cosine":
        rows = normalised(rows)
    numbers = nearest(rows, centroids, metric)
    closeness = np.empty(len(rows), np.float32)
    _measure(rows, centroids, numbers, metric == "euclidean", closeness)
    return numbers, closeness


def nearest(rows: Matrix, centroids: Matrix, metric: Metric) -> Numbers:
    """The numbers that `assign` gives, for rows that have length one already where the metric is cosine."""
    euclidean = metric == "euclidean"
    numbers = np.empty(len(rows), np.int32)
    lengths = np.einsum("ij,ij->i", centroids, centroids, dtype=np.float64)
    half = (lengths / 2).astype(np.float32)
    longest = float(np.sqrt(lengths.max()))
    for block in _blocks(len(rows), len(centroids)):
        products = rows[block] @ centroids.T
        if euclidean:
            products -= half
        bars = products.max(axis=1) - 2 * _error(rows[block], longest, euclidean)
        _settle(
            products,
            np.nextafter(bars.astype(np.float32), np.float32(-np.inf)),
            rows[block],
            centroids,
            euclidean,
            numbers[block],
        )
    return numbers


def _blocks(rows: int, clusters: int) -> Iterator[slice]:
    step = min(max(16, BLOCK_NUMBERS // clusters), _BLOCK_ROWS)
    return (slice(start, start + step) for start in range(0, rows, step))


def _error(rows: Matrix, longest: float, euclidean: bool) -> npt.NDArray[np.float64]:
    """By how much the product of each row and any centroid is wrong at most: n roundings of terms whose sum
    is no more than the product of the lengths (Higham 2002, Accuracy and Stability, section 3.1)."""
    squares = np.einsum("ij,ij->i", rows, rows)
    # Squares of what is shorter would vanish; what is too long for its square counts as infinitely long.
    size = np.sqrt(np.maximum(squares, _LEAST_SQUARE).astype(np.float64)) * longest
    if euclidean:
        size += longest**2 / 2
    size[size > np.finfo(np.float32).max / 4] = np.inf  # and the products may be too large for their type
    return np.asarray(1.01 * (rows.shape[1] + 16) * (_ROUNDING * size + np.finfo(np.float32).tiny))


def _first_distinct(rows: Matrix, order: npt.NDArray[np.int64], wanted: int) -> npt.NDArray[np.int64]:
    seen: set[bytes] = set()
    chosen: list[int] = []
    for row in order:
        if len(chosen) == wanted:
            break
        key = xxhash.xxh3_128_digest((rows[row] + 0).tobytes())  # -0.0 becomes 0.0
        if key not in seen:
            seen.add(key)
            chosen.append(row)
    return np.array(chosen, np.int64)


def _fill_empty(centroids: Matrix, counts: npt.NDArray[np.int64], metric: Metric) -> int:
    """Splits the largest cluster for each that is empty, into halves a little apart; how many there were."""
    empty = np.flatnonzero(counts == 0)
    apart = np.where(np.arange(centroids.shape[1]) % 2, 1 - _APART, 1 + _APART)
    for number in empty:
        largest = int(counts.argmax())
        halves = np.stack([centroids[largest] * apart, centroids[largest] * (2 - apart)]).astype(np.float32)
        centroids[np.array([number, largest])] = normalised(halves) if metric == "cosine" else halves
        counts[number] = counts[largest] // 2
        counts[largest] -= counts[number]
    return len(empty)
