"""The records nearest to each query by cosine, found in one pass over the records, in bounded memory.

A product of matrices says which records may be among the nearest; a sum of fixed order decides, so that the
answer does not depend on where blocks end, nor on what multiplies them.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ..kernels import kernel
from .matrix import Matrix
from .neighbours import Doubles, Int64s, Uint64s, cosine, rounding

KERNELS: Final = ("thresher.filters.embeddings.nearest_records",)
BLOCK_ROWS: Final = 1024
BLOCK_QUERIES: Final = 4096
_HELD: Final = 1 << 20  # records that are held for all queries of a block

_ROWS = "Array(float32, 2, 'C', readonly=True)"
_UINT64S = "Array(uint64, 1, 'C', readonly=True)"


@kernel(
    f"void(float32[:, ::1], {_ROWS}, {_ROWS}, {_UINT64S}, {_UINT64S}, float64[::1], float64,"
    " float64[:, ::1], uint64[:, ::1], uint64[:, ::1], int64[::1])"
)
def _take(
    products: Matrix,
    queries: Matrix,
    records: Matrix,
    ties: Uint64s,
    positions: Uint64s,
    least: Doubles,
    error: float,
    nearest: Doubles,
    nearest_ties: Uint64s,
    nearest_positions: Uint64s,
    held: Int64s,
) -> None:
    """Puts the records into the lists of the nearest so far, each in the order that `NearestRecords` has."""
    k = nearest.shape[1]
    for i in range(len(products)):
        bar = least[i]
        if held[i] == k:
            bar = max(bar, nearest[i, k - 1])
        low = np.float32(bar - error)
        for j in range(products.shape[1]):
            if products[i, j] < low:
                continue
            here = cosine(queries[i], records[j])
            if here < least[i]:
                continue
            place = held[i]
            if place == k:
                place -= 1
                last = nearest[i, place]
                if here < last or (
                    here == last
                    and (ties[j], positions[j]) >= (nearest_ties[i, place], nearest_positions[i, place])
                ):
                    continue
            else:
                held[i] += 1
            while place > 0:
                before = nearest[i, place - 1]
                if here < before or (
                    here == before
                    and (ties[j], positions[j])
                    > (nearest_ties[i, place - 1], nearest_positions[i, place - 1])
                ):
                    break
                nearest[i, place] = before
                nearest_ties[i, place] = nearest_ties[i, place - 1]
                nearest_positions[i, place] = nearest_positions[i, place - 1]
                place -= 1
            nearest[i, place] = here
            nearest_ties[i, place], nearest_positions[i, place] = ties[j], positions[j]
            if held[i] == k:
                bar = max(bar, nearest[i, k - 1])
                low = np.float32(bar - error)


def queries_at_once(k: int) -> int:
    """Of how many queries a list is held at a time."""
    return max(1, min(BLOCK_QUERIES, _HELD // k))


class NearestRecords:
    """The `k` nearest records of each query, among those that were added so far.

    `queries`: float32, rows of length one. `least`: float64, for each query the least cosine that counts.
    Of equally near records those with the lowest tie come first, then those with the lowest position.
    Holds 24 bytes for each of the `k` of each query, and the products of a block: 16 MB.
    """

    def __init__(self, queries: Matrix, k: int, least: Doubles) -> None:
        self._queries = np.ascontiguousarray(queries, np.float32)
        self._least = np.ascontiguousarray(least, np.float64)
        self._nearest = np.empty((len(queries), k), np.float64)
        self._ties, self._positions = (np.empty((len(queries), k), np.uint64) for _ in range(2))
        self._held = np.zeros(len(queries), np.int64)
        # Beside the products' own error, that of a bar as float32.
        self._error = rounding(queries.shape[1]) + 1e-7

    def add(self, records: Matrix, ties: Uint64s, positions: Uint64s) -> None:
        """More records: float32 rows of length one, their ties and positions."""
        for start in range(0, len(records), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            some = np.ascontiguousarray(records[block])
            _take(
                self._queries @ some.T,
                self._queries,
                some,
                np.ascontiguousarray(ties[block]),
                np.ascontiguousarray(positions[block]),
                self._least,
                self._error,
                self._nearest,
                self._ties,
                self._positions,
                self._held,
            )

    def rows(self) -> tuple[Int64s, Doubles, Uint64s, Uint64s]:
        """By query, the nearest first: the number of the query, the cosine, the tie and the position."""
        there = np.arange(self._nearest.shape[1]) < self._held[:, None]
        queries = np.repeat(np.arange(len(self._held)), self._held)
        return queries, self._nearest[there], self._ties[there], self._positions[there]
