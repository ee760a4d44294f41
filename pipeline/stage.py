"""What an engine runs: a stage of tasks over committed parts, described by plain data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

TaskId = int  # a map-only stage: the index of a part; a stage with an exchange: the number of a partition


@dataclass(frozen=True)
class OperatorRef:
    """An operator by name and plain arguments, so that any worker can build it.

    `name` is `module:Class`; `arguments` is canonical JSON, which makes the reference hashable.
    """

    name: str
    arguments: str = "{}"

    @classmethod
    def of(cls, operator: type, **arguments: Any) -> OperatorRef:
        """The reference to `operator(**arguments)`; the arguments must survive a round trip through JSON."""
        return cls(
            f"{operator.__module__}:{operator.__qualname__}",
            json.dumps(arguments, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        )


@dataclass(frozen=True)
class Layer:
    """Some columns of a part, each row with its `position`, sorted and unique.

    A Parquet file, which may hold the rows of several ingest parts (a corpus step's output): readers take the
    range of positions that belongs to theirs. Or the part's own source, read again by `reader`: then the
    payload has never been copied, and the layer holds every row that the source has.
    """

    path: str
    checksum: str  # of what is read: xxh3-128 of the file in hexadecimal, or the source's identity
    columns: tuple[str, ...]
    optional: bool = False  # True: it annotates some rows (null elsewhere); False: it holds all that survive
    reader: OperatorRef | None = None  # a LayerReader; `path` only says where the source is


@dataclass(frozen=True)
class PartRef:
    """The rows of one ingest part as they are now: layers joined by position, the latest column winning.

    A part that is not read through layers names its own `reader`, an operator that yields batches.
    """

    index: int
    layers: tuple[Layer, ...] = ()
    reader: OperatorRef | None = None
    label: str = ""  # what a person calls it: the file and the range that it comes from
    bytes: int = 0  # what a task over this part has to read, for planning and progress
    rows: int = 0
    identity: str = ""  # of all that the reader reads, and how; enters the fingerprint in place of arguments


Parts = tuple[PartRef, ...]


@dataclass(frozen=True)
class Input:
    """What flows into a stage from one side."""

    parts: Parts
    maps: tuple[OperatorRef, ...] = ()
    key: str | None = None  # uint64 column, uniform over 64 bits; None: map-only
    columns: tuple[str, ...] | None = None  # projection pushed into the reader


@dataclass(frozen=True)
class Resources:
    """What one task or actor of a stage needs."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0  # bytes; 0: the engine's default
    actors: tuple[int, int] | None = None  # (fewest, most) actors of a stage that owns a model


@dataclass(frozen=True)
class Stage:
    """Many tasks of one kind; `directory` is where they commit."""

    name: str
    directory: str
    inputs: Mapping[str, Input]
    partitions: int = 0  # a power of two; 0: map-only
    reduce: OperatorRef | None = None
    combine: OperatorRef | None = None
    resources: Resources = field(default_factory=Resources)
    on: str | None = None  # the engine that runs it; None: that of the job
    spool: str = ""  # the folder for what map tasks send; "": `spool` in `directory`

    @property
    def owns_model(self) -> bool:
        """Whether its operators hold something that is dear to load: then workers are kept for it alone."""
        return self.resources.actors is not None or self.resources.gpus > 0

    @property
    def tasks(self) -> tuple[TaskId, ...]:
        """Every task whose commit the stage needs."""
        if self.reduce is not None:
            return tuple(range(self.partitions))
        (only,) = self.inputs.values()
        return tuple(part.index for part in only.parts)

    def on_part(self, name: str, part: PartRef) -> Stage:
        """What the map task of one part has to know of the stage: nothing of the other parts."""
        return replace(self, inputs={name: replace(self.inputs[name], parts=(part,))})

    def on_partition(self) -> Stage:
        """What a reduce task has to know of the stage: which parts were mapped, nothing of their content."""
        lean = {
            name: replace(source, maps=(), parts=tuple(PartRef(part.index) for part in source.parts))
            for name, source in self.inputs.items()
        }
        return replace(self, inputs=lean)


@dataclass(frozen=True)
class StreamRef:
    """One file of a committed part."""

    path: str
    rows: int
    bytes: int
    checksum: str  # xxh3-128 of the file in hexadecimal; of a shard its SHA-256
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Committed:
    """A manifest entry: what one task committed, with its accounts."""

    task: TaskId
    streams: Mapping[str, StreamRef]
    accounts: Mapping[str, Any]
    rows_in: int = 0
    rows_out: int = 0
    bytes_in: int = 0


class TaskFailed(Exception):
    """Tasks were given up: their stage, and for each why it failed.

    `of_parts`: the tasks are numbered as the parts of an input; otherwise as partitions.
    """

    def __init__(self, stage: str, failures: Mapping[TaskId, str], of_parts: bool) -> None:
        self.stage, self.of_parts = stage, of_parts
        self.failures = dict(failures)
        reasons = "; ".join(f"part {task}: {reason}" for task, reason in sorted(self.failures.items()))
        super().__init__(f"stage {stage}: {reasons}")


class EngineError(Exception):
    """An engine cannot start or go on; the message says why and what to do. What is committed stays."""


@dataclass(frozen=True)
class Probe:
    """A file in the work directory that every worker must be able to read, and its content."""

    path: str
    content: str


class Engine(Protocol):
    """Decides where tasks run and moves bytes between them; it never sees a filter, a scorer or a model."""

    def check(self, probe: Probe) -> None:
        """Raises EngineError, before any work, where a worker cannot read the probe."""
        ...

    def run(self, stage: Stage, todo: Sequence[TaskId]) -> Iterator[Committed]:
        """Runs the tasks `todo` and yields each commit as it happens, in any order.

        Raises TaskFailed, after all other tasks have committed, for the tasks that were given up, and
        EngineError where no more tasks can run.
        """
        ...

    def close(self) -> None:
        """Ends every worker."""
        ...
