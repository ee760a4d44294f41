"""Exact joins of 64-bit hashes by Hamming distance: every pair within a radius, without all the others.

Of the 64 bits cut into m chunks, two hashes that differ in at most r bits agree on m - r chunks or more, so
they meet in the bucket of some choice of m - r chunks (Manku, Jain and Das Sarma, Detecting Near-Duplicates
for Web Crawling, WWW 2007, section 3, search so). What meets is compared by its true distance. A bucket that
is large is cut once more, by the bits in which its own hashes differ, where that leaves fewer pairs.

A row is (key, hash, …): `key` is the bucket, mixed so that partitions are of like size.
"""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import Final

import numpy as np
import numpy.typing as npt

from ..kernels import kernel
from .clusters import mix

Uint64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]

BITS: Final = 64
BUCKET: Final = 1 << 18  # hashes that a bucket should have at most, were they spread evenly
MOST_KEYS: Final = 64  # buckets that a hash may be in, unless it takes more chunks than that
DIVIDED: Final = 4096  # hashes beyond which it pays to cut a bucket
_WIDEST: Final = 16  # bits of a cut: its table has an entry for each value
_TILE = 4096  # hashes that stay in the cache while others pass
_BLOCK = 256  # distances of which the least is found without a branch
_LEAST_GAIN = 2  # by how much a cut must shorten the work

_RO = "Array(uint64, 1, 'C', readonly=True)"  # columns of Arrow are read-only


def chunks_for(rows: int, radius: int) -> int:
    """Into how many chunks so many hashes are cut: radius + 1, or more where buckets would grow too large.

    With more chunks fewer hashes meet by chance, but each is sent more often: at most radius + 1 or MOST_KEYS
    times. Depends on nothing but the numbers, so that a run that is resumed decides the same.
    """
    chunks = radius + 1
    while comb(chunks + 1, radius) <= MOST_KEYS and rows >> _agreeing_bits(chunks, radius) > BUCKET:
        chunks += 1
    return chunks


def keys_per_hash(radius: int, chunks: int) -> int:
    """How many buckets a hash is in."""
    return comb(chunks, radius)


def bucket_keys(hashes: Uint64s, radius: int, chunks: int) -> Uint64s:
    """The keys of the buckets of each hash, `keys_per_hash` in a row.

    Two hashes within `radius` share one at least. Raises ValueError for fewer than radius + 1 chunks or more
    than 64.
    """
    if not radius < chunks <= BITS:
        raise ValueError(f"{chunks} chunks for radius {radius}: it takes {radius + 1} to {BITS}")
    masks = [
        sum(_mask(chunk, chunks) for chunk in chosen)
        for chosen in combinations(range(chunks), chunks - radius)
    ]
    keys = np.empty(len(hashes) * len(masks), np.uint64)
    _bucket_keys(np.ascontiguousarray(hashes), np.array(masks, np.uint64), keys)
    return keys


def near_edges(keys: Uint64s, hashes: Uint64s, radius: int, first: int = 0) -> tuple[Int64s, Int64s]:
    """Rows (a, b) whose key is the same and whose hashes are within `radius`: a spanning forest of all those.

    Rows of one key follow each other. With `first`, pairs are those of one of the first rows with one of
    the others, whatever the order of keys.
    """
    join = _Join(hashes, radius, first, None)
    join.by_keys(keys)
    return join.edges


def nearest_rank(
    keys: Uint64s, hashes: Uint64s, radius: int, among: tuple[Uint64s, Uint64s, Uint64s]
) -> tuple[npt.NDArray[np.bool_], Uint64s]:
    """For each row whether a row of `among` (key, hash, rank) has its key and is within `radius` of it, and
    the least rank of such rows."""
    others, their_hashes, ranks = among
    none = np.uint64(2**64 - 1)
    best = np.concatenate([np.full(len(keys), none), ranks])
    join = _Join(np.concatenate([hashes, their_hashes]), radius, len(keys), best)
    join.by_keys(np.concatenate([keys, others]))
    return join.met[: len(keys)], best[: len(keys)]


def _agreeing_bits(chunks: int, radius: int) -> int:
    return sum(
        sorted(_edge(chunk + 1, chunks) - _edge(chunk, chunks) for chunk in range(chunks))[: chunks - radius]
    )


def _edge(chunk: int, chunks: int) -> int:
    return BITS * chunk // chunks


def _mask(chunk: int, chunks: int) -> int:
    return (1 << _edge(chunk + 1, chunks)) - (1 << _edge(chunk, chunks))


class _Join:
    """Compares what is in one bucket, and remembers what is joined already.

    `first`: 0, or the number of rows of one side, each of which is compared with the rows of the other only.
    `best`: None to join what is near, else the rank of each row, of which the first rows take the least.
    """

    def __init__(self, hashes: Uint64s, radius: int, first: int, best: Uint64s | None) -> None:
        rows = len(hashes)
        self._hashes, self._radius, self._first = np.ascontiguousarray(hashes), radius, first
        self._best = np.empty(0, np.uint64) if best is None else best
        self.met = np.zeros(rows if best is not None else 0, np.bool_)
        joined = rows if best is None else 0
        self._parent = np.arange(joined)
        self._seen = np.full(joined, -1)
        self._src, self._dst = np.empty(joined, np.int64), np.empty(joined, np.int64)
        self._state = np.zeros(2, np.int64)  # edges found, runs compared

    @property
    def edges(self) -> tuple[Int64s, Int64s]:
        found = int(self._state[0])
        return self._src[:found], self._dst[:found]

    def by_keys(self, keys: Uint64s) -> None:
        rows = np.argsort(keys, kind="stable")
        keys = keys[rows]
        new = np.ones(len(keys), np.bool_)
        new[1:] = keys[1:] != keys[:-1]
        self._compare(rows, np.append(np.flatnonzero(new), len(keys)))

    def _compare(self, rows: Int64s, starts: Int64s, all_of_it: bool = False) -> None:
        """Compares the rows of each run `starts[n]` to `starts[n + 1]` with each other."""
        hashes = self._hashes[rows]
        large = np.empty(len(starts), np.int64)
        most = np.iinfo(np.int64).max if all_of_it else DIVIDED
        left = _compare_runs(
            hashes,
            rows,
            starts,
            most,
            self._first,
            self._radius,
            self._best,
            self.met,
            self._parent,
            self._seen,
            self._src,
            self._dst,
            self._state,
            large,
        )
        for run in large[:left]:
            self._divide(rows[starts[run] : starts[run + 1]])

    def _divide(self, rows: Int64s) -> None:
        hashes = self._hashes[rows]
        differing = int(np.bitwise_or.reduce(hashes ^ hashes[0]))
        bits = np.array([bit for bit in range(BITS) if differing >> bit & 1], np.int64)
        cuts = [cut[:_WIDEST] for cut in np.array_split(bits, self._radius + 1)]
        # A cut into more pieces than there are hashes costs more than it saves.
        cuts = [cut[: len(rows).bit_length()] for cut in cuts]
        sizes = [_sizes(hashes, cut) for cut in cuts]
        pairs = sum(float(np.square(counts, dtype=np.float64).sum()) for counts in sizes)
        if pairs * _LEAST_GAIN > float(len(rows)) ** 2:
            self._compare(rows, np.array([0, len(rows)]), all_of_it=True)
            return
        for cut, counts in zip(cuts, sizes, strict=True):
            starts = np.concatenate([[0], np.cumsum(counts)])
            order = np.empty(len(rows), np.int64)
            _in_order(hashes, cut, starts[:-1].copy(), order)
            occupied = np.flatnonzero(counts > 1)
            if len(occupied):
                self._compare_some(rows[order], starts, occupied)

    def _compare_some(self, rows: Int64s, starts: Int64s, occupied: Int64s) -> None:
        # Most pieces of a wide cut are empty or of one hash: what is left is put together.
        lengths = starts[occupied + 1] - starts[occupied]
        ends = np.cumsum(lengths)
        shift = np.repeat(starts[occupied] - (ends - lengths), lengths)
        self._compare(rows[np.arange(len(shift)) + shift], np.concatenate([[0], ends]))


def _sizes(hashes: Uint64s, bits: Int64s) -> Int64s:
    counts = np.zeros(1 << len(bits), np.int64)
    _count(hashes, bits, counts)
    return counts


@kernel("uint64(uint64)", inline="always")
def _ones(value: np.uint64) -> np.uint64:
    """The number of bits that are set: Warren, Hacker's Delight, figure 5-2, in 64 bits."""
    value = value - ((value >> np.uint64(1)) & np.uint64(0x5555555555555555))
    value = (value & np.uint64(0x3333333333333333)) + (
        (value >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.uint64(value * np.uint64(0x0101010101010101)) >> np.uint64(56)


@kernel(f"void({_RO}, uint64[::1], uint64[::1])")
def _bucket_keys(hashes: Uint64s, masks: Uint64s, keys: Uint64s) -> None:
    for row in range(len(hashes)):
        for number in range(len(masks)):
            salt = mix(np.uint64(number + 1))  # equal bits of other chunks are another bucket
            keys[row * len(masks) + number] = mix((hashes[row] & masks[number]) ^ salt)


@kernel("int64(uint64, int64[::1])")
def _value(value: np.uint64, bits: Int64s) -> int:
    found = np.uint64(0)
    for place in range(len(bits)):
        found |= ((value >> np.uint64(bits[place])) & np.uint64(1)) << np.uint64(place)
    return int(found)


@kernel("void(uint64[::1], int64[::1], int64[::1])")
def _count(hashes: Uint64s, bits: Int64s, counts: Int64s) -> None:
    for row in range(len(hashes)):
        counts[_value(hashes[row], bits)] += 1


@kernel("void(uint64[::1], int64[::1], int64[::1], int64[::1])")
def _in_order(hashes: Uint64s, bits: Int64s, places: Int64s, order: Int64s) -> None:
    """Rows by the value of `bits`, equal ones as they came; `places` is where each value begins."""
    for row in range(len(hashes)):
        value = _value(hashes[row], bits)
        order[places[value]] = row
        places[value] += 1


@kernel("int64(int64[::1], int64)")
def _root(parent: Int64s, row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


@kernel(
    "int64(uint64[::1], int64[::1], int64[::1], int64, int64, int64, uint64[::1], boolean[::1], int64[::1],"
    " int64[::1], int64[::1], int64[::1], int64[::1], int64[::1])"
)
def _compare_runs(
    hashes: Uint64s,
    rows: Int64s,
    starts: Int64s,
    most: int,
    first: int,
    radius: int,
    best: Uint64s,
    met: npt.NDArray[np.bool_],
    parent: Int64s,
    seen: Int64s,
    src: Int64s,
    dst: Int64s,
    state: Int64s,
    large: Int64s,
) -> int:
    """Compares the hashes of each run, and returns the number of `large` ones, which it leaves alone."""
    within = np.uint64(radius)
    joining = len(parent) > 0
    left = 0
    for run in range(len(starts) - 1):
        start, stop = starts[run], starts[run + 1]
        cut = start
        if first:
            while cut < stop and rows[cut] < first:
                cut += 1
            if cut in (start, stop):
                continue
        elif stop - start < 2:
            continue
        apart = 0
        if joining:
            state[1] += 1
            for place in range(start, stop):
                root = _root(parent, rows[place])
                apart += seen[root] != state[1]
                seen[root] = state[1]
            if apart == 1:
                continue
        if stop - start > most:
            large[left] = run
            left += 1
            continue
        tile = cut
        while tile < stop:
            end = min(tile + _TILE, stop)
            for a in range(start, cut if first else end):
                if joining and apart == 1:
                    break
                mine = hashes[a]
                block = tile if first else max(tile, a + 1)
                while block < end:
                    block_end = min(block + _BLOCK, end)
                    least = np.uint64(64)
                    for b in range(block, block_end):
                        least = min(least, _ones(mine ^ hashes[b]))
                    if least <= within:
                        for b in range(block, block_end):
                            if _ones(mine ^ hashes[b]) > within:
                                continue
                            if not joining:
                                met[rows[a]] = True
                                best[rows[a]] = min(best[rows[a]], best[rows[b]])
                                continue
                            one, other = _root(parent, rows[a]), _root(parent, rows[b])
                            if one != other:
                                parent[max(one, other)] = min(one, other)
                                src[state[0]], dst[state[0]] = rows[a], rows[b]
                                state[0] += 1
                                apart -= 1
                    block = block_end
            tile = end
    return left
