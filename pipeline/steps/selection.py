"""Selection on the stage machinery: a summary of each part, merged in order, then a decision applied."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...filters import expressions
from ...schemas.contracts import Again, Decision, Selector
from ...schemas.records import POSITION
from ...schemas.verbs import OnNull
from ...scorers.assets import LocalAssets
from ...scorers.tokens import TokenScorer
from ..draws import draws
from ..operator import Combiner, Operator, Output, Reducer, build
from ..selectors.cap import (
    PLACED_ROWS,
    ROWS,
    group_hashes,
    once_for_each_group,
    prune,
    within_cap,
)
from ..selectors.groups import check_scores, group_names, memberships
from ..selectors.gumbel import gumbel_keys
from ..selectors.mix import OVER_CAP
from ..selectors.order import score_words
from ..selectors.top import NULL_SCORE, TopSelector, unit_counts
from ..stage import OperatorRef
from .groups import GROUP_BYTES, Giant, groups
from .part_order import ROWS as ORDERED

DECISION = pa.schema(
    [pa.field("kind", pa.string()), pa.field("values", pa.string())]
)  # decision | again; JSON
KEPT: Final = pa.schema(
    [
        pa.field(POSITION, pa.uint64(), nullable=False),  # unique: of a record that fits into its group's cap
        pa.field("kept", pa.bool_(), nullable=False),
    ]
)
PLACES: Final = pa.schema(
    [
        pa.field(POSITION, pa.uint64(), nullable=False),  # of a record, once for each group that it fits into
        pa.field("place", pa.int32(), nullable=False),  # of the group in the record's list
    ]
)
UNEVEN_LISTS: Final = "uneven_lists"


def _selector(spec: list[str]) -> Selector:
    selector = build(OperatorRef(*spec))
    assert isinstance(selector, Selector)
    return selector


def _learned(values: str | None) -> Again | None:
    return None if values is None else Again(json.loads(values))


class Measure(Operator):
    """Adds what a selection counts and draws by: columns for this step alone.

    `tokens`: the column for the tokens of the text, and `tokenizer` the file, found as an asset of
    `directory`. `draw`: the column for random numbers. `key`: that for the values of `by` as `gumbel_keys`
    has them. `checksum` and `version`, of tokenizer and scorer, are for the fingerprint.
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
        key: str | None = None,
        by: str = "",
        temperature: float = 1.0,
    ) -> None:
        self._step, self._seed, self._draw, self._tokens = step, seed, draw, tokens
        self._key, self._by, self._temperature = key, by, temperature
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
        if self._key is not None:
            drawn = draws(batch.column("id"), self._seed, self._step)
            keys = gumbel_keys(batch.column(self._by), drawn, self._temperature)
            batch = batch.append_column(self._key, keys)
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

    With `column`, the value that decided stays with the others under that name. With `report`, all stay, and
    the column of that name says which were chosen. With `counts` the one or the other says how often.
    """

    def __init__(
        self,
        step: str,
        selector: list[str],
        decision: str,
        column: str | None = None,
        report: str | None = None,
        counts: bool = False,
    ) -> None:
        self._step, self._selector, self._column = step, _selector(selector), column
        self._report, self._counts = report, counts
        self._decision = Decision(json.loads(decision))

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        chosen = self._selector.decide(batch, self._decision)
        if self._report is not None:
            said = chosen.column("copies" if self._counts else "keep")
            return report(batch, self._report, said, self._step, out)
        reasons: Any = pc.if_else(chosen.column("keep"), None, chosen.column("reason"))
        values = chosen.column("value")
        if self._column is not None:
            batch = batch.append_column(self._column, chosen.column("copies") if self._counts else values)
        return out.drop(self._step, batch, reasons, values)


def report(batch: pa.RecordBatch, column: str, chosen: pa.Array, step: str, out: Output) -> pa.RecordBatch:
    """The batch with a column that says which rows are chosen, or how often; all are counted as kept."""
    batch = batch.append_column(column, pc.fill_null(chosen, pa.scalar(0).cast(chosen.type)))
    return out.drop(step, batch, pa.nulls(len(batch), pa.string()))


class ReportMinimum(Operator):
    """Adds the column `column`: whether `by` is at least `least`; where it is null, whether that is kept."""

    def __init__(self, step: str, by: str, least: float, column: str, on_null: OnNull) -> None:
        self._step, self._by, self._column, self._on_null = step, by, column, on_null
        self._bar = expressions.parse(f"{by} >= {least!r}")

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        scores = batch.column(self._by)
        check_scores(batch, score_words(scores)[1], self._by, self._step, self._on_null)
        reached = pc.fill_null(self._bar.evaluate({self._by: scores}), self._on_null == "keep")
        return report(batch, self._column, reached, self._step, out)


class ByGroup(Operator):
    """One row for each record that has a score, with the hash of its group: what the exchange groups by.

    With `listed`, a record is in each group that the list `within` names, by the score at the same place of
    the list `by`, or by the only one that it has. A group that is named twice counts once, by its best score.
    """

    def __init__(
        self,
        step: str,
        by: str,
        within: str,
        unit_column: str | None,
        on_null: OnNull,
        listed: bool = False,
    ) -> None:
        self._step, self._by, self._within = step, by, within
        self._unit_column, self._on_null, self._listed = unit_column, on_null, listed

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        if self._listed:
            return self._in_each(batch)
        words, ranked = score_words(batch.column(self._by))
        check_scores(batch, ranked, self._by, self._step, self._on_null)
        key, low = group_hashes(group_names(batch, self._within))
        units = unit_counts(batch, self._unit_column)
        ids = batch.column("id").cast(pa.string())
        columns = [key, low, pa.array(~words), pa.array(units), ids, batch.column(POSITION)]
        rows = pa.RecordBatch.from_arrays(columns, schema=ROWS)
        return rows.filter(pa.array(ranked))

    def _in_each(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        found = memberships(batch, self._within, self._by)
        words, ranked = score_words(found.scores)
        anywhere = found.uneven.copy()  # these are told as errors, not as records without a score
        anywhere[found.record[ranked]] = True
        check_scores(batch, anywhere, self._by, self._step, self._on_null)
        key, low = group_hashes(found.names)
        record = pa.array(found.record)
        columns = [
            key,
            low,
            pa.array(~words),
            pa.array(unit_counts(batch, self._unit_column)).take(record),
            batch.column("id").cast(pa.string()).take(record),
            batch.column(POSITION).take(record),
            pa.array(found.place),
        ]
        rows = pa.RecordBatch.from_arrays(columns, schema=PLACED_ROWS)
        return once_for_each_group(rows.filter(pa.array(ranked)))


class Prune(Combiner):
    """Leaves out the rows that cannot fit: of a large group each task sends little more than a cap."""

    def __init__(self, cap: int) -> None:
        self._cap = cap

    def combine(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return prune(batch, self._cap)


class KeepWithinCap(Reducer):
    """Commits the positions of the records that fit into the caps of their groups, `listed` ones with the
    place of the group.

    Holds one group, up to a bound, beyond which it is on disk and read as often as a selection by budget
    needs.
    """

    def __init__(self, step: str, cap: int, group_bytes: int = GROUP_BYTES, listed: bool = False) -> None:
        self._step, self._cap, self._bytes = step, cap, group_bytes
        self._rows, self._kept = (PLACED_ROWS, PLACES) if listed else (ROWS, KEPT)

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        self._emit(pa.RecordBatch.from_pylist([], schema=self._rows), out)
        for group in groups(inputs["rows"], out.new_file, self._bytes):
            if isinstance(group, Giant):
                self._choose(group, out)
                continue
            rows, count, over = within_cap(group, self._cap)
            self._emit(rows, out)
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
            self._emit(batch.filter(selector.decide(batch, outcome).column("keep")), out)
        found = outcome.values["groups"]
        over = sum(group["first_dropped"] is not None for group in found)
        out.accounts.note(self._step, groups=len(found), groups_over_cap=over)

    def _emit(self, rows: pa.RecordBatch, out: Output) -> None:
        kept = pa.array(np.ones(len(rows), np.bool_)) if self._kept is KEPT else rows.column("place")
        out.emit("kept", pa.RecordBatch.from_arrays([rows.column(POSITION), kept], schema=self._kept))


class CollectPlaces(Reducer):
    """Commits for each position the places of its rows, ascending, as the list `column`."""

    def __init__(self, shift: int, column: str) -> None:
        self._shift, self._column = np.uint64(shift), column

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        none = np.zeros(0, np.uint64)
        held = none, none.astype(np.int32)  # the rows of the last position so far
        out.emit(ORDERED, self._lists(*held))
        for batch in inputs[ORDERED]:
            keys = np.concatenate([held[0], batch.column("key").to_numpy()])
            places = np.concatenate([held[1], batch.column("place").to_numpy()])
            end = int(np.searchsorted(keys, keys[-1])) if len(keys) else 0
            out.emit(ORDERED, self._lists(keys[:end], places[:end]))
            held = keys[end:], places[end:]
        out.emit(ORDERED, self._lists(*held))

    def _lists(self, keys: Any, places: Any) -> pa.RecordBatch:
        places = places[np.lexsort((places, keys))]
        first = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
        offsets = pa.array(np.append(first, len(keys)).astype(np.int32))
        lists = pa.ListArray.from_arrays(offsets, pa.array(places))
        positions = pa.array(keys[first] >> self._shift)
        return pa.RecordBatch.from_arrays([positions, lists], names=[POSITION, self._column])


class DropOverCap(Operator):
    """Drops the records that did not fit; `kept` is null for them and for those without a score.

    With `report`, all stay, and the column of that name says which would have.
    """

    def __init__(self, step: str, by: str, kept: str, on_null: OnNull, report: str | None = None) -> None:
        self._step, self._by, self._kept, self._on_null = step, by, kept, on_null
        self._report = report

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        scores = batch.column(self._by)
        _, ranked = score_words(scores)
        without = None if self._on_null == "keep" else NULL_SCORE
        why = pc.if_else(pa.array(ranked), OVER_CAP, pa.scalar(without, pa.string()))
        reasons = pc.if_else(pc.is_valid(batch.column(self._kept)), pa.scalar(None, pa.string()), why)
        if self._report is not None:
            return report(batch, self._report, pc.is_null(reasons), self._step, out)
        return out.drop(self._step, batch, reasons, scores.cast(pa.string()))


class DropOutsideCaps(Operator):
    """Drops the records that fit into none of the groups in their list `within`.

    `kept` is the list of the places of those into which they fit. The column `column` lists the groups
    themselves; with `report` all records stay, and it says which would have. Where lists of a record differ
    in length, that is an error of the record.
    """

    def __init__(
        self, step: str, by: str, within: str, kept: str, on_null: OnNull, column: str, report: bool
    ) -> None:
        self._step, self._by, self._within, self._kept = step, by, within, kept
        self._on_null, self._column, self._report = on_null, column, report

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        found = memberships(batch, self._within, self._by)
        ranked = np.zeros(len(batch), np.bool_)
        ranked[found.record[score_words(found.scores)[1]]] = True
        none = pa.scalar(None, pa.string())
        without = none if self._on_null == "keep" else pa.scalar(NULL_SCORE)
        why = pc.if_else(pa.array(ranked), OVER_CAP, without)
        reasons = pc.if_else(pc.is_valid(batch.column(self._kept)), none, why)
        uneven = pa.array(found.uneven)
        reasons = pc.if_else(uneven, UNEVEN_LISTS, reasons)
        if self._report:
            batch = batch.append_column(self._column, pc.is_null(reasons))
            reasons = pc.if_else(uneven, UNEVEN_LISTS, none)
        else:
            batch = batch.append_column(self._column, self._groups(batch))
        verdicts = pc.if_else(uneven, "error", "dropped")
        return out.drop(self._step, batch, reasons, verdict=verdicts)

    def _groups(self, batch: pa.RecordBatch) -> pa.Array:
        """The groups at the places that are kept; no group where there is none."""
        lists = batch.column(self._within)
        sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        first = np.cumsum(sizes, dtype=np.int64) - sizes
        places = batch.column(self._kept)
        counts = pc.fill_null(pc.list_value_length(places), 0).to_numpy(zero_copy_only=False)
        chosen = np.repeat(first, counts) + pc.list_flatten(places).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pc.list_flatten(lists).take(pa.array(chosen)))
