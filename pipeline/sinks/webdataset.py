"""WebDataset shards: tar files in which the members of one sample follow one another."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from .json_lines import JsonObjects
from .shard_file import ShardFile
from .sink import Sink

_BLOCK: Final = 512
_RECORD: Final = 20 * _BLOCK  # a tar file ends on a multiple of this (POSIX.1-1988, "Extended tar Format")
_LARGEST: Final = 8**11 - 1  # bytes of a member whose size fits the eleven octal digits of its header
_TEXT: Final = "text"


class WebDatasetSink(Sink):
    """For each record `{key}.json` with its other columns and `{key}.txt` with its text, UTF-8.

    The key is the shard's number and the record's number in it, `00003-0000017`: WebDataset groups members by
    the part of their name before the first dot, and ids hold dots and slashes. The id is in the JSON.
    Members are plain USTAR files of mode 0644, of nobody, without a time.

    Raises ValueError if the schema has no column `text`, or for a record beyond 8 GiB.
    """

    def __init__(self, schema: pa.Schema, file: ShardFile, shard: int) -> None:
        super().__init__(schema, file)
        if _TEXT not in schema.names:
            raise ValueError("a webdataset of text needs a column text")
        self._shard = shard
        self._samples = 0
        self._written = 0
        self._objects = JsonObjects(pa.schema([field for field in schema if field.name != _TEXT]))

    def _write(self, batch: pa.RecordBatch) -> None:
        for text, described in zip(batch.column(_TEXT).to_pylist(), self._objects.encode(batch), strict=True):
            key = f"{self._shard:05}-{self._samples:07}"
            self._member(f"{key}.json", described.encode())
            self._member(f"{key}.txt", (text or "").encode())
            self._samples += 1

    def _finish(self) -> None:
        self._put(bytes(2 * _BLOCK))
        self._put(bytes(-self._written % _RECORD))

    def _member(self, name: str, content: bytes) -> None:
        self._put(ustar_header(name, len(content)))
        self._put(content)
        self._put(bytes(-len(content) % _BLOCK))

    def _put(self, data: bytes) -> None:
        self._written += self._file.write(data)


def ustar_header(name: str, size: int) -> bytes:
    """The header block of a regular file (POSIX.1-1988 USTAR). Raises ValueError beyond its limits."""
    encoded = name.encode("ascii")
    if len(encoded) > 100 or size > _LARGEST:
        raise ValueError(f"{name}: {size} bytes are more than a tar member of this format can hold")
    fields = (
        encoded.ljust(100, b"\0"),
        _octal(0o644, 8),
        _octal(0, 8),  # owner
        _octal(0, 8),  # group
        _octal(size, 12),
        _octal(0, 12),  # time
        b" " * 8,  # the checksum is taken with blanks in its place
        b"0".ljust(101, b"\0"),  # a regular file; no link name
        b"ustar".ljust(6, b"\0"),
        b"00".ljust(66, b"\0"),  # version; no names of owner and group
        _octal(0, 8),  # device numbers
        _octal(0, 8),
        bytes(167),  # no prefix; padding
    )
    header = b"".join(fields)
    return header[:148] + _octal(sum(header), 7) + header[155:]


def _octal(number: int, width: int) -> bytes:
    return b"%0*o" % (width - 1, number) + bytes(1)
