"""The chunks of an exchange as Beam moves them: each knows where it comes from, because they arrive in any
order."""

from __future__ import annotations

import mmap
import struct
import uuid
from collections.abc import Iterator
from typing import Final, NamedTuple

import pyarrow as pa

from ..exchange import met_schema
from ..scratch import scratch
from ..task import Arrived

_ORIGIN: Final = struct.Struct("<qqq")
# In place of the number of a chunk.
_SCHEMA: Final = -1  # no rows: it says how the chunks of an input are to be read
_LOST: Final = -2  # the task of the part was given up: what belongs to the partition is not all here


class Origin(NamedTuple):
    """The number of an input in the order of names, a part of it, and which chunk of that part."""

    source: int
    part: int
    chunk: int


def schema_chunk(source: int, part: int, schema: pa.Schema) -> bytes:
    """What tells a partition how the chunks of an input are to be read, even where there are none."""
    return b"".join((_ORIGIN.pack(source, part, _SCHEMA), memoryview(schema.serialize())))


def lost_chunk(source: int, part: int) -> bytes:
    """What tells a partition that a part will not come."""
    return _ORIGIN.pack(source, part, _LOST)


class _Kept:
    """Buffers in a file of the scratch folder, in the order in which they come, and whose they are."""

    def __init__(self) -> None:
        self._path = scratch() / f"{uuid.uuid4().hex}.chunks"
        self._file = self._path.open("xb+")
        self._places: list[tuple[tuple[int, ...], int, int]] = []  # whose, offset, length
        self._end = 0

    def _keep(self, whose: tuple[int, ...], data: pa.Buffer | memoryview) -> None:
        length = len(memoryview(data))
        self._places.append((whose, self._end, length))
        self._file.write(data)
        self._end += length

    def _mapped(self) -> pa.Buffer:
        self._file.flush()
        if not self._end:
            return pa.py_buffer(b"")
        return pa.py_buffer(mmap.mmap(self._file.fileno(), self._end, access=mmap.ACCESS_READ))

    def close(self) -> None:
        """Removes the file; what is mapped stays readable."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class Outgoing(_Kept):
    """What one map task sends: it leaves once the task is through, so an attempt that fails sends nothing."""

    def add(self, partition: int, chunk: pa.Buffer) -> None:
        self._keep((partition,), chunk)

    def clear(self) -> None:
        """Forgets what an attempt has added."""
        self._places, self._end = [], 0
        self._file.seek(0)
        self._file.truncate()

    def chunks(self, source: int, part: int, wanted: frozenset[int]) -> Iterator[tuple[int, bytes]]:
        """Each partition that is wanted with a chunk for it, in the order in which they were added."""
        mapped = self._mapped()
        for number, ((partition,), offset, length) in enumerate(self._places):
            if partition in wanted:
                origin = _ORIGIN.pack(source, part, number)
                yield partition, b"".join((origin, memoryview(mapped.slice(offset, length))))


class Incoming(_Kept):
    """What has arrived for one partition: it takes no memory of the process, however much it is."""

    def __init__(self) -> None:
        super().__init__()
        self._schemas: dict[int, pa.Schema] = {}
        self.lost: set[tuple[int, int]] = set()  # the input and the part of what will not come

    def add(self, sent: bytes) -> None:
        origin = Origin(*_ORIGIN.unpack_from(sent))
        body = memoryview(sent)[_ORIGIN.size :]
        if origin.chunk == _SCHEMA:
            self._schemas[origin.source] = met_schema(pa.ipc.read_schema(pa.py_buffer(body)))
        elif origin.chunk == _LOST:
            self.lost.add((origin.source, origin.part))
        else:
            self._keep(origin, body)

    def arrived(self, source: int) -> Arrived:
        """The chunks of one input in the order (part, chunk), whatever the order of their arrival."""
        schema, mapped = self._schemas[source], self._mapped()
        places = {origin: where for origin, *where in self._places if origin[0] == source}
        return Arrived(
            schema,
            [
                pa.ipc.read_record_batch(mapped.slice(offset, length), schema)
                for _, (offset, length) in sorted(places.items())
            ],
        )
