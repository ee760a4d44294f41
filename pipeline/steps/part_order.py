"""Rows of positions back in the order of positions, so that every part finds its own in one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from ..operator import Operator, Output, Reducer

ROWS = "rows"  # the stream that is committed


class ByPosition(Operator):
    """Puts `key`, the position shifted so that the last part fills the upper bits, in place of it."""

    def __init__(self, shift: int) -> None:
        self._shift = np.uint64(shift)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        keys = pa.array(batch.column("position").to_numpy() << self._shift)
        return batch.set_column(batch.schema.get_field_index("position"), "key", keys)


class InPartOrder(Reducer):
    """Commits one row for each position: the least value of `by`, else the first that came.

    `columns` of the rows get the names that they are given here.
    """

    def __init__(self, shift: int, columns: Mapping[str, str], by: str | None = None) -> None:
        self._shift, self._columns, self._by = np.uint64(shift), dict(columns), by

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        held: pa.RecordBatch | None = None  # the best row of the last position so far
        for batch in inputs[ROWS]:
            if held is not None:
                batch = pa.concat_batches([held, batch])
            elif not len(batch):
                out.emit(ROWS, self._rows(batch))
                continue
            best = self._best(batch)
            held = best.slice(len(best) - 1)
            out.emit(ROWS, self._rows(best.slice(0, len(best) - 1)))
        if held is not None:
            out.emit(ROWS, self._rows(held))

    def _best(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        keys = batch.column("key").to_numpy()
        if self._by is not None:
            order = np.lexsort((batch.column(self._by).to_numpy(), keys))
            batch, keys = batch.take(pa.array(order)), keys[order]
        return batch.filter(pa.array(np.concatenate([[True], keys[1:] != keys[:-1]])))

    def _rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        positions = pa.array(batch.column("key").to_numpy() >> self._shift)
        fields = [pa.field("position", pa.uint64(), nullable=False)]
        fields += [batch.schema.field(name).with_name(new) for name, new in self._columns.items()]
        columns = [positions, *(batch.column(name) for name in self._columns)]
        return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
