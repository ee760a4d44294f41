"""WebDataset shards: tar files in which the members of one sample follow one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import pyarrow as pa

from .image_columns import IMAGE, extension_of, views
from .json_lines import JsonObjects
from .pair_table import SUFFIX as TABLE_SUFFIX
from .pair_table import PairTable
from .sample_keys import SampleKeys
from .shard_file import ShardFile
from .sink import Sidecar, Sink
from .tar_index import SUFFIX as INDEX_SUFFIX
from .tar_index import Member, TarIndex
from .ustar import BLOCK, END, RECORD, ustar_headers

_TEXT: Final = "text"
_ROWS: Final = 1024  # rows whose headers are made at a time
_PADDING: Final = [bytes(-size % BLOCK) for size in range(BLOCK)]

Content = tuple[str, bytes | memoryview]  # extension and bytes of a member


class WebDatasetSink(Sink):
    """For each record `{key}.txt` with its text, UTF-8, and `{key}.json` with its other columns.

    With a column `image`, the image comes before these, in a member whose extension tells its format; a
    record without one has none. A caption that is null is an empty text. The key is a hash of the id (see
    SampleKeys). Members are plain USTAR files of mode 0644, of nobody, without a time. Beside the shard lies
    its index, and of images a table.

    Raises ValueError if the schema has no column `text` or no `id`, or for a record beyond 8 GiB.
    """

    def __init__(self, schema: pa.Schema, file: ShardFile) -> None:
        super().__init__(schema, file)
        for name in (_TEXT, "id"):
            if name not in schema.names:
                raise ValueError(f"a webdataset needs a column {name}")
        self._has_images = IMAGE in schema.names
        self._keys = SampleKeys()
        self._written = 0
        self._objects = JsonObjects(pa.schema([f for f in schema if f.name not in (_TEXT, IMAGE)]))
        self._index = TarIndex(file.path.with_suffix(INDEX_SUFFIX))
        self._table: PairTable | None = None
        if self._has_images:
            self._table = PairTable(schema, file.path.with_suffix(TABLE_SUFFIX))

    def discard(self) -> None:
        self._index.discard()
        if self._table is not None:
            self._table.discard()
        super().discard()

    def _write(self, batch: pa.RecordBatch) -> None:
        for start in range(0, len(batch), _ROWS):
            rows = batch.slice(start, _ROWS)
            keys = self._keys.of(rows.column("id"))
            self._index.add(self._samples(keys, list(self._contents(rows))))
            if self._table is not None:
                self._table.add(rows, keys)

    def _contents(self, batch: pa.RecordBatch) -> Iterator[list[Content]]:
        """The members of each sample."""
        texts = batch.column(_TEXT).to_pylist()
        plain: list[list[Content]] = [
            [("txt", (text or "").encode()), ("json", described.encode())]
            for text, described in zip(texts, self._objects.encode(batch), strict=True)
        ]
        if not self._has_images:
            yield from plain
            return
        for image, members in zip(views(batch.column(IMAGE)), plain, strict=True):
            yield members if image is None else [(extension_of(image), image), *members]

    def _samples(self, keys: Sequence[str], contents: Sequence[list[Content]]) -> Iterator[list[Member]]:
        """Writes the samples; gives what the index says of each."""
        pairs = list(zip(keys, contents, strict=True))
        names = [f"{key}.{extension}" for key, members in pairs for extension, _ in members]
        headers = memoryview(
            ustar_headers(names, [len(content) for members in contents for _, content in members])
        )
        write: Callable[[bytes], int] = self._file.write
        member = 0
        for members in contents:
            pieces: list[bytes | memoryview] = []
            described: list[Member] = []
            offset = self._written
            for extension, content in members:
                size = len(content)
                padding = _PADDING[size % BLOCK]
                pieces += (headers[member * BLOCK : (member + 1) * BLOCK], content, padding)
                described.append((extension, offset + BLOCK, size, names[member]))
                offset += BLOCK + size + len(padding)
                member += 1
            self._written += write(b"".join(pieces))
            yield described

    def _finish(self) -> None:
        self._file.write(END + bytes(-(self._written + len(END)) % RECORD))

    def _close_sidecars(self) -> tuple[Sidecar, ...]:
        index = self._index.close()
        return (index,) if self._table is None else (index, self._table.close())
