"""The table beside a WebDataset shard of images, with the columns that img2dataset's users know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..row_groups import RowGroups
from .shard_file import ZSTD_LEVEL, ShardFile
from .sink import Sidecar

SUFFIX: Final = ".parquet"

# As github.com/rom1504/img2dataset, img2dataset/downloader.py, writes them: what the list of URLs had (its
# url and caption), then key to original_height, then the hash that was asked for.
TABLE_COLUMNS: Final = pa.schema(
    [
        pa.field("url", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("key", pa.string()),
        pa.field("status", pa.string()),  # success; null where the record has no image
        pa.field("error_message", pa.string()),  # always null: what failed is in the ledger
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("original_width", pa.int32()),  # before the job resized it
        pa.field("original_height", pa.int32()),
        pa.field("sha256", pa.string()),
    ]
)
# What is looked for under another name where the records do not have it.
_STANDS_FOR: Final[Mapping[str, str]] = {
    "caption": "text",
    "original_width": "width",
    "original_height": "height",
}
_LONG: Final = frozenset({"caption", "meta"})


class PairTable:
    """A Parquet file with a row for each sample: img2dataset's columns, then the others of the record."""

    def __init__(self, schema: pa.Schema, path: Path) -> None:
        others = [f for f in schema if f.name not in (*TABLE_COLUMNS.names, "image", "text")]
        self._schema = pa.schema([*TABLE_COLUMNS, *others])
        self._groups = RowGroups(self._schema)
        self._file = ShardFile(path)
        short = [name for name in self._schema.names if name not in _LONG]
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            compression="zstd",
            compression_level=ZSTD_LEVEL,
            use_dictionary=short,
            write_statistics=short,
        )

    def add(self, batch: pa.RecordBatch, keys: Sequence[str]) -> None:
        """Appends the rows of `batch`, whose samples have these keys."""
        names = batch.schema.names
        status = pc.if_else(pc.is_valid(batch.column("image")), "success", pa.scalar(None, pa.string()))
        made = {"key": pa.array(keys, pa.string()), "status": status}
        columns = []
        for field in self._schema:
            known = field.name if field.name in names else _STANDS_FOR.get(field.name)
            if field.name in made:
                columns.append(made[field.name])
            elif known in names:
                columns.append(batch.column(known).cast(field.type))
            else:
                columns.append(pa.nulls(len(batch), field.type))
        for group in self._groups.add(pa.RecordBatch.from_arrays(columns, schema=self._schema)):
            self._writer.write_table(group, row_group_size=len(group))

    def close(self) -> Sidecar:
        """Finishes the table and forces it to disk."""
        for group in self._groups.rest():
            self._writer.write_table(group, row_group_size=len(group))
        self._writer.close()
        size, digest = self._file.commit()
        return Sidecar(SUFFIX, str(self._file.path), size, digest)

    def discard(self) -> None:
        """Gives the table up."""
        self._writer.close()
        self._file.discard()
