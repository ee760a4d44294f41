"""Parquet shards."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from ..row_groups import RowGroups
from .image_columns import IMAGE
from .shard_file import GZIP_LEVEL, ZSTD_LEVEL, ShardFile
from .sink import Sink

_LEVELS: Final = {"gzip": GZIP_LEVEL, "zstd": ZSTD_LEVEL}
# Long values: their minimum and maximum would help no reader, and no value occurs often enough for a
# dictionary.
_LONG: Final = frozenset({IMAGE, "text", "meta"})


class ParquetSink(Sink):
    """A Parquet file whose row groups hold at most 65,536 rows and 32 MiB of uncompressed values.

    A row group ends before the row that would make it larger; a single row that is larger is one by itself.
    Images, which are compressed already, are stored as they are.
    """

    def __init__(self, schema: pa.Schema, file: ShardFile, compression: str) -> None:
        super().__init__(schema, file)
        self._groups = RowGroups(schema)
        short = [name for name in schema.names if name not in _LONG]
        packed = [name for name in schema.names if name != IMAGE]
        level = _LEVELS.get(compression)
        self._writer = pq.ParquetWriter(
            file,
            schema,
            compression={name: compression if name in packed else "none" for name in schema.names},
            compression_level=None if level is None else dict.fromkeys(packed, level),
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
