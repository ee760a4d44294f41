"""Hashes that differ in few bits, on the stage machinery: equal ones first, then near ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..operator import Operator, Output, Reducer
from .against import MATCHES
from .groups import Giant, groups

KERNELS: Final = ("thresher.filters.dedup.hamming", "thresher.filters.dedup.stars")
BLOCK_ROWS: Final = 1 << 20  # of a group that is not held, compared at a time with as many others

DISTINCT: Final = pa.schema(
    [
        pa.field("hash", pa.uint64(), nullable=False),  # unique
        pa.field("position", pa.uint64(), nullable=False),  # of the first record that has it
    ]
)


class ByHash(Operator):
    """One row for each record that has a hash, for an exchange in which equal ones meet.

    `older` is a column that is not null where an earlier run has the record already: such a one meets nobody.
    """

    kernels = KERNELS

    def __init__(self, hashes: str, older: str | None = None) -> None:
        from ...filters.dedup.stars import spread

        self._spread, self._hashes, self._older = spread, hashes, older

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        if self._older:
            batch = batch.filter(pc.is_null(batch.column(self._older)))
        batch = batch.filter(batch.column(self._hashes).is_valid())
        keys = pa.array(self._spread(batch.column(self._hashes).to_numpy()))
        return pa.RecordBatch.from_arrays([keys, batch.column("position")], names=["key", "position"])


class FindDistinct(Reducer):
    """Joins each record with the first that has the same hash, and commits that one with its hash."""

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        from ...filters.dedup.edges import EDGES, StarEdges
        from ...filters.dedup.stars import gather

        star = StarEdges()
        for batch in inputs["hashes"]:
            key, position = (batch.column(name).to_numpy() for name in ("key", "position"))
            link = batch.column("link").to_numpy() if "link" in batch.schema.names else position
            edges, opens = star.scan(key, np.zeros(len(key), np.uint64), position, link)
            out.emit("edges", pa.RecordBatch.from_arrays([pa.array(side) for side in edges], schema=EDGES))
            firsts = [pa.array(gather(key[opens])), pa.array(position[opens])]
            out.emit("distinct", pa.RecordBatch.from_arrays(firsts, schema=DISTINCT))


class ByChunks(Operator):
    """A row for each bucket of each hash, in which it meets what may be within the radius.

    `row` is the column that tells whose hash it is.
    """

    kernels = KERNELS

    def __init__(self, hashes: str, row: str, radius: int, chunks: int) -> None:
        from ...filters.dedup import hamming

        self._hamming, self._hashes, self._row = hamming, hashes, row
        self._radius, self._chunks = radius, chunks
        self._each = hamming.keys_per_hash(radius, chunks)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        batch = batch.filter(batch.column(self._hashes).is_valid())
        hashes, rows = (batch.column(name).to_numpy() for name in (self._hashes, self._row))
        keys = self._hamming.bucket_keys(hashes, self._radius, self._chunks)
        columns = [keys, np.repeat(hashes, self._each), np.repeat(rows, self._each)]
        return pa.RecordBatch.from_arrays(
            [pa.array(column) for column in columns], names=["key", "hash", self._row]
        )


class JoinNear(Reducer):
    """Edges between the records of a bucket whose hashes, all of them distinct, are within the radius.

    Holds one bucket, up to a bound, beyond which it is read from disk as often as it has blocks.
    """

    def __init__(self, radius: int) -> None:
        from ...filters.dedup import hamming

        self._near, self._radius = hamming.near_edges, radius

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        from ...filters.dedup.edges import EDGES

        out.emit("edges", pa.RecordBatch.from_pylist([], schema=EDGES))
        for group in groups(inputs["hashes"], out.new_file):
            for batch, first in _comparisons(group):
                keys, hashes = batch.column("key").to_numpy(), batch.column("hash").to_numpy()
                edges = self._near(keys, hashes, self._radius, first)
                ends = [batch.column("position").take(pa.array(rows)) for rows in edges]
                out.emit("edges", pa.RecordBatch.from_arrays(ends, schema=EDGES))


def _comparisons(group: pa.RecordBatch | Giant) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Batches whose rows are compared with each other, or the first so many of them with the rest."""
    if not isinstance(group, Giant):
        yield group, 0
        return
    for number, block in enumerate(_blocks(group)):
        yield block, 0
        for place, other in enumerate(_blocks(group)):
            if place > number:
                yield pa.concat_batches([block, other]), len(block)


def _blocks(group: pa.RecordBatch | Giant) -> Iterator[pa.RecordBatch]:
    if not isinstance(group, Giant):
        yield group
        return
    held: list[pa.RecordBatch] = []
    for batch in group.batches():
        held.append(batch)
        if sum(map(len, held)) >= BLOCK_ROWS:
            yield pa.concat_batches(held)
            held = []
    if held:
        yield pa.concat_batches(held)


class MatchNear(Reducer):
    """For each new row old records whose hash is within the radius, the least of all among them."""

    def __init__(self, radius: int) -> None:
        from ...filters.dedup import hamming

        self._nearest, self._radius = hamming.nearest_rank, radius

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit("matches", pa.RecordBatch.from_pylist([], schema=MATCHES))
        new, old = (groups(inputs[side], out.new_file) for side in ("new", "old"))
        for one, other in _meeting(new, old):
            for mine in _blocks(one):
                for theirs in _blocks(other):
                    out.emit("matches", self._matches(mine, theirs))

    def _matches(self, new: pa.RecordBatch, old: pa.RecordBatch) -> pa.RecordBatch:
        keys, hashes = (new.column(name).to_numpy() for name in ("key", "hash"))
        # Each hash once: of a picture that is everywhere there may be more than can be compared.
        order = np.lexsort((hashes, keys))
        keys, hashes = keys[order], hashes[order]
        opens = np.ones(len(order), np.bool_)
        opens[1:] = (keys[1:] != keys[:-1]) | (hashes[1:] != hashes[:-1])
        among = tuple(old.column(name).to_numpy() for name in ("key", "hash", "old"))
        met, best = self._nearest(keys[opens], hashes[opens], self._radius, among)
        of = np.cumsum(opens) - 1
        met, best = met[of], best[of]
        positions = new.column("position").take(pa.array(order[met]))
        return pa.RecordBatch.from_arrays([positions, pa.array(best[met])], schema=MATCHES)


def _meeting(
    left: Iterator[pa.RecordBatch | Giant], right: Iterator[pa.RecordBatch | Giant]
) -> Iterator[tuple[pa.RecordBatch | Giant, pa.RecordBatch | Giant]]:
    """Groups of both sides that have keys in common, or may; no key is in two groups of a side."""
    one, other = next(left, None), next(right, None)
    while one is not None and other is not None:
        (low, high), (their_low, their_high) = _span(one), _span(other)
        if low <= their_high and their_low <= high:
            yield one, other
        if high <= their_high:
            one = next(left, None)
        else:
            other = next(right, None)


def _span(group: pa.RecordBatch | Giant) -> tuple[int, int]:
    keys = next(iter(group.batches() if isinstance(group, Giant) else [group])).column("key")
    return keys[0].as_py(), keys[0 if isinstance(group, Giant) else -1].as_py()
