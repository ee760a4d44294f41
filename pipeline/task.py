"""Tasks: what a worker does for a stage. They know no engine and hold no state between each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from .commit import PartOutput
from .exchange import Spool, SpoolReader, sorted_partition
from .operator import Operator, build
from .stage import Committed, Input, PartRef, Stage, TaskId
from .view import read_part


def map_task(stage: Stage, run: str) -> Committed:
    """Runs a map-only task, the only part of `stage` (see Stage.on_part), and commits its part."""
    (source,) = stage.inputs.values()
    (part,) = source.parts
    out = PartOutput(Path(stage.directory), part.index, run)
    try:
        rows_out = sum(len(batch) for batch in _flow(source, part, out))
        return out.commit(rows_out, part.bytes)
    except BaseException:
        out.abandon()
        raise


def spool_path(stage: Stage, name: str, part: int) -> Path:
    """Where the map task of an exchange leaves what it sends."""
    return Path(stage.directory) / "spool" / f"{name}-{part:05d}.chunks"


def spool_task(stage: Stage, run: str) -> int:
    """Runs the map side of an exchange over the only part of `stage`; returns the rows that it sends."""
    ((name, source),) = stage.inputs.items()
    (part,) = source.parts
    assert source.key is not None
    path = spool_path(stage, name, part.index)
    out = PartOutput(Path(stage.directory), part.index, run)
    combine = build(stage.combine) if stage.combine is not None else None
    spool = Spool(path, source.key, stage.partitions, run, combine)
    rows = 0
    try:
        for batch in _flow(source, part, out):
            rows += len(batch)
            spool.add(batch)
        spool.close()
    except BaseException:
        spool.abandon()
        raise
    finally:
        out.abandon()  # the map side of an exchange decides nothing, so it has no streams of its own
    return rows


def reduce_task(stage: Stage, task: TaskId, run: str) -> Committed:
    """Runs the reduce side of an exchange for one partition and commits its part."""
    assert stage.reduce is not None
    out = PartOutput(Path(stage.directory), task, run)

    def counted(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            out.rows_in += len(batch)
            yield batch

    inputs: dict[str, Iterator[pa.RecordBatch]] = {}
    for name, source in stage.inputs.items():
        assert source.key is not None
        readers = [SpoolReader(spool_path(stage, name, part.index)) for part in source.parts]
        inputs[name] = counted(sorted_partition(readers, source.key, task, stage.partitions))
    try:
        build(stage.reduce).reduce(inputs, out)
        return out.commit(out.rows_in, 0)
    except BaseException:
        out.abandon()
        raise


def _flow(source: Input, part: PartRef, out: PartOutput) -> Iterator[pa.RecordBatch]:
    """The batches of a part after all operators."""
    operators: list[Operator] = [build(ref) for ref in source.maps]
    for operator in operators:
        operator.begin(part.index)
    batches = build(part.reader).read(part.index, out) if part.reader else read_part(part, source.columns)
    for batch in batches:
        out.rows_in += len(batch)
        for operator in operators:
            batch = operator.apply(batch, out)
        yield batch
    for place, operator in enumerate(operators):
        last = operator.end(out)
        if last is not None:
            for follower in operators[place + 1 :]:
                last = follower.apply(last, out)
            yield last
