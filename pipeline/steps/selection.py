"""Selection on the stage machinery: a summary of each part, merged in order, then a decision applied."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.contracts import Again, Decision, Selector
from ..operator import Operator, Output, Reducer, build
from ..stage import OperatorRef

DECISION = pa.schema(
    [pa.field("kind", pa.string()), pa.field("values", pa.string())]
)  # decision | again; JSON


def _selector(spec: list[str]) -> Selector:
    selector = build(OperatorRef(*spec))
    assert isinstance(selector, Selector)
    return selector


def _learned(values: str | None) -> Again | None:
    return None if values is None else Again(json.loads(values))


class Summarise(Operator):
    """The selector's state of one part: one row for the exchange."""

    def __init__(self, selector: list[str], learned: str | None) -> None:
        self._selector, self._learned = _selector(selector), _learned(learned)
        self._state: pa.Table | None = None

    def begin(self, part: int) -> None:
        self._state = self._selector.start(self._learned)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        if len(batch):
            self._state = self._selector.update(self._state, batch, self._learned)
        return _row(None)

    def end(self, out: Output) -> pa.RecordBatch:
        return _row(self._state)


def _row(state: pa.Table | None) -> pa.RecordBatch:
    data: list[bytes] = []
    if state is not None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, state.schema) as writer:
            writer.write_table(state)
        data = [sink.getvalue().to_pybytes()]
    keys = pa.array([0] * len(data), pa.uint64())
    return pa.RecordBatch.from_arrays([keys, pa.array(data, pa.large_binary())], names=["key", "state"])


class Decide(Reducer):
    """Merges the states in the order of parts and asks the selector for its decision."""

    def __init__(self, selector: list[str], learned: str | None) -> None:
        self._selector, self._learned = _selector(selector), _learned(learned)

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        merged: pa.Table | None = None
        for batch in inputs["states"]:
            for data in batch.column("state"):
                state = pa.ipc.open_stream(data.as_buffer()).read_all()
                merged = state if merged is None else self._selector.merge(merged, state, self._learned)
        if merged is None:
            merged = self._selector.start(self._learned)
        outcome = self._selector.finish(merged, self._learned)
        kind = "decision" if isinstance(outcome, Decision) else "again"
        values = json.dumps(outcome.values, sort_keys=True, ensure_ascii=False)
        out.emit(
            "decision", pa.RecordBatch.from_pydict({"kind": [kind], "values": [values]}, schema=DECISION)
        )


class Apply(Operator):
    """Drops the records of a part that the decision did not choose."""

    def __init__(self, step: str, selector: list[str], decision: str) -> None:
        self._step, self._selector = step, _selector(selector)
        self._decision = Decision(json.loads(decision))

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        chosen = self._selector.decide(batch, self._decision)
        reasons: Any = pc.if_else(chosen.column("keep"), None, chosen.column("reason"))
        return out.drop(self._step, batch, reasons, chosen.column("value"))
