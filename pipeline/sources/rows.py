"""Collects records and cuts them into batches by fixed rules."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from ...schemas.records import RAW_TEXT

MAX_ROWS: Final = 1024
MAX_BYTES: Final = 8 << 20


def content_id(url: str | None, payload: bytes) -> str:
    """The id of a record that has none: xxh3-128 (32 hexadecimal digits) of its URL, a zero byte, its
    payload.

    The payload is the text as UTF-8, the undecoded body of a page, or the raw line of a line that gave
    neither: nothing that depends on where the record stood.
    """
    import xxhash

    digest = xxhash.xxh3_128((url or "").encode("utf-8", "replace"))
    digest.update(b"\0")
    digest.update(payload)
    return str(digest.hexdigest())


class Rows:
    """Rows of RAW_TEXT. A batch is full at 1,024 rows, or with the row that brings it to 8 MiB of text,
    payload and meta; so where batches are cut depends on the records alone."""

    def __init__(self) -> None:
        self._columns: list[list[Any]] = [[] for _ in RAW_TEXT.names]
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._columns[0])

    @property
    def full(self) -> bool:
        return len(self) >= MAX_ROWS or self._bytes >= MAX_BYTES

    def add(
        self,
        id: str,
        source: str,
        *,
        url: str | None = None,
        date: str | None = None,
        meta: str | None = None,
        text: str | bytes | None = None,
        payload: bytes | None = None,
        content_type: str | None = None,
        error: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Adds a record; `text` as bytes must be valid UTF-8."""
        row = (id, url, source, date, meta, text, payload, content_type, error, detail)
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)
        self._bytes += len(text or "") + len(payload or b"") + len(meta or "")

    def take(self) -> pa.RecordBatch:
        """The rows so far as one batch; none are left."""
        arrays = [_array(values, field.type) for values, field in zip(self._columns, RAW_TEXT, strict=True)]
        self._columns = [[] for _ in RAW_TEXT.names]
        self._bytes = 0
        return pa.RecordBatch.from_arrays(arrays, schema=RAW_TEXT)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:  # a lone surrogate in a file name, a URL or a header
        return pa.array(
            [v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for v in values], kind
        )
