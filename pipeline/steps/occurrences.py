"""How often a value occurs in the corpus, told to every part that has it.

What travels is a row for each value that a part has, not for each record: its key, the first position in the
part that has it, and a count. So neither a value that most records share nor a large corpus makes a task
hold more than the parts are many, or send more rows than there are different values in a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..operator import Combiner, Output
from ..view import ROW_BITS
from .groups import Giant, groups

# The position of a row that adds to a count and stands for no record.
NO_RECORD: Final = np.uint64(2**64 - 1)

COUNTED: Final = "count"
_GROUPED: Final = ("key", "low")  # what tells values apart; not all rows have the second

Bools = npt.NDArray[np.bool_]


class AddUp(Combiner):
    """One row for each value of a part: its first position, and the sum of the counts."""

    def combine(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return add_up(batch)


def add_up(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same for any rows, which come out sorted by value and position."""
    if not len(batch):
        return batch
    batch, new_value = _by_value(batch)
    parts = batch.column("position").to_numpy() >> np.uint64(ROW_BITS)
    new_value[1:] |= parts[1:] != parts[:-1]
    opens = np.flatnonzero(new_value)
    sums = np.add.reduceat(batch.column(COUNTED).to_numpy(), opens)
    firsts = batch.take(pa.array(opens))
    return _counted(firsts, pa.array(sums))


def totals(batches: Iterator[pa.RecordBatch], out: Output) -> Iterator[tuple[pa.RecordBatch, Bools]]:
    """The rows of a partition, one for each value of a part, with the count of the whole corpus; and which of
    them are the first of a value.

    `batches` are sorted by `key`. Holds the rows of one value up to a bound, beyond which they are on disk.
    Rows that stand for no record come too, so that each value has one.
    """
    for group in groups(batches, out.new_file):
        if isinstance(group, Giant):
            yield from _of_giant(group)
        else:
            added = add_up(group)
            yield _with_totals(added)


def _by_value(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Bools]:
    """The rows sorted by value, then by position, and which are the first of a value."""
    values = [batch.column(name).to_numpy() for name in _GROUPED if name in batch.schema.names]
    order = np.lexsort((batch.column("position").to_numpy(), *reversed(values)))
    new = np.zeros(len(batch), np.bool_)
    new[:1] = True
    for column in values:
        column = column[order]
        new[1:] |= column[1:] != column[:-1]
    return batch.take(pa.array(order)), new


def _with_totals(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Bools]:
    batch, new = _by_value(batch)
    sums = np.add.reduceat(batch.column(COUNTED).to_numpy(), np.flatnonzero(new))
    count = pa.array(sums[np.cumsum(new) - 1])
    return _counted(batch, count), new


def _of_giant(giant: Giant) -> Iterator[tuple[pa.RecordBatch, Bools]]:
    """As `totals`, for values of one key: two where hashes agree in their upper half, else one."""
    sums: dict[int, int] = {}
    for batch in giant.batches():
        added, new = _with_totals(batch)
        firsts = added.filter(pa.array(new))
        for low, count in zip(_lows(firsts).tolist(), firsts.column(COUNTED).to_pylist(), strict=True):
            sums[low] = sums.get(low, 0) + count
    told: set[int] = set()
    for batch in giant.batches():
        added = add_up(batch)
        lows = _lows(added)
        count = pa.array([sums[low] for low in lows.tolist()], pa.int64())
        found, places = np.unique(lows, return_index=True)
        new = np.zeros(len(added), np.bool_)
        new[
            [place for low, place in zip(found.tolist(), places.tolist(), strict=True) if low not in told]
        ] = True
        told.update(found.tolist())
        yield _counted(added, count), new


def _counted(batch: pa.RecordBatch, counts: pa.Array) -> pa.RecordBatch:
    columns = [counts if name == COUNTED else batch.column(name) for name in batch.schema.names]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _lows(batch: pa.RecordBatch) -> npt.NDArray[np.uint64]:
    if "low" in batch.schema.names:
        lows: npt.NDArray[np.uint64] = batch.column("low").to_numpy()
        return lows
    return np.zeros(len(batch), np.uint64)
