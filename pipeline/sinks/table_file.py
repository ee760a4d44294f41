"""A Parquet file of metadata that goes with a shard, row for row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from ..row_groups import RowGroups
from .shard_file import ZSTD_LEVEL, ShardFile

# Long values: their minimum and maximum would help no reader.
_LONG: Final = frozenset({"caption", "text", "meta"})


class TableFile:
    """Writes rows in row groups whose bounds depend on the rows alone."""

    def __init__(self, schema: pa.Schema, path: Path) -> None:
        self.schema = schema
        self.path = path
        self._groups = RowGroups(schema)
        self._file = ShardFile(path)
        short = [name for name in schema.names if name not in _LONG]
        self._writer = pq.ParquetWriter(
            self._file,
            schema,
            compression="zstd",
            compression_level=ZSTD_LEVEL,
            use_dictionary=short,
            write_statistics=short,
        )

    def add(self, batch: pa.RecordBatch, made: Mapping[str, pa.Array], stands_for: Mapping[str, str]) -> None:
        """Appends a row for each of `batch`: the columns `made`, else those of that name, else those that
        stand for them, else null."""
        names = batch.schema.names
        columns = []
        for field in self.schema:
            known = field.name if field.name in names else stands_for.get(field.name)
            if field.name in made:
                columns.append(made[field.name])
            elif known in names:
                columns.append(batch.column(known).cast(field.type))
            else:
                columns.append(pa.nulls(len(batch), field.type))
        for group in self._groups.add(pa.RecordBatch.from_arrays(columns, schema=self.schema)):
            self._writer.write_table(group, row_group_size=len(group))

    def close(self) -> tuple[int, str]:
        """Finishes the file and forces it to disk. Returns its bytes and its SHA-256 in hexadecimal."""
        for group in self._groups.rest():
            self._writer.write_table(group, row_group_size=len(group))
        self._writer.close()
        return self._file.commit()

    def discard(self) -> None:
        """Gives the file up."""
        self._writer.close()
        self._file.discard()
