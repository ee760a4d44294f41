"""What Beam's workers run: elements are descriptions of parts and, in an exchange, chunks of a partition."""

from __future__ import annotations

import pickle
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import apache_beam as beam
import pyarrow as pa

from ..commit import read_entry
from ..probe import answer
from ..scratch import scratch
from ..stage import PartRef, Probe, Stage, TaskId
from ..storage import place
from ..task import map_task, reduce_arrived, send_task
from .attempts import TRIES
from .beam_chunks import Incoming, Outgoing, lost_chunk, schema_chunk
from .beam_signs import Heartbeat, Signs, Unfit

Done = TypeVar("Done")

# Operators have a state while a part flows through them, and a worker has one of each; some runners give the
# threads of a process bundles of their own.
_one_task: Final = threading.Lock()


@dataclass(frozen=True)
class Orders:
    """What every worker of a pipeline is told.

    With a probe it first shows that it can read the directory, and then gives signs of life; the driver's own
    process needs neither.
    """

    signs: Signs
    probe: Probe | None


class Elements(beam.DoFn):  # type: ignore[misc]
    """Makes the elements that a pipeline begins with: in one packed piece, which is all that is part of the
    pipeline, because descriptions of parts are much alike and some runners bound the size of a pipeline."""

    def __init__(self, elements: Sequence[bytes]) -> None:
        self._packed = zlib.compress(pickle.dumps(list(elements)))

    def process(self, impulse: bytes) -> Iterator[bytes]:
        yield from pickle.loads(zlib.decompress(self._packed))


class Answer(beam.DoFn):  # type: ignore[misc]
    """Raises Unfit where this worker cannot read the probe."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def process(self, number: bytes) -> None:
        _ask(self._probe)


def _ask(probe: Probe) -> None:
    told = answer(probe)
    if told is not None:
        raise Unfit(told)


class _Tasks(beam.DoFn):  # type: ignore[misc]
    """Runs tasks of one stage, one at a time, and each up to three times."""

    def __init__(self, stage: Stage, orders: Orders) -> None:
        self._stage, self._orders = stage, orders

    def setup(self) -> None:
        pa.set_cpu_count(1)
        pa.set_io_thread_count(1)
        with _one_task:
            scratch()  # two threads would make two
        if self._orders.probe is not None:
            _ask(self._orders.probe)
            self._heart: Heartbeat | None = Heartbeat(self._orders.signs)
        else:
            self._heart = None

    def teardown(self) -> None:
        if self._heart is not None:
            self._heart.close()

    def _working(self) -> AbstractContextManager[None]:
        return self._heart.working() if self._heart is not None else nullcontext()

    def _complete(self, name: str, task: TaskId, work: Callable[[], Done]) -> Done | None:
        """What `work` returns; None where the task is given up, or the whole pipeline is."""
        with _one_task:
            if self._orders.signs.stopped():
                return None
            for remaining in reversed(range(TRIES)):
                try:
                    return work()
                except Exception as error:
                    if not remaining:
                        self._orders.signs.give_up(name, task, f"{type(error).__name__}: {error}")
        return None


class Map(_Tasks):
    """The tasks of a stage without an exchange."""

    def process(self, described: bytes) -> None:
        name, part = pickle.loads(described)
        side = self._stage.on_part(name, part)
        with self._working():
            self._complete(name, part.index, lambda: map_task(side, self._orders.signs.run))


class Send(_Tasks):
    """The map side of an exchange: from a part of an input come chunks for partitions.

    The first part of each input also tells every partition how its chunks are read. Of a part that is given
    up every partition hears.
    """

    def __init__(self, stage: Stage, orders: Orders, todo: Iterable[TaskId]) -> None:
        super().__init__(stage, orders)
        self._todo = frozenset(todo)

    def process(self, described: bytes) -> Iterator[tuple[int, bytes]]:
        name, part, is_first = pickle.loads(described)
        source = sorted(self._stage.inputs).index(name)
        outgoing = Outgoing()
        with self._working(), closing(outgoing):
            schema = self._complete(name, part.index, lambda: self._send(name, part, outgoing))
            if schema is None:
                for partition in self._todo:
                    yield partition, lost_chunk(source, part.index)
                return
            yield from outgoing.chunks(source, part.index, self._todo)
            if is_first:
                for partition in self._todo:
                    yield partition, schema_chunk(source, part.index, schema)

    def _send(self, name: str, part: PartRef, outgoing: Outgoing) -> pa.Schema:
        outgoing.clear()
        return send_task(self._stage.on_part(name, part), self._orders.signs.run, outgoing.add)


class Reduce(_Tasks):
    """The reduce side: from the chunks of a partition comes its commit, unless some are lost."""

    def process(self, arrived: tuple[int, Iterable[bytes]]) -> None:
        partition, chunks = arrived
        if read_entry(place(self._stage.directory), partition) is not None:
            return
        incoming = Incoming()
        with self._working(), closing(incoming):
            for chunk in chunks:
                incoming.add(chunk)
            if not incoming.lost:
                self._complete("", partition, lambda: self._reduce(partition, incoming))

    def _reduce(self, partition: TaskId, incoming: Incoming) -> Any:
        names = sorted(self._stage.inputs)
        inputs = {name: incoming.arrived(number) for number, name in enumerate(names)}
        return reduce_arrived(self._stage, partition, self._orders.signs.run, inputs)


def probing(probe: Probe, times: int) -> Callable[[Any], object]:
    """A pipeline that asks workers, so many times, whether they can read the probe."""
    numbers = [str(number).encode() for number in range(times)]
    return lambda pipeline: _spread(pipeline, numbers) | "Answer" >> beam.ParDo(Answer(probe))


def working(
    stage: Stage, todo: Sequence[TaskId], signs: Signs, probe: Probe | None
) -> Callable[[Any], object]:
    """A pipeline of the tasks `todo` of a stage."""
    orders = Orders(signs, probe)
    sources = {name: replace(source, parts=()) for name, source in stage.inputs.items()}
    lean = replace(stage, inputs=sources)
    if stage.reduce is None:
        wanted = set(todo)
        parts = [
            pickle.dumps((name, part))
            for name, source in stage.inputs.items()
            for part in source.parts
            if part.index in wanted
        ]
        return lambda pipeline: _spread(pipeline, parts) | "Map" >> beam.ParDo(Map(lean, orders))
    sides = [
        pickle.dumps((name, part, part is source.parts[0]))
        for name, source in stage.inputs.items()
        for part in source.parts
    ]
    return lambda pipeline: (
        _spread(pipeline, sides)
        | "Send" >> beam.ParDo(Send(lean, orders, todo)).with_output_types(tuple[int, bytes])
        | "Group" >> beam.GroupByKey()
        | "Reduce" >> beam.ParDo(Reduce(lean.on_partition(), orders))
    )


def _spread(pipeline: Any, elements: Sequence[bytes]) -> Any:
    """The elements, each by itself on any worker."""
    return (
        pipeline
        | "Begin" >> beam.Impulse()
        | "Elements" >> beam.ParDo(Elements(elements)).with_output_types(bytes)
        | "Spread" >> beam.Reshuffle()
    )
