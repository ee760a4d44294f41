"""Rows of RAW_TEXT for the samples of one archive; their payloads are copied into one buffer as they come."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.records import RAW_TEXT
from .rows import MAX_BYTES, MAX_ROWS

_ROOM: Final = MAX_BYTES + (1 << 20)  # a full batch, but for images larger than this excess
_RARE: Final = ("content_type", "error", "detail")


class _Packed:
    """Bytes one behind the other, in memory of Arrow's, which has it again for the next batch.

    A bytearray that grows, and is another one each time, takes three times as long.
    """

    def __init__(self) -> None:
        self._buffer: pa.Buffer | None = None
        self._view = memoryview(bytearray())
        self._room = 0

    def put(self, value: bytes | memoryview, begin: int, end: int) -> None:
        """Appends a value that is to lie at [begin, end)."""
        if end > self._room:
            self._grow(end)
        self._view[begin:end] = value

    def take(self, size: int) -> pa.Buffer:
        """What has been put, `size` bytes; nothing may follow."""
        if self._buffer is None:
            return pa.py_buffer(b"")
        self._view.release()
        self._buffer.resize(size, shrink_to_fit=True)
        return self._buffer

    def _grow(self, size: int) -> None:
        self._room = max(size, _ROOM)
        self._view.release()  # of what may move
        if self._buffer is None:
            self._buffer = pa.allocate_buffer(self._room, resizable=True)
        else:
            self._buffer.resize(self._room)
        self._view = np.frombuffer(self._buffer, np.uint8).data


class SampleRows:
    """Gives the batches that Rows would; `source` of a row is the path of the archive and an offset in it."""

    def __init__(self, path: str) -> None:
        self._before = pa.scalar(f"{path}:".encode("utf-8", "replace").decode(), pa.string())
        self._begin()

    def _begin(self) -> None:
        # A list a column: rows that were tuples would each be one more object for the collector to look at.
        self._ids: list[str] = []
        self._urls: list[str | None] = []
        self._offsets: list[int] = []
        self._dates: list[str | None] = []
        self._metas: list[str | None] = []
        self._texts: list[str | bytes | None] = []
        self._rare: dict[str, dict[int, str]] = {name: {} for name in _RARE}
        self._payloads = _Packed()
        self._ends: list[int] = [0]  # of each row's payload
        self._size = 0  # of all of them
        self._without: list[int] = []  # rows that have none
        self._bytes = 0  # of text and meta

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def full(self) -> bool:
        """See Rows."""
        return len(self._ids) >= MAX_ROWS or self._bytes + self._size >= MAX_BYTES

    def add(
        self,
        offset: int,
        id: str,
        url: str | None = None,
        date: str | None = None,
        meta: str | None = None,
        text: str | bytes | None = None,
        payload: bytes | memoryview | None = None,
        **rare: str | None,
    ) -> None:
        """Adds a record; `text` as bytes must be valid UTF-8, `rare` are its other columns."""
        if payload is None:
            self._without.append(len(self._ids))
        else:
            begin = self._size
            self._size += len(payload)
            self._payloads.put(payload, begin, self._size)
        for name, value in rare.items():
            if value is not None:
                self._rare[name][len(self._ids)] = value
        self._ids.append(id)
        self._urls.append(url)
        self._offsets.append(offset)
        self._dates.append(date)
        self._metas.append(meta)
        self._texts.append(text)
        self._ends.append(self._size)
        if text:
            self._bytes += len(text)
        if meta:
            self._bytes += len(meta)

    def take(self) -> pa.RecordBatch:
        """The rows so far as one batch; none are left."""
        rows = len(self._ids)
        numbers = pa.array(self._offsets, pa.int64()).cast(pa.string())
        columns = {
            "id": pa.array(self._ids, pa.string()),
            "url": pa.array(self._urls, pa.string()),
            "source": pc.binary_join_element_wise(self._before, numbers, ""),
            "date": pa.array(self._dates, pa.string()),
            "meta": pa.array(self._metas, pa.string()),
            "text": pa.array(self._texts, pa.string()),
            "payload": self._payload_array(),
        }
        for name, values in self._rare.items():
            told = [values.get(row) for row in range(rows)] if values else None
            columns[name] = pa.nulls(rows, pa.string()) if told is None else pa.array(told, pa.string())
        self._begin()
        return pa.RecordBatch.from_arrays([columns[name] for name in RAW_TEXT.names], schema=RAW_TEXT)

    def _payload_array(self) -> pa.Array:
        rows = len(self._ids)
        if len(self._without) == rows:
            return pa.nulls(rows, pa.binary())
        ends = pa.array(self._ends, pa.int32())  # raises above 2 GiB
        valid = None
        if self._without:
            told = bytearray(b"\1") * rows
            for row in self._without:
                told[row] = 0
            valid = pa.array(memoryview(told), pa.uint8()).cast(pa.bool_()).buffers()[1]
        buffers = [valid, ends.buffers()[1], self._payloads.take(self._size)]
        return pa.BinaryArray.from_buffers(pa.binary(), rows, buffers, null_count=len(self._without))
