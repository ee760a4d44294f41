"""The first records of each of any number of groups, until the next would exceed a cap.

Rows have `key` and `low` (the upper and lower half of a hash of the group's name), `rank` (uint64, the
largest first), `units` (int64, not negative), `id` and `position`, which part equal ranks. A record that is
in several groups at once has a row in each, with its `place` among them, and in no group two.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ...schemas.records import POSITION
from .order import Bools

ROWS: Final = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("low", pa.uint64(), nullable=False),
        pa.field("rank", pa.uint64(), nullable=False),
        pa.field("units", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field(POSITION, pa.uint64(), nullable=False),
    ]
)
PLACED_ROWS: Final = ROWS.append(pa.field("place", pa.int32(), nullable=False))

Int64s = npt.NDArray[np.int64]


def group_hashes(names: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The upper and lower 64 bits of the xxh3-128 of each name, uint64; null is a name of its own."""
    encoded = names.dictionary_encode(null_encoding="encode")
    digests = [
        xxhash.xxh3_128_digest(b"" if name is None else b"=" + name.encode())
        for name in encoded.dictionary.to_pylist()
    ]
    halves = np.frombuffer(b"".join(digests), ">u8").astype(np.uint64).reshape(-1, 2)
    upper, lower = (pa.array(halves[:, half]).take(encoded.indices) for half in (0, 1))
    return upper, lower


def within_cap(rows: pa.RecordBatch, cap: int) -> tuple[pa.RecordBatch, int, int]:
    """The rows that fit, of rows that hold every group whole.

    Also how many groups there are, and of how many not every row fits.
    """
    if not len(rows):
        return rows, 0, 0
    order, first, before = _cumulate(rows)
    fits = before + rows.column("units").to_numpy()[order] <= cap
    return rows.take(pa.array(order[fits])), int(first.sum()), _groups_with(~fits, first)


def once_for_each_group(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows of whole records, of each record and group the one with the highest rank, else the first."""
    if not len(rows):
        return rows
    position, key, low = (rows.column(name).to_numpy() for name in (POSITION, "key", "low"))
    order = np.lexsort((rows.column("place").to_numpy(), ~rows.column("rank").to_numpy(), low, key, position))
    same = np.zeros(len(order), np.bool_)
    same[1:] = np.logical_and.reduce([np.diff(of[order]) == 0 for of in (position, key, low)])
    return rows.take(pa.array(np.sort(order[~same]))) if same.any() else rows


def prune(rows: pa.RecordBatch, cap: int) -> pa.RecordBatch:
    """The rows without those that cannot fit, whatever other rows their groups have elsewhere.

    In a part of a group, no row has more rows before it than in the whole. So what fits in the whole fits in
    the part, and the first that does not fit in the whole fits in the part or is the first there that does
    not: both stay, and no other row decides.
    """
    if not len(rows):
        return rows
    order, _, before = _cumulate(rows)
    return rows.take(pa.array(order[before <= cap]))


def _cumulate(rows: pa.RecordBatch) -> tuple[Int64s, Bools, Int64s]:
    """Indices that sort the rows, which of these begin a group, and the units of the group before each."""
    key, low = rows.column("key").to_numpy(), rows.column("low").to_numpy()
    descending = ~rows.column("rank").to_numpy()
    order = np.lexsort((descending, low, key))
    first = np.ones(len(order), np.bool_)
    first[1:] = (np.diff(key[order]) != 0) | (np.diff(low[order]) != 0)
    same = ~first[1:] & (np.diff(descending[order]) == 0)
    tied = np.zeros(len(order), np.bool_)
    tied[1:] |= same
    tied[:-1] |= same
    if tied.any():  # strings are compared only where they decide
        some = order[tied]
        names = pc.rank(rows.column("id").take(pa.array(some)), tiebreaker="dense").to_numpy()
        positions = rows.column(POSITION).to_numpy()[some]
        order[tied] = some[np.lexsort((positions, names, descending[some], low[some], key[some]))]
    units = rows.column("units").to_numpy()[order]
    before = np.cumsum(units) - units
    group = np.cumsum(first) - 1
    return order, first, before - before[first][group]


def _groups_with(mask: Bools, first: Bools) -> int:
    """How many groups have a row of `mask`."""
    return int(np.logical_or.reduceat(mask, np.flatnonzero(first)).sum())
