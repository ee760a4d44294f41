"""Clusters of candidates cut down to those that are similar indeed: Jaccard of the sets of shingles.

The candidates are pairs that share a band. In a band, every record is compared with the first `heads` records
of those that have its key, in the order of positions; with more than `heads` of one key, pairs of later ones
are not compared with each other. The clusters are the connected components of the pairs whose similarity is
at least the bound. Pairs that are joined already are not compared, which changes no component.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..kernels import kernel
from .minhash import MinHashScheme, shingle_hashes

Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]
Uint32s = npt.NDArray[np.uint32]

HEADS: Final = 64
CAP: Final = 1 << 16  # hashes of a record: beyond it, the smallest

_RO32 = "Array(uint32, 1, 'C', readonly=True)"
_RO64 = "Array(uint64, 1, 'C', readonly=True)"


def shingle_sets(text: pa.Array, scheme: MinHashScheme, cap: int = CAP) -> pa.LargeListArray:
    """The different shingle hashes of each text, sorted, of more than `cap` the smallest: lists of uint32."""
    first, hashes = shingle_hashes(text, scheme)
    kept = np.empty(len(hashes), np.uint32)
    offsets = np.zeros(len(first), np.int64)
    _distinct(first, hashes, cap, offsets, kept)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(kept[: offsets[-1]]))


@kernel("void(int64[::1], uint32[::1], int64, int64[::1], uint32[::1])")
def _distinct(first: Int64s, hashes: Uint32s, cap: int, offsets: Int64s, kept: Uint32s) -> None:
    count = 0
    for row in range(len(first) - 1):
        ordered = np.sort(hashes[first[row] : first[row + 1]])
        begin = count
        for i in range(len(ordered)):
            if count - begin == cap:
                break
            if i == 0 or ordered[i] != ordered[i - 1]:
                kept[count] = ordered[i]
                count += 1
        offsets[row + 1] = count


@kernel(f"float64({_RO32}, int64, int64, int64, int64, int64)")
def jaccard(values: Uint32s, a: int, a_stop: int, b: int, b_stop: int, cap: int) -> Any:
    """|A and B| / |A or B| of the sorted sets values[a:a_stop] and values[b:b_stop].

    A set of `cap` values may lack larger ones: then only hashes up to the largest that both would show are
    counted, which estimates the similarity without bias (Broder 1997, bottom-k sketches).
    """
    limit = np.uint32(0xFFFFFFFF)
    if a_stop - a == cap:
        limit = min(limit, values[a_stop - 1])
    if b_stop - b == cap:
        limit = min(limit, values[b_stop - 1])
    both, one = 0, 0
    while a < a_stop and b < b_stop and values[a] <= limit and values[b] <= limit:
        x, y = values[a], values[b]
        both += x == y
        one += 1
        a += x <= y
        b += y <= x
    while a < a_stop and values[a] <= limit:
        one += 1
        a += 1
    while b < b_stop and values[b] <= limit:
        one += 1
        b += 1
    return both / one if one else 0.0


@kernel("int64(int64[::1], int64)")
def _find(parent: Int64s, member: int) -> Any:
    while parent[member] != member:
        parent[member] = parent[parent[member]]
        member = parent[member]
    return member


_UNITE = f"void(int64[::1], int64[::1], int64, int64[::1], int64[::1], int64[::1], {_RO32}, float64, int64)"


@kernel(_UNITE)
def unite(
    rows: Int64s,
    starts: Int64s,
    heads: int,
    parent: Int64s,
    set_start: Int64s,
    set_stop: Int64s,
    values: Uint32s,
    bound: float,
    cap: int,
) -> None:
    """Joins similar records of each group in `parent`, a forest over all records.

    Group g is rows[starts[g]:starts[g + 1]], in the order of positions; only its first `heads` records are
    compared with those behind them. The set of the record rows[i] is values[set_start[i]:set_stop[i]].
    """
    for group in range(len(starts) - 1):
        begin, end = starts[group], starts[group + 1]
        for head in range(begin, min(begin + heads, end)):
            for other in range(head + 1, end):
                mine, theirs = _find(parent, rows[head]), _find(parent, rows[other])
                if mine == theirs:
                    continue
                similar = jaccard(
                    values, set_start[head], set_stop[head], set_start[other], set_stop[other], cap
                )
                if similar >= bound:
                    parent[max(mine, theirs)] = min(mine, theirs)


def roots(parent: Int64s) -> Int64s:
    """The root of each record in a forest that `unite` has made: the first of its component."""
    found = np.empty(len(parent), np.int64)
    _roots(parent, found)
    return found


@kernel("void(int64[::1], int64[::1])")
def _roots(parent: Int64s, found: Int64s) -> None:
    for member in range(len(parent)):
        found[member] = _find(parent, member)
