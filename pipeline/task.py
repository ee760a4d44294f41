"""Tasks: what a worker does for a stage. They know no engine and hold no state between each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from .ahead import ahead
from .commit import PartOutput, read_entry
from .exchange import Cutter, Spool, SpoolReader, chunks_of, sorted_partition
from .operator import Operator, build
from .stage import Committed, Input, PartRef, Stage, TaskId
from .storage import Place, place
from .view import read_part


class Arrived(NamedTuple):
    """The chunks of one input that belong to a partition, in the order (part, chunk)."""

    schema: pa.Schema
    chunks: Sequence[pa.RecordBatch]


def map_task(stage: Stage, run: str) -> Committed:
    """Runs a map-only task, the only part of `stage` (see Stage.on_part), and commits its part."""
    (source,) = stage.inputs.values()
    (part,) = source.parts

    def work(out: PartOutput) -> Committed:
        batches = _flow(source, part, out, prefetch=stage.owns_model)
        return out.commit(sum(len(batch) for batch in batches), part.bytes)

    return _once(stage, part.index, run, work)


def spool_path(stage: Stage, name: str, part: int) -> Place:
    """Where the map task of an exchange leaves what it sends."""
    folder = place(stage.spool) if stage.spool else place(stage.directory) / "spool"
    return folder / f"{name}-{part:05d}.chunks"


def spool_task(stage: Stage, run: str) -> int:
    """Runs the map side of an exchange over the only part of `stage`; returns the rows that it sends."""
    ((name, source),) = stage.inputs.items()
    (part,) = source.parts
    assert source.key is not None
    combine = build(stage.combine) if stage.combine is not None else None
    spool = Spool(spool_path(stage, name, part.index), source.key, stage.partitions, run, combine)
    try:
        rows = _send(stage, source, part, run, spool.add)
        spool.close()
    except BaseException:
        spool.abandon()
        raise
    return rows


def send_task(stage: Stage, run: str, send: Callable[[int, pa.Buffer], None]) -> pa.Schema:
    """The same for an engine that brings the chunks to the reduce tasks itself: `send` gets the partition
    and the chunk. Returns the schema of the chunks."""
    ((_, source),) = stage.inputs.items()
    (part,) = source.parts
    assert source.key is not None
    combine = build(stage.combine) if stage.combine is not None else None
    cutter = Cutter(source.key, stage.partitions, send, combine)
    _send(stage, source, part, run, cutter.add)
    cutter.flush()
    assert cutter.schema is not None, "a task sends at least one batch"
    return cutter.schema


def _send(stage: Stage, source: Input, part: PartRef, run: str, add: Callable[[pa.RecordBatch], None]) -> int:
    out = PartOutput(place(stage.directory), part.index, run)
    rows = 0
    try:
        for batch in _flow(source, part, out):
            rows += len(batch)
            add(batch)
    finally:
        out.abandon()  # the map side of an exchange decides nothing, so it has no streams of its own
    return rows


def reduce_task(stage: Stage, task: TaskId, run: str) -> Committed:
    """Runs the reduce side of an exchange for one partition, out of the spools, and commits its part."""

    def arrived(name: str) -> Arrived:
        readers = [SpoolReader(spool_path(stage, name, part.index)) for part in stage.inputs[name].parts]
        if not readers:
            raise ValueError(f"input {name} has no parts, so nothing says which columns it has")
        return Arrived(readers[0].schema, chunks_of(readers, task))

    return _reduce(stage, task, run, arrived)


def reduce_arrived(stage: Stage, task: TaskId, run: str, inputs: Mapping[str, Arrived]) -> Committed:
    """The same for an engine that has brought the chunks here."""
    return _reduce(stage, task, run, inputs.__getitem__)


def _reduce(stage: Stage, task: TaskId, run: str, arrived: Callable[[str], Arrived]) -> Committed:
    assert stage.reduce is not None
    reduce = build(stage.reduce)

    def work(out: PartOutput) -> Committed:
        def counted(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                out.rows_in += len(batch)
                yield batch

        inputs: dict[str, Iterator[pa.RecordBatch]] = {}
        for name, source in stage.inputs.items():
            assert source.key is not None
            found = arrived(name)
            inputs[name] = counted(
                sorted_partition(found.chunks, found.schema, source.key, task, stage.partitions)
            )
        reduce.reduce(inputs, out)
        return out.commit(out.rows_in, 0)

    return _once(stage, task, run, work)


def _once(stage: Stage, task: TaskId, run: str, work: Callable[[PartOutput], Committed]) -> Committed:
    """What `work` commits, or what another worker or driver has committed meanwhile: then what this one was
    to read may be gone already."""
    directory = place(stage.directory)
    entry = read_entry(directory, task)
    if entry is not None:
        return entry
    out = PartOutput(directory, task, run)
    try:
        return work(out)
    except Exception:
        out.abandon()
        entry = read_entry(directory, task)
        if entry is None:
            raise
        return entry
    except BaseException:
        out.abandon()
        raise


def _flow(source: Input, part: PartRef, out: PartOutput, prefetch: bool = False) -> Iterator[pa.RecordBatch]:
    """The batches of a part after all operators; with `prefetch` they are read while these work."""
    operators: list[Operator] = [build(ref) for ref in source.maps]
    for operator in operators:
        operator.begin(part.index)
    batches = build(part.reader).read(part.index, out) if part.reader else read_part(part, source.columns)
    # A reader writes to `out` as the operators do, and so only in their thread.
    early = ahead(batches) if prefetch and not part.reader else None
    flow = _counted(early or batches, out)
    for operator in operators:
        flow = operator.flow(flow, out)
    try:
        yield from flow
    finally:
        if early is not None:
            early.close()


def _counted(batches: Iterator[pa.RecordBatch], out: PartOutput) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        out.rows_in += len(batch)
        yield batch
