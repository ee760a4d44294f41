"""Parquet shards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .shard_file import GZIP_LEVEL, ZSTD_LEVEL, ShardFile
from .sink import Sink

ROW_GROUP_ROWS: Final = 1 << 16
ROW_GROUP_BYTES: Final = 32 << 20  # of the uncompressed columns, as `row_bytes` counts them
_LEVELS: Final = {"gzip": GZIP_LEVEL, "zstd": ZSTD_LEVEL}
# Long values: their minimum and maximum would help no reader, and no value occurs often enough for a
# dictionary.
_LONG: Final = frozenset({"text", "meta"})


class ParquetSink(Sink):
    """A Parquet file whose row groups hold at most 65,536 rows and 32 MiB of uncompressed values.

    A row group ends before the row that would make it larger; a single row that is larger is one by itself.
    """

    def __init__(self, schema: pa.Schema, file: ShardFile, compression: str) -> None:
        super().__init__(schema, file)
        self._groups = RowGroups(schema)
        short = [name for name in schema.names if name not in _LONG]
        self._writer = pq.ParquetWriter(
            file,
            schema,
            compression=compression,
            compression_level=_LEVELS.get(compression),
            use_dictionary=short,
            write_statistics=short,
        )

    def discard(self) -> None:
        self._writer.close()
        super().discard()

    def _write(self, batch: pa.RecordBatch) -> None:
        for group in self._groups.add(batch):
            self._writer.write_table(group, row_group_size=len(group))

    def _finish(self) -> None:
        for group in self._groups.rest():
            self._writer.write_table(group, row_group_size=len(group))
        self._writer.close()


class RowGroups:
    """Cuts a stream of rows into row groups; where it cuts depends on the rows, not on their batches."""

    def __init__(self, schema: pa.Schema, rows: int = ROW_GROUP_ROWS, size: int = ROW_GROUP_BYTES) -> None:
        self._schema = schema
        self._most_rows, self._most_bytes = rows, size
        self._held: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.Table]:
        """Yields the row groups that the rows of `batch` complete."""
        ends = np.cumsum(sum(row_bytes(column) for column in batch.columns))
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


def row_bytes(column: pa.Array) -> npt.NDArray[np.int64]:
    """The uncompressed bytes of each value, int64: of a string its UTF-8 bytes and 4 for its length.

    Types that are neither numbers, strings, lists nor structs count 8 bytes.
    """
    dtype = column.type
    if pa.types.is_struct(dtype):
        return np.asarray(
            sum((row_bytes(child) for child in column.flatten()), np.zeros(len(column), np.int64))
        )
    if pa.types.is_list(dtype) or pa.types.is_large_list(dtype):
        ends = np.concatenate([[0], np.cumsum(row_bytes(column.values))])
        offsets = column.offsets.to_numpy()
        return np.asarray(ends[offsets[1:]] - ends[offsets[:-1]] + 4, np.int64)
    if any(test(dtype) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)):
        return np.asarray(
            pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False) + 4, np.int64
        )
    width = -(-dtype.bit_width // 8) if pa.types.is_primitive(dtype) else 8
    return np.full(len(column), width, np.int64)
