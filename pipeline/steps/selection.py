"""Selection on the stage machinery: a summary of each part, merged in order, then a decision applied."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.contracts import Again, Decision, Selector
from ...schemas.records import POSITION
from ...schemas.verbs import OnNull
from ...scorers.assets import LocalAssets
from ...scorers.tokens import TokenScorer
from ..draws import draws
from ..operator import Combiner, Operator, Output, Reducer, build
from ..selectors.cap import ROWS, group_hashes, prune, within_cap
from ..selectors.groups import check_scores, group_names
from ..selectors.mix import OVER_CAP
from ..selectors.order import score_words
from ..selectors.top import NULL_SCORE, TopSelector, unit_counts
from ..stage import OperatorRef
from .groups import GROUP_BYTES, Giant, groups

DECISION = pa.schema(
    [pa.field("kind", pa.string()), pa.field("values", pa.string())]
)  # decision | again; JSON
KEPT: Final = pa.schema(
    [
        pa.field(POSITION, pa.uint64(), nullable=False),  # unique: of a record that fits into its group's cap
        pa.field("kept", pa.bool_(), nullable=False),
    ]
)


def _selector(spec: list[str]) -> Selector:
    selector = build(OperatorRef(*spec))
    assert isinstance(selector, Selector)
    return selector


def _learned(values: str | None) -> Again | None:
    return None if values is None else Again(json.loads(values))


class Measure(Operator):
    """Adds what a selection counts and draws by: columns for this step alone.

    `tokens`: the column for the tokens of the text, and `tokenizer` the file, found as an asset of
    `directory`. `draw`: the column for random numbers. `checksum` and `version`, of tokenizer and scorer, are
    for the fingerprint.
    """

    def __init__(
        self,
        step: str,
        draw: str | None = None,
        seed: int = 0,
        tokens: str | None = None,
        tokenizer: str = "",
        directory: str = "",
        checksum: str = "",
        version: int = 0,
    ) -> None:
        self._step, self._seed, self._draw, self._tokens = step, seed, draw, tokens
        self._directory, self._tokenizer = directory, tokenizer
        self._scorer = TokenScorer(tokenizer) if tokens else None

    def open(self) -> None:
        if self._scorer is not None:
            self._scorer.open(LocalAssets([Path(self._directory or ".")]))

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        if self._scorer is not None:
            batch = batch.append_column(self._tokens, self._scorer.score(batch)["tokens"])
        if self._draw is not None:
            drawn = draws(batch.column("id"), self._seed, self._step)
            batch = batch.append_column(self._draw, pa.array(drawn))
        return batch


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
    """Drops the records of a part that the decision did not choose.

    With `column`, the value that decided stays with the others under that name.
    """

    def __init__(self, step: str, selector: list[str], decision: str, column: str | None = None) -> None:
        self._step, self._selector, self._column = step, _selector(selector), column
        self._decision = Decision(json.loads(decision))

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        chosen = self._selector.decide(batch, self._decision)
        reasons: Any = pc.if_else(chosen.column("keep"), None, chosen.column("reason"))
        values = chosen.column("value")
        if self._column is not None:
            batch = batch.append_column(self._column, values)
        return out.drop(self._step, batch, reasons, values)


class ByGroup(Operator):
    """One row for each record that has a score, with the hash of its group: what the exchange groups by."""

    def __init__(self, step: str, by: str, within: str, unit_column: str | None, on_null: OnNull) -> None:
        self._step, self._by, self._within = step, by, within
        self._unit_column, self._on_null = unit_column, on_null

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        words, ranked = score_words(batch.column(self._by))
        check_scores(batch, ranked, self._by, self._step, self._on_null)
        key, low = group_hashes(group_names(batch, self._within))
        units = unit_counts(batch, self._unit_column)
        ids = batch.column("id").cast(pa.string())
        columns = [key, low, pa.array(~words), pa.array(units), ids, batch.column(POSITION)]
        rows = pa.RecordBatch.from_arrays(columns, schema=ROWS)
        return rows.filter(pa.array(ranked))


class Prune(Combiner):
    """Leaves out the rows that cannot fit: of a large group each task sends little more than a cap."""

    def __init__(self, cap: int) -> None:
        self._cap = cap

    def combine(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return prune(batch, self._cap)


class KeepWithinCap(Reducer):
    """Commits the positions of the records that fit into the caps of their groups.

    Holds one group, up to a bound, beyond which it is on disk and read as often as a selection by budget
    needs.
    """

    def __init__(self, step: str, cap: int, group_bytes: int = GROUP_BYTES) -> None:
        self._step, self._cap, self._bytes = step, cap, group_bytes

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit("kept", _kept(pa.array([], pa.uint64())))
        for group in groups(inputs["rows"], out.new_file, self._bytes):
            if isinstance(group, Giant):
                self._choose(group, out)
                continue
            positions, count, over = within_cap(group, self._cap)
            out.emit("kept", _kept(positions))
            out.accounts.note(self._step, groups=count, groups_over_cap=over)

    def _choose(self, giant: Giant, out: Output) -> None:
        # Two groups whose hashes agree in the upper half are told apart by the lower one.
        selector = TopSelector("rank", budget=self._cap, within="low", unit_column="units", step=self._step)
        learned: Again | None = None
        outcome: Decision | Again | None = None
        while not isinstance(outcome, Decision):
            state = selector.start(learned)
            for batch in giant.batches():
                state = selector.update(state, batch, learned)
            outcome = selector.finish(state, learned)
            learned = outcome if isinstance(outcome, Again) else None
        for batch in giant.batches():
            fits = selector.decide(batch, outcome).column("keep")
            out.emit("kept", _kept(batch.column(POSITION).filter(fits)))
        found = outcome.values["groups"]
        over = sum(group["first_dropped"] is not None for group in found)
        out.accounts.note(self._step, groups=len(found), groups_over_cap=over)


def _kept(positions: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([positions, pa.array(np.ones(len(positions), np.bool_))], schema=KEPT)


class DropOverCap(Operator):
    """Drops the records that did not fit; `kept` is null for them and for those without a score."""

    def __init__(self, step: str, by: str, kept: str, on_null: OnNull) -> None:
        self._step, self._by, self._kept, self._on_null = step, by, kept, on_null

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        scores = batch.column(self._by)
        _, ranked = score_words(scores)
        without = None if self._on_null == "keep" else NULL_SCORE
        why = pc.if_else(pa.array(ranked), OVER_CAP, pa.scalar(without, pa.string()))
        reasons = pc.if_else(pc.is_valid(batch.column(self._kept)), pa.scalar(None, pa.string()), why)
        return out.drop(self._step, batch, reasons, scores.cast(pa.string()))
