"""Operators: what a task does to its batches, and where it writes what it finds."""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, cast

import pyarrow as pa
import pyarrow.compute as pc

from ..schemas.ledger import LEDGER
from .accounts import Accounts
from .stage import OperatorRef, StreamRef


class Output(ABC):
    """Where operators put what does not flow on: rows of named streams, ledger rows and counts."""

    accounts: Accounts
    rows_in: int  # that entered the task, for its progress

    @abstractmethod
    def emit(self, stream: str, batch: pa.RecordBatch) -> None:
        """Appends rows to a stream of the part; every batch of a stream has one schema."""

    @abstractmethod
    def new_file(self, name: str) -> Path:
        """A path for a file that the operator writes itself and then hands to `attach`."""

    @abstractmethod
    def attach(self, stream: str, file: StreamRef) -> None:
        """Adds a finished file to the part."""

    def drop(
        self,
        step: str,
        batch: pa.RecordBatch,
        reasons: pa.Array,
        values: pa.Array | None = None,
        verdict: str | pa.Array = "dropped",
    ) -> pa.RecordBatch:
        """Writes a ledger row for each row of `batch` with a reason, counts them, and returns the others.

        `batch` has position, id and source; `reasons` and `values` are strings, null reason: keep.
        `verdict` is one for all rows or an array.
        """
        lost = pc.is_valid(reasons)
        gone = batch.filter(lost)
        why = reasons.filter(lost)
        rows = len(gone)
        verdicts = (
            verdict.filter(lost) if isinstance(verdict, pa.Array) else pa.array([verdict] * rows, pa.string())
        )
        columns = [
            gone.column("position"),
            gone.column("id"),
            gone.column("source"),
            pa.array([step] * rows, pa.string()),
            verdicts,
            why.cast(pa.string()),
            pa.nulls(rows, pa.string()) if values is None else values.filter(lost).cast(pa.string()),
        ]
        self.emit("ledger", pa.RecordBatch.from_arrays(columns, schema=LEDGER))
        self.accounts.count(step, len(batch), verdicts, why)
        return batch.filter(pc.invert(lost)) if rows else batch


class Operator(ABC):
    """Maps batches; built once per worker, told when a part begins and ends.

    `version` changes whenever the same input would give other output.
    """

    version: ClassVar[int] = 1
    kernels: ClassVar[tuple[str, ...]] = ()  # modules that are slow to import: engines may do it once for all

    @classmethod
    def kernels_with(cls, arguments: Mapping[str, Any]) -> tuple[str, ...]:
        """The same for an operator that is built with these arguments."""
        return cls.kernels

    def open(self) -> None:
        """Loads what it needs; called once per worker."""

    def begin(self, part: int) -> None:
        """A new part begins: forget the last one."""

    @abstractmethod
    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        """The rows that flow on. Must accept a batch without rows and give the same schema."""

    def end(self, out: Output) -> pa.RecordBatch | None:
        """The part is over; may give a last batch, which flows through the operators behind it."""
        return None

    def flow(self, batches: Iterator[pa.RecordBatch], out: Output) -> Iterator[pa.RecordBatch]:
        """The batches of a part on their way through: `apply` to each, then `end`.

        An operator that works on several batches at once, or cuts them anew, does it here; it keeps the order
        of positions.
        """
        for batch in batches:
            yield self.apply(batch, out)
        last = self.end(out)
        if last is not None:
            yield last


class Reader(ABC):
    """Yields the batches of a part that is not read through layers."""

    version: ClassVar[int] = 1

    @abstractmethod
    def read(self, part: int, out: Output) -> Iterator[pa.RecordBatch]:
        """The batches of part `part`, at least one (perhaps without rows), all of one schema."""


class LayerReader(ABC):
    """Reads the columns of a layer that is not a committed file."""

    @abstractmethod
    def read_again(self, part: int) -> Iterator[pa.RecordBatch]:
        """`position` and the layer's columns, in the order of position; at least one batch."""


class Reducer(ABC):
    """Sees one partition: for each input its batches, sorted by key; rows of one key keep their order by
    (part, chunk, row)."""

    version: ClassVar[int] = 1

    @abstractmethod
    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        """Writes the partition's streams. Every input gives at least one batch, perhaps without rows."""


class Combiner(ABC):
    """Associative reduction of a sorted chunk before it travels: rows in, fewer or better spread rows out."""

    version: ClassVar[int] = 1

    @abstractmethod
    def combine(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of the same schema that reduce to the same result; they need not be sorted."""


def resolve(ref: OperatorRef) -> type:
    """The class that a reference names."""
    module, _, name = ref.name.partition(":")
    return cast(type, getattr(importlib.import_module(module), name))


def kernels_of(ref: OperatorRef) -> tuple[str, ...]:
    """The modules that the operator compiles or loads."""
    names: tuple[str, ...] = resolve(ref).kernels_with(json.loads(ref.arguments))  # type: ignore[attr-defined]
    return names


@lru_cache(maxsize=256)
def build(ref: OperatorRef) -> Any:
    """The operator, opened; one for each reference and worker."""
    operator = resolve(ref)(**json.loads(ref.arguments))
    if isinstance(operator, Operator):
        operator.open()
    return operator


def signature(ref: OperatorRef) -> Any:
    """What of an operator enters a fingerprint: name, arguments, declared version."""
    return [ref.name, json.loads(ref.arguments), resolve(ref).version]  # type: ignore[attr-defined]
