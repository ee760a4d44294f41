"""The exchange of a stage: rows cut into partitions by the top bits of their key, then sorted by it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .row_groups import row_bytes
from .store import publish, unfinished

CHUNK_ROWS = 65_536
CHUNK_BYTES = 16 << 20
BUFFER_BYTES = 32 << 20  # rows a map task gathers before it sorts and cuts them
SORT_BYTES = 256 << 20  # rows a reduce task sorts at a time

# A spool file is chunks, their schema, an index with a row for each chunk, and this trailer. A reduce task
# looks into the file of every map task, so a look has to cost the same however many partitions there are.
_TRAILER = np.dtype([("schema", "<i8"), ("index", "<i8")])  # where each begins
_ENTRY = np.dtype([("partition", "<i8"), ("offset", "<i8"), ("length", "<i8")])


def partition_of(keys: np.ndarray, partitions: int) -> np.ndarray:
    """The partition of each uint64 key: its top bits, so that partitions in order are sorted by key,
    whatever their number."""
    bits = partitions.bit_length() - 1
    return (keys >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(len(keys), np.int64)


class Spool:
    """What one map task sends: chunks sorted by key, one file with an index at its end.

    `write` returns after the file is complete under its final name, so a file that exists is whole.
    """

    def __init__(self, path: Path, key: str, partitions: int, run: str, combine: Any = None) -> None:
        self._path, self._key, self._partitions, self._run = path, key, partitions, run
        self._combine = combine
        self._held: list[pa.RecordBatch] = []
        self._bytes = 0
        self._schema: pa.Schema | None = None
        self._temporary = unfinished(path.parent, run, path.name)
        self._file = self._temporary.open("xb")
        self._index: list[tuple[int, int, int]] = []  # partition, offset, length

    def add(self, batch: pa.RecordBatch) -> None:
        if self._schema is None:
            empty = batch.slice(0, 0)
            self._schema = (self._combine.combine(empty) if self._combine is not None else empty).schema
        if len(batch):
            self._held.append(batch)
            self._bytes += batch.nbytes
        if self._bytes >= BUFFER_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._held:
            return
        held = _sorted(pa.concat_batches(self._held), self._key)
        if self._combine is not None:
            held = _sorted(self._combine.combine(held), self._key)
        bounds = partition_of(held.column(self._key).to_numpy(), self._partitions)
        edges = np.searchsorted(bounds, np.arange(self._partitions + 1))
        for partition in range(self._partitions):
            for chunk in _chunks(held.slice(edges[partition], edges[partition + 1] - edges[partition])):
                data = chunk.serialize()
                self._index.append((partition, self._file.tell(), data.size))
                self._file.write(data)
        self._held, self._bytes = [], 0

    def close(self) -> None:
        """Writes the rest and the index, and gives the file its name."""
        self._flush()
        assert self._schema is not None, "a task spools at least one batch"
        schema = self._schema.serialize()
        start = self._file.tell()
        self._file.write(schema)
        trailer = np.array((start, self._file.tell()), _TRAILER)
        self._file.write(np.array(self._index, _ENTRY).tobytes() + trailer.tobytes())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        publish(self._temporary, self._path)

    def abandon(self) -> None:
        """Removes what was written; a full disk, on which the file cannot be ended, is no hindrance."""
        self._temporary.unlink(missing_ok=True)
        with suppress(OSError):
            self._file.close()


def _sorted(batch: pa.RecordBatch, key: str) -> pa.RecordBatch:
    keys = batch.column(key).to_numpy()
    if len(keys) < 2 or bool((keys[1:] >= keys[:-1]).all()):
        return batch
    return batch.take(pa.array(np.argsort(keys, kind="stable")))


def _chunks(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    ends = np.cumsum(row_bytes(batch))
    start = 0
    while start < len(batch):
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + CHUNK_BYTES)) + 1
        stop = min(stop, start + CHUNK_ROWS, len(batch))
        yield batch.slice(start, stop - start)
        start = stop


class SpoolReader:
    """The chunks of a spool file, mapped into memory: only what is looked at is read."""

    def __init__(self, path: Path) -> None:
        # The mapping outlives the open file: there may be more map tasks than a process may have files open.
        with pa.memory_map(str(path)) as file:
            self._buffer = file.read_buffer()
        end = self._buffer.size - _TRAILER.itemsize
        schema, index = np.frombuffer(self._buffer, _TRAILER, offset=end)[0].tolist()
        written = pa.ipc.read_schema(self._buffer.slice(schema, index - schema))
        # Inputs that pass different steps differ in what they say can be null; their rows meet here.
        self.schema = pa.schema([field.with_nullable(True) for field in written])
        self._chunks = np.frombuffer(self._buffer, _ENTRY, (end - index) // _ENTRY.itemsize, index)

    def partition(self, number: int) -> Iterator[pa.RecordBatch]:
        """The chunks of one partition, in the order in which they were written, each sorted by key."""
        for _, offset, length in self._chunks[self._chunks["partition"] == number].tolist():
            yield pa.ipc.read_record_batch(self._buffer.slice(offset, length), self.schema)


def sorted_partition(
    readers: Sequence[SpoolReader], key: str, partition: int, partitions: int, limit: int = SORT_BYTES
) -> Iterator[pa.RecordBatch]:
    """The rows of a partition sorted by key, rows of one key in the order (part, chunk, row).

    Holds about `limit` bytes: what is larger is cut by key until it fits; the rows of a single key
    need no sorting and are streamed. Yields at least one batch.
    """
    runs = [chunk for reader in readers for chunk in reader.partition(partition)]
    width = (1 << 64) // partitions
    low = partition * width
    empty = True
    for batch in _sort_range(runs, key, low, low + width - 1, limit):
        empty = False
        yield batch
    if empty:
        schema = readers[0].schema
        yield pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _sort_range(
    runs: Sequence[pa.RecordBatch], key: str, low: int, high: int, limit: int
) -> Iterator[pa.RecordBatch]:
    pieces = []
    for run in runs:
        keys = run.column(key).to_numpy()
        start = int(np.searchsorted(keys, np.uint64(low)))
        stop = int(np.searchsorted(keys, np.uint64(high), side="right"))
        if stop > start:
            pieces.append(run.slice(start, stop - start))
    if not pieces:
        return
    if sum(piece.nbytes for piece in pieces) <= limit:
        yield from _chunks(_sorted(pa.concat_batches(pieces), key))
    elif low == high:
        yield from pieces
    else:
        middle = (low + high) // 2
        yield from _sort_range(pieces, key, low, middle, limit)
        yield from _sort_range(pieces, key, middle + 1, high, limit)
