"""SemDeDup within one cluster: which rows are too near an earlier one (Abbas et al. 2023, arXiv:2303.09540).

As in the authors' code (github.com/facebookresearch/SemDeDup, semdedup.py) a row is compared with all that
come before it, with those too that go themselves: of a chain in which each is near the next alone, only the
first stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from ..embeddings.matrix import Matrix
from ..embeddings.neighbours import BLOCK_ROWS, cosine, rounding
from ..kernels import kernel
from .clusters import mix

Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]
Doubles = npt.NDArray[np.float64]
Order = Literal["hard", "easy", "random"]

KERNELS: Final = ("thresher.filters.dedup.semantic",)

_ROWS = "Array(float32, 2, 'C', readonly=True)"


def in_order(
    similarity: npt.NDArray[np.floating],
    draws: Uint64s,
    positions: Uint64s,
    order: Order,
    clusters: Uint64s | None = None,
) -> Int64s:
    """The numbers of the rows in the order in which they are kept, by cluster where `clusters` says it.

    `similarity` is that to the centroid: `hard` takes the least first, `easy` the largest, `random` the least
    draw. Ties break by draw, then by position.
    """
    criteria: list[npt.NDArray[np.generic]] = [positions, draws]
    if order != "random":
        criteria.append(similarity if order == "hard" else -similarity)
    return np.lexsort(criteria if clusters is None else [*criteria, clusters])


@kernel(f"void({_ROWS}, uint64[::1])")
def _hash_rows(rows: Matrix, hashes: Uint64s) -> None:
    for i in range(len(rows)):
        found = np.uint64(len(rows[i]))
        for j in range(rows.shape[1]):
            bits = np.float32(rows[i, j]).view(np.uint32)
            found = np.uint64((found ^ np.uint64(bits)) * np.uint64(0x9E3779B97F4A7C15))
            found = np.uint64(found ^ (found >> np.uint64(29)))
        hashes[i] = mix(found)


@kernel(
    f"void(float32[:, ::1], {_ROWS}, {_ROWS}, int64[::1], int64, float32, float64, float64[::1], int64[::1])"
)
def _scan(
    products: Matrix,
    later: Matrix,
    earlier: Matrix,
    numbers: Int64s,
    first: int,
    bar: np.float32,
    error: float,
    nearest: Doubles,
    keepers: Int64s,
) -> None:
    """Takes the rows `numbers` into account for those from `first` on that come after them."""
    for row in range(len(products)):
        this = first + row
        for place in range(len(numbers)):
            if numbers[place] >= this:
                break
            here = products[row, place]
            if here > bar and here > nearest[this] - error:
                exact = cosine(earlier[place], later[row])
                if exact > nearest[this]:
                    nearest[this] = exact
                    keepers[this] = numbers[place]


def too_near(rows: int, read: Callable[[int, int], Matrix], threshold: float) -> tuple[Int64s, Int64s]:
    """The rows whose cosine to an earlier row is above `threshold`, and for each the nearest earlier one.

    `read(start, stop)` gives rows of length one, in order. Of equally near rows the earliest counts. Holds
    two blocks of BLOCK_ROWS rows and their products, and 33 bytes for each row; each block is read again for
    each behind it. The result does not depend on how products are rounded.
    """
    nearest, keepers = np.full(rows, -2.0), np.full(rows, -1, np.int64)
    # What a copy of an earlier row would say, that row has said.
    is_first = _firsts(rows, read)
    for start in range(0, rows, BLOCK_ROWS):
        later = np.ascontiguousarray(read(start, min(start + BLOCK_ROWS, rows)))
        error = rounding(later.shape[1])
        bar = np.float32(threshold - error - 1e-7)
        for before in range(0, start + 1, BLOCK_ROWS):
            numbers = np.flatnonzero(is_first[before : before + BLOCK_ROWS])
            if not len(numbers):
                continue
            block = later if before == start else read(before, before + BLOCK_ROWS)
            earlier = block if len(numbers) == len(block) else block[numbers]
            products = later @ earlier.T  # of a block with itself, half of them are computed
            _scan(products, later, earlier, numbers + before, start, bar, error, nearest, keepers)
    gone = np.flatnonzero(nearest > threshold)
    return gone, keepers[gone]


def _firsts(rows: int, read: Callable[[int, int], Matrix]) -> npt.NDArray[np.bool_]:
    """Which rows have no equal among the earlier ones."""
    hashes = np.empty(rows, np.uint64)
    for start in range(0, rows, BLOCK_ROWS):
        block = np.ascontiguousarray(read(start, min(start + BLOCK_ROWS, rows)))
        _hash_rows(block, hashes[start : start + BLOCK_ROWS])
    is_first = np.zeros(rows, np.bool_)
    is_first[np.unique(hashes, return_index=True)[1]] = True
    return is_first
