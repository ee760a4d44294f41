"""Buffers that are put aside in a file: however many there are, they take no memory of the process."""

from __future__ import annotations

import mmap
import uuid
from typing import NamedTuple

import pyarrow as pa

from .scratch import scratch


class Span(NamedTuple):
    """Where a buffer lies in the file."""

    offset: int
    length: int


class Kept:
    """A file of the scratch folder that takes buffers, and is mapped into memory to read them."""

    def __init__(self) -> None:
        self._path = scratch() / f"{uuid.uuid4().hex}.chunks"
        self._file = self._path.open("xb+")
        self._end = 0

    def add(self, data: pa.Buffer | memoryview) -> Span:
        span = Span(self._end, len(memoryview(data)))
        self._file.write(data)
        self._end += span.length
        return span

    def clear(self) -> None:
        """Forgets all."""
        self._end = 0
        self._file.seek(0)
        self._file.truncate()

    def mapped(self) -> pa.Buffer:
        """All that was added; stays readable behind `close`."""
        self._file.flush()
        if not self._end:
            return pa.py_buffer(b"")
        return pa.py_buffer(mmap.mmap(self._file.fileno(), self._end, access=mmap.ACCESS_READ))

    def close(self) -> None:
        """Removes the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)
