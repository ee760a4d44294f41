"""The table beside a WebDataset shard of images, with the columns that img2dataset's users know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from .sink import Sidecar
from .table_file import TableFile

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


class PairTable:
    """A Parquet file with a row for each sample: img2dataset's columns, then the others of the record."""

    def __init__(self, schema: pa.Schema, path: Path) -> None:
        others = [f for f in schema if f.name not in (*TABLE_COLUMNS.names, "image", "text")]
        self._table = TableFile(pa.schema([*TABLE_COLUMNS, *others]), path)

    def add(self, batch: pa.RecordBatch, keys: Sequence[str]) -> None:
        """Appends the rows of `batch`, whose samples have these keys."""
        status = pc.if_else(pc.is_valid(batch.column("image")), "success", pa.scalar(None, pa.string()))
        self._table.add(batch, {"key": pa.array(keys, pa.string()), "status": status}, _STANDS_FOR)

    def close(self) -> Sidecar:
        """Finishes the table and forces it to disk."""
        return Sidecar(SUFFIX, str(self._table.path), *self._table.close())

    def discard(self) -> None:
        """Gives the table up."""
        self._table.discard()
