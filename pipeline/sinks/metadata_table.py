"""The table that tells whose the rows of an embedding file are, as the readers of either layout know it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa

from ..stage import StreamRef
from .image_columns import IMAGE
from .sample_keys import SampleKeys
from .table_file import TableFile

Layout = Literal["datacomp", "clip-retrieval"]

# What github.com/mlfoundations/datacomp, baselines/apply_filter.py, reads of a pool's metadata (and sha256,
# which pools have); a text has the first three.
_DATACOMP: Final = (
    pa.field("uid", pa.string()),
    pa.field("url", pa.string()),
    pa.field("text", pa.string()),
    pa.field("original_width", pa.int32()),
    pa.field("original_height", pa.int32()),
    pa.field("sha256", pa.string()),
)
# What github.com/rom1504/clip-retrieval, clip_inference/writer.py, writes, before what else it knows.
_CLIP_RETRIEVAL: Final = (pa.field("image_path", pa.string()), pa.field("caption", pa.string()))
# What is looked for under another name where the records do not have it.
_STANDS_FOR: Final[Mapping[str, str]] = {
    "uid": "id",
    "image_path": "id",
    "caption": "text",
    "original_width": "width",
    "original_height": "height",
}


class MetadataTable:
    """A Parquet file with a row for each record: what the layout's readers ask for, then its other columns.

    With `keyed` there is a column `key` too, the keys of the samples of a WebDataset shard; it is what
    clip-retrieval takes for the path of an image. `without`: columns that are not written.
    """

    def __init__(
        self, layout: Layout, schema: pa.Schema, path: Path, keyed: bool, without: Set[str] = frozenset()
    ) -> None:
        has_images = IMAGE in schema.names
        wanted = _DATACOMP if layout == "datacomp" else _CLIP_RETRIEVAL
        of_texts = ("uid", "url", "text", "caption")
        fields = [field for field in wanted if has_images or field.name in of_texts]
        if keyed:
            fields.append(pa.field("key", pa.string()))
        apart = {IMAGE, "text", *(field.name for field in fields), *without}
        self._table = TableFile(pa.schema([*fields, *(f for f in schema if f.name not in apart)]), path)
        self._keys = SampleKeys() if keyed else None
        self._rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Appends the rows of `batch`."""
        made = {}
        if self._keys is not None:
            keys = pa.array(self._keys.of(batch.column("id")), pa.string())
            made["key"] = keys
            made["image_path"] = keys
        self._table.add(batch, made, _STANDS_FOR)
        self._rows += len(batch)

    def close(self) -> StreamRef:
        """Finishes the table and forces it to disk."""
        size, digest = self._table.close()
        return StreamRef(str(self._table.path), self._rows, size, digest)
