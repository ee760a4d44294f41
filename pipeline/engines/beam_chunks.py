"""The chunks of an exchange as Beam moves them: each knows where it comes from, because they arrive in any
order."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import pyarrow as pa

from ..exchange import met_schema
from ..kept import Kept, Span
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


class Outgoing:
    """What one map task sends: it leaves once the task is through, so an attempt that fails sends nothing."""

    def __init__(self) -> None:
        self._kept = Kept()
        self._places: list[tuple[int, Span]] = []  # the partition of each chunk

    def add(self, partition: int, chunk: pa.Buffer) -> None:
        self._places.append((partition, self._kept.add(chunk)))

    def clear(self) -> None:
        """Forgets what an attempt has added."""
        self._places = []
        self._kept.clear()

    def close(self) -> None:
        """Removes what is kept."""
        self._kept.close()

    def chunks(self, source: int, part: int, wanted: frozenset[int]) -> Iterator[tuple[int, bytes]]:
        """Each partition that is wanted with a chunk for it, in the order in which they were added."""
        mapped = self._kept.mapped()
        for number, (partition, span) in enumerate(self._places):
            if partition in wanted:
                origin = _ORIGIN.pack(source, part, number)
                yield partition, b"".join((origin, memoryview(mapped.slice(*span))))


class Incoming:
    """What has arrived for one partition: it takes no memory of the process, however much it is."""

    def __init__(self) -> None:
        self._kept = Kept()
        self._places: dict[Origin, Span] = {}  # a chunk that arrives twice is there once
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
            self._places[origin] = self._kept.add(body)

    def close(self) -> None:
        """Removes what is kept."""
        self._kept.close()

    def arrived(self, source: int) -> Arrived:
        """The chunks of one input in the order (part, chunk), whatever the order of their arrival."""
        schema, mapped = self._schemas[source], self._kept.mapped()
        spans = sorted((origin, span) for origin, span in self._places.items() if origin.source == source)
        return Arrived(schema, [pa.ipc.read_record_batch(mapped.slice(*span), schema) for _, span in spans])
