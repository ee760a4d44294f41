"""Row groups whose bounds depend on the rows alone, and the sizes of rows that they are cut by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int64s = npt.NDArray[np.int64]

GROUP_ROWS: Final = 1 << 16
GROUP_BYTES: Final = 32 << 20  # of the uncompressed columns, as `row_bytes` counts them


class RowGroups:
    """Cuts a stream of rows into row groups; where it cuts depends on the rows, not on their batches."""

    def __init__(self, schema: pa.Schema, rows: int = GROUP_ROWS, size: int = GROUP_BYTES) -> None:
        self._schema = schema
        self._most_rows, self._most_bytes = rows, size
        self._held: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.Table]:
        """Yields the row groups that the rows of `batch` complete."""
        ends = np.cumsum(row_bytes(batch))
        row = 0
        while row < len(batch):
            before = int(ends[row - 1]) if row else 0
            stop = int(np.searchsorted(ends, before + self._most_bytes - self._bytes, side="right"))
            stop = min(stop, row + self._most_rows - self._rows)
            if stop <= row and not self._rows:
                stop = row + 1
            if stop > row:
                self._held.append(batch.slice(row, stop - row))
                self._rows += stop - row
                self._bytes += int(ends[stop - 1]) - before
                row = stop
            if row < len(batch):
                yield from self.rest()

    def rest(self) -> Iterator[pa.Table]:
        """Yields the rows that are held back, if there are any, as a row group."""
        if self._held:
            # Chunks would show in the file: pages end where a chunk does.
            yield pa.Table.from_batches(self._held, self._schema).combine_chunks()
            self._held, self._rows, self._bytes = [], 0, 0


def row_bytes(batch: pa.RecordBatch) -> Int64s:
    """The uncompressed bytes of each row, int64: the sum over its columns of what `value_bytes` says."""
    total = np.zeros(len(batch), np.int64)
    for column in batch.columns:
        total += value_bytes(column)
    return total


def value_bytes(column: pa.Array) -> Int64s:
    """The uncompressed bytes of each value, int64: of a string its UTF-8 bytes and 4 for its length.

    Types that are neither numbers, strings, lists nor structs count 8 bytes.
    """
    dtype = column.type
    if pa.types.is_struct(dtype):
        children = (value_bytes(child) for child in column.flatten())
        return np.asarray(sum(children, np.zeros(len(column), np.int64)))
    if pa.types.is_list(dtype) or pa.types.is_large_list(dtype):
        if pa.types.is_primitive(dtype.value_type):  # without a look at each number of an embedding
            numbers = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
            return np.asarray(numbers * -(-dtype.value_type.bit_width // 8) + 4, np.int64)
        ends = np.concatenate([[0], np.cumsum(value_bytes(column.values))])
        offsets = column.offsets.to_numpy()
        return np.asarray(ends[offsets[1:]] - ends[offsets[:-1]] + 4, np.int64)
    if pa.types.is_fixed_size_list(dtype) and pa.types.is_primitive(dtype.value_type):
        return np.full(len(column), dtype.list_size * -(-dtype.value_type.bit_width // 8), np.int64)
    if dtype in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        lengths = pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
        return np.asarray(lengths + 4, np.int64)
    width = -(-dtype.bit_width // 8) if pa.types.is_primitive(dtype) else 8
    return np.full(len(column), width, np.int64)
