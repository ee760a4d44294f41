"""Connected components by exchanges: large-star and small-star, in turn, until nothing moves.

Kiveris, Lattanzi, Mirrokni, Rastogi, Vassilvitskii, Connected Components in MapReduce and Beyond, SoCC 2014.
Large-star: every vertex tells its larger neighbours the least of its neighbours and itself. Small-star: every
vertex joins its smaller neighbours, and itself, with the least of them. Neither changes the components, and
neither adds an edge. Once neither moves one, each component is a star around its least vertex.

A row is (key, other), both uint64: an edge as the vertex `vertex_of(key)` sees it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ..kernels import kernel
from .clusters import mix

Uint64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]

NOTHING: Final = 2**64 - 1  # least of no neighbours

_RO = "Array(uint64, 1, 'C', readonly=True)"  # columns of Arrow are read-only


@kernel("uint64(uint64)")
def unmix(value: np.uint64) -> np.uint64:
    """The inverse of `mix`: its multipliers' inverses modulo 2**64; a shift by 33 undoes itself."""
    value = np.uint64(value ^ (value >> np.uint64(33)))
    value = np.uint64(value * np.uint64(0x9CB4B2F8129337DB))
    value = np.uint64(value ^ (value >> np.uint64(33)))
    value = np.uint64(value * np.uint64(0x4F74430C22A54005))
    return np.uint64(value ^ (value >> np.uint64(33)))


@kernel(f"void({_RO}, uint64[::1])")
def _mix_all(values: Uint64s, mixed: Uint64s) -> None:
    for i in range(len(values)):
        mixed[i] = mix(values[i])


@kernel(f"void({_RO}, uint64[::1])")
def _unmix_all(values: Uint64s, plain: Uint64s) -> None:
    for i in range(len(values)):
        plain[i] = unmix(values[i])


def spread(values: Uint64s) -> Uint64s:
    """Keys for an exchange: `values`, in one-to-one correspondence, uniform over 64 bits."""
    mixed = np.empty(len(values), np.uint64)
    _mix_all(np.ascontiguousarray(values), mixed)
    return mixed


def gather(keys: Uint64s) -> Uint64s:
    """The values of which `spread` has made the keys."""
    plain = np.empty(len(keys), np.uint64)
    _unmix_all(np.ascontiguousarray(keys), plain)
    return plain


def mirrored(src: Uint64s, dst: Uint64s) -> tuple[Uint64s, Uint64s]:
    """The rows of large-star: each edge as both of its ends see it."""
    return spread(np.concatenate([src, dst])), np.concatenate([dst, src])


def downward(src: Uint64s, dst: Uint64s) -> tuple[Uint64s, Uint64s]:
    """The rows of small-star: each edge as the larger of its ends sees it."""
    return spread(np.maximum(src, dst)), np.minimum(src, dst)


def large_star(keys: Uint64s, others: Uint64s, least: int = NOTHING) -> tuple[tuple[Uint64s, Uint64s], int]:
    """The edges (smaller, larger) of whole groups of rows, and how many of them are new.

    Rows are sorted by key. A group that comes in pieces is given one by one, with the `least` of all.
    """
    src, dst, counts = _room(len(keys))
    _large(keys, others, np.uint64(least), src, dst, counts)
    return (src[: counts[0]], dst[: counts[0]]), int(counts[1])


def small_star(keys: Uint64s, others: Uint64s, least: int = NOTHING) -> tuple[tuple[Uint64s, Uint64s], int]:
    """As `large_star`; the edge between a vertex and its least neighbour is given once for each piece."""
    src, dst, counts = _room(len(keys))
    _small(keys, others, np.uint64(least), src, dst, counts)
    return (src[: counts[0]], dst[: counts[0]]), int(counts[1])


def _room(rows: int) -> tuple[Uint64s, Uint64s, Int64s]:
    return np.empty(2 * rows, np.uint64), np.empty(2 * rows, np.uint64), np.zeros(2, np.int64)


_STAR = f"void({_RO}, {_RO}, uint64, uint64[::1], uint64[::1], int64[::1])"


@kernel(_STAR)
def _large(
    keys: Uint64s,
    others: Uint64s,
    floor: np.uint64,
    src: Uint64s,
    dst: Uint64s,
    counts: npt.NDArray[np.int64],
) -> None:
    start = 0
    while start < len(keys):
        vertex = unmix(keys[start])
        least = min(vertex, floor)
        stop = start
        while stop < len(keys) and keys[stop] == keys[start]:
            least = min(least, others[stop])
            stop += 1
        for row in range(start, stop):
            if others[row] > vertex:
                src[counts[0]], dst[counts[0]] = least, others[row]
                counts[0] += 1
                counts[1] += least != vertex
        start = stop


@kernel(_STAR)
def _small(
    keys: Uint64s,
    others: Uint64s,
    floor: np.uint64,
    src: Uint64s,
    dst: Uint64s,
    counts: npt.NDArray[np.int64],
) -> None:
    start = 0
    while start < len(keys):
        least = floor
        stop = start
        while stop < len(keys) and keys[stop] == keys[start]:
            least = min(least, others[stop])
            stop += 1
        src[counts[0]], dst[counts[0]] = least, unmix(keys[start])
        counts[0] += 1
        for row in range(start, stop):
            if others[row] != least:
                src[counts[0]], dst[counts[0]] = least, others[row]
                counts[0] += 1
                counts[1] += 1
        start = stop
