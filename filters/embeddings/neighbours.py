"""The nearest rows by cosine, the same to the last bit whatever multiplies the matrices.

Products of matrices differ in their last bits with the library, the threads and where a block ends. Here they
only say which rows may be near enough; sums of fixed order decide.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ..kernels import kernel
from .matrix import Matrix

Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

KERNELS: Final = ("thresher.filters.embeddings.neighbours",)
BLOCK_ROWS: Final = 1024  # of either side of a product
NOBODY: Final = 2**64 - 1  # a position that no record has
_PRODUCTS: Final = 1 << 22  # that are held at a time: 16 MB

_ROW = "Array(float32, 1, 'C', readonly=True)"
_ROWS = "Array(float32, 2, 'C', readonly=True)"
_POSITIONS = "Array(uint64, 1, 'C', readonly=True)"


@kernel(f"float64({_ROW}, {_ROW})")
def cosine(one: Floats, other: Floats) -> float:
    """The product of two rows of length one, at most 1: eight sums of fixed order, which the processor forms
    at the same time."""
    a = b = c = d = e = f = g = h = 0.0
    whole = len(one) // 8 * 8
    for i in range(0, whole, 8):
        a += np.float64(one[i]) * np.float64(other[i])
        b += np.float64(one[i + 1]) * np.float64(other[i + 1])
        c += np.float64(one[i + 2]) * np.float64(other[i + 2])
        d += np.float64(one[i + 3]) * np.float64(other[i + 3])
        e += np.float64(one[i + 4]) * np.float64(other[i + 4])
        f += np.float64(one[i + 5]) * np.float64(other[i + 5])
        g += np.float64(one[i + 6]) * np.float64(other[i + 6])
        h += np.float64(one[i + 7]) * np.float64(other[i + 7])
    for i in range(whole, len(one)):
        a += np.float64(one[i]) * np.float64(other[i])
    return min(((a + b) + (c + d)) + ((e + f) + (g + h)), 1.0)


def rounding(dimensions: int) -> float:
    """By how much a product of rows of length one in float32 is wrong at most: a rounding of 2**-24 for each
    number (Higham 2002, Accuracy and Stability, section 3.1)."""
    return 1.01 * (dimensions + 16) * 2.0**-24


@kernel(
    f"void(float32[:, ::1], {_POSITIONS}, {_POSITIONS}, float32, float32, float32[::1], float32[::1],"
    " int64[::1])"
)
def _survey(
    products: Matrix,
    of: Uint64s,
    positions: Uint64s,
    floor: np.float32,
    error: np.float32,
    top: Floats,
    bars: Floats,
    counts: Int64s,
) -> None:
    """For each row the product above which another may be one of the len(top) nearest, and how many are."""
    for i in range(len(products)):
        held = 0
        for j in range(products.shape[1]):
            here = products[i, j]
            if here <= floor or positions[j] == of[i]:
                continue
            if held < len(top):
                held += 1
            elif here <= top[held - 1]:
                continue
            place = held - 1
            while place > 0 and top[place - 1] < here:
                top[place] = top[place - 1]
                place -= 1
            top[place] = here
        bars[i], counts[i] = floor, held
        if held == len(top):
            # An error on either side, and the rounding of this difference itself.
            bars[i] = max(floor, top[held - 1] - np.float32(2.001) * error - np.float32(1e-7))
            counts[i] = 0
            for j in range(products.shape[1]):
                counts[i] += products[i, j] > bars[i] and positions[j] != of[i]


@kernel(
    f"void(float32[:, ::1], {_ROWS}, {_ROWS}, {_POSITIONS}, {_POSITIONS}, float32[::1], int64[::1],"
    " int64[::1], int64[::1], float64[::1])"
)
def _collect(
    products: Matrix,
    queries: Matrix,
    base: Matrix,
    of: Uint64s,
    positions: Uint64s,
    bars: Floats,
    counts: Int64s,
    mine: Int64s,
    theirs: Int64s,
    similarity: Doubles,
) -> None:
    found = 0
    for i in range(len(products)):
        if not counts[i]:
            continue
        for j in range(products.shape[1]):
            if products[i, j] > bars[i] and positions[j] != of[i]:
                mine[found], theirs[found] = i, j
                similarity[found] = cosine(queries[i], base[j])
                found += 1


def neighbours(
    queries: Matrix,
    of: Uint64s,
    base: Matrix,
    positions: Uint64s,
    ties: Uint64s,
    k: int,
    min_similarity: float,
) -> tuple[Int64s, Int64s, Doubles]:
    """For each query its `k` nearest rows of `base` with a cosine above `min_similarity`: the numbers of both
    rows, and the cosine, the nearest of each query first.

    Rows have length one. `of` and `positions` say whose they are: nobody is near itself. Equally near ones
    are ordered by `ties`, then by position. Holds the products of all rows.
    """
    error = np.float32(rounding(base.shape[1]))
    products = queries @ base.T
    bars, counts = np.empty(len(queries), np.float32), np.empty(len(queries), np.int64)
    floor = np.float32(min_similarity) - error - np.float32(1e-7)
    _survey(products, of, positions, floor, error, np.empty(k, np.float32), bars, counts)
    size = int(counts.sum())
    mine, theirs, similarity = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
    _collect(products, queries, base, of, positions, bars, counts, mine, theirs, similarity)
    near = np.flatnonzero(similarity > min_similarity)
    chosen = near[first_of_each(mine[near], similarity[near], ties[theirs[near]], positions[theirs[near]], k)]
    return mine[chosen], theirs[chosen], similarity[chosen]


def first_of_each(
    group: npt.NDArray[np.integer], similarity: Doubles, ties: Uint64s, positions: Uint64s, k: int
) -> Int64s:
    """The numbers of the `k` rows of each group that are nearest, by group and from the nearest on."""
    order = np.lexsort((positions, ties, -similarity, group))
    ordered = group[order]
    opens = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(order)])
    lengths = np.diff(np.append(opens, len(order)))
    ranks = np.arange(len(order)) - np.repeat(opens, lengths)
    return np.asarray(order[ranks < k], np.int64)


def nearest_lists(rows: Matrix, centroids: Matrix, probes: int) -> npt.NDArray[np.int64]:
    """For each row the numbers of its `probes` nearest centroids, or of all, the nearest first: (n, probes).

    Rows and centroids have length one; of equally near centroids the lower number is first.
    """
    probes = min(probes, len(centroids))
    numbers = np.arange(len(centroids), dtype=np.uint64)
    found = np.empty((len(rows), probes), np.int64)
    step = max(16, _PRODUCTS // max(1, len(centroids)))
    for start in range(0, len(rows) if probes else 0, step):
        some = np.ascontiguousarray(rows[start : start + step])
        of = np.full(len(some), NOBODY, np.uint64)
        _, lists, _ = neighbours(some, of, centroids, numbers, numbers, probes, -2.0)
        found[start : start + step] = lists.reshape(len(some), probes)
    return found
