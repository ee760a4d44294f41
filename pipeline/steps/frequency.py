"""How many records of the corpus share a value: hashes, counts by exchange, and each record's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..operator import Combiner, Operator, Output, Reducer
from .groups import Giant, groups
from .occurrences import COUNTED, NO_RECORD, totals

# `value` and `low` are the halves of the hash of a value.
PAIRS: Final = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),  # of both hashes: uniform over 64 bits
        pa.field("value", pa.uint64(), nullable=False),
        pa.field("low", pa.uint64(), nullable=False),
        pa.field("other", pa.uint64(), nullable=False),  # hash of what stands beside the value
    ]
)
VALUES: Final = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),  # upper half of the hash
        pa.field("low", pa.uint64(), nullable=False),
        pa.field("position", pa.uint64(), nullable=False),  # first of the part; NO_RECORD: of none
        pa.field(COUNTED, pa.int64(), nullable=False),
    ]
)
FREQUENCIES: Final = pa.schema(
    [
        pa.field("position", pa.uint64(), nullable=False),
        pa.field("frequency", pa.int64(), nullable=False),  # of the value of this record; never 1
    ]
)
TOO_FREQUENT, TOO_RARE = "too_frequent", "too_rare"


class HashValues(Operator):
    """Adds the 128-bit hash of `of` as the columns `key` and `low`, and 64 bits of `distinct` as `other`.

    Texts and images are equal if their bytes are, numbers if their values are. Null has no hash. Among 10^10
    different values, two with one hash are expected in one of 10^18 corpora; 64 bits suffice for what stands
    beside one value.
    """

    kernels = ("thresher.filters.dedup.exact",)

    def __init__(self, of: str, distinct: str | None, key: str, low: str, other: str) -> None:
        self._of, self._distinct = of, distinct
        self._key, self._low, self._other = key, low, other

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        key, low = _hashes(batch.column(self._of))
        if self._distinct is not None:
            batch = batch.append_column(self._other, _hashes(batch.column(self._distinct))[0])
        return batch.append_column(self._key, key).append_column(self._low, low)


def _hashes(values: pa.Array) -> tuple[pa.Array, pa.Array]:
    from ...filters.dedup.exact import text_key

    kind = values.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        # The same bytes under the name of text, which nobody reads as such.
        values = values.view(pa.large_string() if pa.types.is_large_binary(kind) else pa.string())
    elif pa.types.is_floating(kind):
        values = pc.add(values.cast(pa.float64()), 0.0).cast(pa.string())  # -0.0 becomes 0.0
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        values = values.cast(pa.string())
    return text_key(values, "none")


class PairRows(Operator):
    """A row for each record that has both: its value and what stands beside it."""

    kernels = ("thresher.filters.dedup.stars",)

    def __init__(self, key: str, low: str, other: str) -> None:
        from ...filters.dedup.stars import spread

        self._spread: Any = spread
        self._names = [key, low, other]

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        batch = batch.filter(pc.and_(*(pc.is_valid(batch.column(name)) for name in self._names[1:])))
        value, low, other = (batch.column(name).cast(pa.uint64()) for name in self._names)
        # Without spreading, all records that have the same value in both columns would share the key 0.
        mixed = value.to_numpy() ^ self._spread(other.to_numpy())
        return pa.RecordBatch.from_arrays([pa.array(mixed), value, low, other], schema=PAIRS)


class DistinctPairs(Combiner):
    """Each pair once."""

    def combine(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return _distinct(batch)


def _distinct(batch: pa.RecordBatch) -> pa.RecordBatch:
    if not len(batch):
        return batch
    columns = [batch.column(name).to_numpy() for name in PAIRS.names]
    order = np.lexsort(list(reversed(columns)))
    new = np.zeros(len(batch), np.bool_)
    new[0] = True
    for column in columns:
        column = column[order]
        new[1:] |= column[1:] != column[:-1]
    return batch.take(pa.array(order[new]))


class CountPairs(Reducer):
    """Commits a count of one for each different pair, under its value.

    Holds the rows of one pair, at most one for each part and buffer, up to a bound, beyond which they are on
    disk.
    """

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit("pairs", _ones(pa.RecordBatch.from_pylist([], schema=PAIRS)))
        for group in groups(inputs["pairs"], out.new_file):
            if isinstance(group, Giant):
                # Rows of one key are of one pair, but for hashes that agree by chance.
                held = _distinct(pa.concat_batches([_distinct(batch) for batch in group.batches()]))
            else:
                held = _distinct(group)
            out.emit("pairs", _ones(held))


def _ones(pairs: pa.RecordBatch) -> pa.RecordBatch:
    count = len(pairs)
    columns = [
        pairs.column("value"),
        pairs.column("low"),
        pa.array(np.full(count, NO_RECORD)),
        pa.array(np.ones(count, np.int64)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=VALUES)


class ValueRows(Operator):
    """A row for each record that has a value, counted as `each`; rows that are counted already pass."""

    def __init__(self, key: str, low: str, each: int) -> None:
        self._key, self._low, self._each = key, low, each

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        if self._key not in batch.schema.names:
            return batch.select(VALUES.names).cast(VALUES)
        batch = batch.filter(pc.is_valid(batch.column(self._key)))
        columns = [
            batch.column(self._key).cast(pa.uint64()),
            batch.column(self._low).cast(pa.uint64()),
            batch.column("position"),
            pa.array(np.full(len(batch), self._each, np.int64)),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=VALUES)


class FindFrequencies(Reducer):
    """Commits, for one record of each part that has a value, how frequent it is; what is not there is 1."""

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit("frequencies", pa.RecordBatch.from_pylist([], schema=FREQUENCIES))
        for rows, _ in totals(inputs["values"], out):
            positions, counts = rows.column("position"), rows.column(COUNTED)
            told = (positions.to_numpy() != NO_RECORD) & (counts.to_numpy() != 1)
            found = pa.RecordBatch.from_arrays([positions, counts], schema=FREQUENCIES)
            out.emit("frequencies", found.filter(pa.array(told)))


class AddFrequency(Operator):
    """Adds the column `column`, the frequency of each record's value, null where it has none.

    Where a bound is given, a record beyond it is dropped as `too_frequent` or `too_rare`, with the frequency
    as the value; null is no reason. `frequency` has the number for one record of each value in the part, or
    for none where it is 1. Holds a part's hashes, ids and sources.
    """

    def __init__(
        self, step: str, column: str, key: str, low: str, most: int | None, least: int | None
    ) -> None:
        self._step, self._column, self._key, self._low = step, column, key, low
        self._most, self._least = most, least

    def flow(self, batches: Iterator[pa.RecordBatch], out: Output) -> Iterator[pa.RecordBatch]:
        yield self.apply(pa.concat_batches(list(batches)), out)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        """`batch` is a whole part."""
        counts = self._counts(batch)
        batch = batch.drop_columns([self._key, self._low, "frequency"]).append_column(self._column, counts)
        reasons: pa.Array = pa.nulls(len(batch), pa.string())
        if self._least is not None:
            reasons = pc.if_else(pc.fill_null(pc.less(counts, self._least), False), TOO_RARE, reasons)
        if self._most is not None:
            reasons = pc.if_else(pc.fill_null(pc.greater(counts, self._most), False), TOO_FREQUENT, reasons)
        return out.drop(self._step, batch, reasons, counts.cast(pa.string()))

    def _counts(self, batch: pa.RecordBatch) -> pa.Array:
        valid = pc.is_valid(batch.column(self._key)).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(valid)
        counts = np.zeros(len(batch), np.int64)
        if len(rows):
            given = pc.fill_null(batch.column("frequency"), -1).to_numpy()[rows]
            key, low = (
                pc.fill_null(batch.column(name), 0).to_numpy()[rows] for name in (self._key, self._low)
            )
            order = np.lexsort((low, key))
            key, low = key[order], low[order]
            new = np.concatenate([[True], (key[1:] != key[:-1]) | (low[1:] != low[:-1])])
            of_value = np.maximum.reduceat(given[order], np.flatnonzero(new))
            of_value[of_value < 0] = 1
            counts[rows[order]] = of_value[np.cumsum(new) - 1]
        return pa.array(counts, mask=~valid)
