"""The exchange of a stage: rows cut into partitions by the top bits of their key, then sorted by it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .kept import Kept
from .row_groups import row_bytes
from .storage import Place, RemotePath
from .store import PartFile, publish, unfinished

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


class Cutter:
    """What one map task sends: its rows sorted by key and cut into chunks of one partition each.

    `send` is called with the partition and the chunk as a record batch in Arrow IPC without its schema.
    """

    def __init__(
        self, key: str, partitions: int, send: Callable[[int, pa.Buffer], None], combine: Any = None
    ) -> None:
        self._key, self._partitions, self._send, self._combine = key, partitions, send, combine
        self._held: list[pa.RecordBatch] = []
        self._bytes = 0
        self.schema: pa.Schema | None = None  # of the chunks; known from the first batch on

    def add(self, batch: pa.RecordBatch) -> None:
        if self.schema is None:
            empty = batch.slice(0, 0)
            self.schema = (self._combine.combine(empty) if self._combine is not None else empty).schema
        if len(batch):
            self._held.append(batch)
            self._bytes += batch.nbytes
        if self._bytes >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Sends what is held."""
        if not self._held:
            return
        held = _sorted(pa.concat_batches(self._held), self._key)
        if self._combine is not None:
            held = _sorted(self._combine.combine(held), self._key)
        bounds = partition_of(held.column(self._key).to_numpy(), self._partitions)
        edges = np.searchsorted(bounds, np.arange(self._partitions + 1))
        for partition in range(self._partitions):
            for chunk in _chunks(held.slice(edges[partition], edges[partition + 1] - edges[partition])):
                self._send(partition, chunk.serialize())
        self._held, self._bytes = [], 0


class Spool:
    """The chunks of one map task in one file with an index at its end.

    `close` returns after the file is complete under its final name, so a file that exists is whole.
    """

    def __init__(self, path: Place, key: str, partitions: int, run: str, combine: Any = None) -> None:
        self._path = path
        self._temporary = unfinished(path.parent, run, path.name)
        self._file = self._temporary.open("xb")
        self._index: list[tuple[int, int, int]] = []  # partition, offset, length
        self._cutter = Cutter(key, partitions, self._append, combine)

    def add(self, batch: pa.RecordBatch) -> None:
        self._cutter.add(batch)

    def _append(self, partition: int, chunk: pa.Buffer) -> None:
        self._index.append((partition, self._file.tell(), chunk.size))
        self._file.write(chunk)

    def close(self) -> None:
        """Writes the rest and the index, and gives the file its name."""
        self._cutter.flush()
        assert self._cutter.schema is not None, "a task spools at least one batch"
        schema = self._cutter.schema.serialize()
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
    """The chunks of a spool file. A local one is mapped into memory: only what is looked at is read."""

    def __init__(self, path: Place) -> None:
        if isinstance(path, Path):
            # The mapping outlives the open file: there may be more map tasks than a process may have files
            # open.
            with pa.memory_map(str(path)) as file:
                self._bytes: _Mapped | _Ranged = _Mapped(file.read_buffer())
        else:
            self._bytes = _Ranged(path)
        end = self._bytes.size - _TRAILER.itemsize
        schema, index = np.frombuffer(self._bytes.read(end, _TRAILER.itemsize), _TRAILER)[0].tolist()
        described = self._bytes.read(schema, end - schema)
        self.is_mapped = isinstance(path, Path)
        self.schema = met_schema(pa.ipc.read_schema(described.slice(0, index - schema)))
        self._chunks = np.frombuffer(described, _ENTRY, (end - index) // _ENTRY.itemsize, index - schema)

    def partition(self, number: int) -> Iterator[pa.Buffer]:
        """The chunks of one partition, in the order in which they were written, each sorted by key."""
        for _, offset, length in self._chunks[self._chunks["partition"] == number].tolist():
            yield self._bytes.read(offset, length)


class _Mapped:
    def __init__(self, buffer: pa.Buffer) -> None:
        self._buffer, self.size = buffer, buffer.size

    def read(self, offset: int, length: int) -> pa.Buffer:
        return self._buffer.slice(offset, length)


class _Ranged:
    def __init__(self, path: RemotePath) -> None:
        self._file = PartFile(path)
        self.size = self._file.size

    def read(self, offset: int, length: int) -> pa.Buffer:
        self._file.seek(offset)
        return pa.py_buffer(self._file.read(length))


def met_schema(written: pa.Schema) -> pa.Schema:
    """The schema by which chunks of several inputs are read: those that pass different steps differ in what
    they say can be null, and their rows meet here."""
    return pa.schema([field.with_nullable(True) for field in written])


def chunks_of(readers: Sequence[SpoolReader], partition: int) -> list[pa.RecordBatch]:
    """The chunks of a partition in the order (part, chunk), none of them in the memory of the process."""
    if all(reader.is_mapped for reader in readers):
        return [
            pa.ipc.read_record_batch(chunk, reader.schema)
            for reader in readers
            for chunk in reader.partition(partition)
        ]
    with closing(Kept()) as kept:
        spans = [
            (kept.add(chunk), reader.schema) for reader in readers for chunk in reader.partition(partition)
        ]
        mapped = kept.mapped()
    return [pa.ipc.read_record_batch(mapped.slice(*span), schema) for span, schema in spans]


def sorted_partition(
    chunks: Sequence[pa.RecordBatch],
    schema: pa.Schema,
    key: str,
    partition: int,
    partitions: int,
    limit: int = SORT_BYTES,
) -> Iterator[pa.RecordBatch]:
    """The rows of a partition sorted by key, rows of one key in the order of their chunks and in these.

    `chunks`: each sorted by key. Holds about `limit` bytes: what is larger is cut by key until it fits; the
    rows of a single key need no sorting and are streamed. Yields at least one batch.
    """
    width = (1 << 64) // partitions
    low = partition * width
    empty = True
    for batch in _sort_range(chunks, key, low, low + width - 1, limit):
        empty = False
        yield batch
    if empty:
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
