"""The best records by a score, up to a fraction of the corpus or to a budget: exact at any size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.contracts import Again, Decision, Selector
from ...schemas.records import POSITION
from ...schemas.verbs import OnNull
from ..draws import draws
from . import prefix
from .copies import copies_of, without_weight
from .groups import check_scores, group_names
from .order import Bools, Words, id_words, kind_of, score_of, score_words

BELOW_CUT: Final = "below_cut"
NULL_SCORE: Final = "null_score"
NO_WEIGHT: Final = "no_weight"


class TopSelector(Selector):
    """Keeps the records with the highest scores, by group, up to a budget of records, or of what they hold.

    Records are taken by score, highest first, until the next one would exceed the budget; no record after
    that one is taken, even if it is small enough. Equal scores are ordered by id (its UTF-8 bytes, ascending)
    and then by position; with `ties="random"` first by the hash of (seed, step, id), which draws a fair
    sample where many records share one score. With `ties="keep"`, which goes with a share of records, every
    record stays whose score is at least that of the first one behind the share: the bar of DataComp (Gadre et
    al. 2023, arXiv:2304.14108), whose share is rounded down after a product in float64, as Python's
    `int(n * top)` gives it. -0.0 equals 0.0; infinities are scores; NaN counts as null.

    `by`: the score column, any float or integer type; integers compare exactly.
    `top`: the budget as a fraction in [0, 1] of the units of all records that reach the step, in each group,
    those without a score included; rounded down after exact decimal arithmetic, so 0.29 of 100 records is 29.
    `budget`: the budget in units, for each group. Give one of `top` and `budget`.
    `within`: a column of strings, integers or booleans that divides the records into groups; null is a group
    of its own. At most `prefix.MAX_GROUPS` (65,536) groups. None: one group.
    `unit_column`: a column of integers that says how much a record counts for; null and negative counts are
    taken as 0. None: every record counts 1. `unit` is only what the decision calls it.
    `on_null`: what happens to a record without a score. `drop`: reason `null_score`. `keep`: it is kept and
    uses up none of the budget. `fail`: NullScoreError.
    `max_copies`: how often a record may be chosen. From 2 on, or with `weight`, a column, `by` is a column of
    random numbers (uint64), and records are taken as `copies_of` ranks them, each copy counting what the
    record counts; one whose weight is not above 0 is dropped as `no_weight`.

    Memory: at most 2^20 buckets and 2^16 collected records of a state, whatever the number of records.
    Passes: two for most corpora; one more for each 16 bits by which the records around the cut have to be
    told apart.

    Raises ValueError for arguments outside these ranges and for a column of the wrong type.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        by: str,
        top: float | None = None,
        budget: int | None = None,
        within: str | Sequence[str] | None = None,
        unit: str = "records",
        unit_column: str | None = None,
        seed: int = 0,
        step: str = "select",
        on_null: OnNull = "drop",
        ties: Literal["id", "random", "keep"] = "id",
        weight: str | None = None,
        max_copies: int = 1,
    ) -> None:
        if (top is None) == (budget is None):
            raise ValueError("give either top, a fraction, or budget, a number of units")
        if top is not None and not 0 <= top <= 1:
            raise ValueError(f"top is {top}; write a fraction between 0 and 1, or a percentage up to 100%")
        if budget is not None and budget < 0:
            raise ValueError(f"budget is {budget}; it cannot be negative")
        _check(on_null, "on_null", ("drop", "keep", "fail"))
        _check(ties, "ties", ("id", "random", "keep"))
        if ties == "keep" and (top is None or unit_column is not None):
            raise ValueError("ties is 'keep', which goes with top, a fraction of the records")
        if max_copies < 1:
            raise ValueError(f"max_copies is {max_copies}; a record can be chosen once at least")
        self.by, self.within, self.on_null = by, within, on_null
        self.weight, self.max_copies = weight, max_copies
        self.unit, self.unit_column = unit, unit_column
        self.top, self.budget = top, budget
        self.seed, self.step, self.ties = seed, step, ties
        self._read: tuple[Any, Any] = (None, None)

    @property
    def inputs(self) -> tuple[str, ...]:
        within = (self.within,) if self.within is None or isinstance(self.within, str) else self.within
        columns = (self.by, self.weight, self.unit_column, *within, "id", POSITION)
        return tuple(dict.fromkeys(column for column in columns if column))

    def start(self, learned: Again | None) -> pa.Table:
        return prefix.empty_state(learned.values["kind"] if learned else None)

    def update(self, state: pa.Table, batch: pa.RecordBatch, learned: Again | None) -> pa.Table:
        batch = self._copies(batch)
        kind = kind_of(batch.schema.field(self.by).type, self.by)
        if len(batch) == 0:
            return state
        words, ranked, unweighed = self._places(batch)
        check_scores(batch, ranked | unweighed, self.weight or self.by, self.step, self.on_null)
        groups, units = self._groups(batch), unit_counts(batch, self.unit_column)
        if learned is None:
            _, coarse = prefix.kind_and_coarse(state)
            bucket = words >> np.uint64(64 - prefix.BUCKET_BITS + coarse)
            return prefix.combine(state, prefix.buckets(groups, words, bucket, ranked, units), kind=kind)
        return self._look_closer(state, batch, learned, groups, units, words, ranked, kind)

    def merge(self, a: pa.Table, b: pa.Table, learned: Again | None) -> pa.Table:
        return prefix.merge(a, b)

    def finish(self, state: pa.Table, learned: Again | None) -> Decision | Again:
        state = prefix.compact(state)
        kind, _ = prefix.kind_and_coarse(state)
        if learned is None:
            searches = prefix.first_searches(state)
            for search in searches:  # whose rows are so many copies of each record
                search.records //= self.max_copies
                search.units //= self.max_copies
                search.unranked //= self.max_copies
            self._allot(searches)
        else:
            searches = [prefix.Search(**search) for search in learned.values["groups"]]
        prefix.advance(searches, state, self._rank)
        for search in searches:
            if self.ties == "keep":
                search.end_behind_ties()
            self._check_progress(search)
        if any(search.left for search in searches):
            return Again({"kind": kind, "groups": prefix.as_values(searches)})
        return Decision(
            {
                "by": self.by,
                "kind": kind,
                "unit": self.unit,
                "groups": [self._outcome(search, kind) for search in searches],
            }
        )

    def decide(self, batch: pa.RecordBatch, decision: Decision) -> pa.RecordBatch:
        cuts = self._parsed(decision, lambda: Cuts(decision.values))
        rows = self._copies(batch)
        words, ranked, unweighed = self._places(rows)
        group = self._index(rows, cuts.names)
        copies = (
            self._before(rows, words, ranked, group, cuts).reshape(len(batch), self.max_copies).sum(axis=1)
        )
        first = slice(None, None, self.max_copies)
        null = ~(ranked | unweighed)[first]
        if self.on_null == "keep":
            copies[null] = 1
        reason = pc.if_else(pa.array(unweighed[first]), NO_WEIGHT, self._reasons(group[first], cuts))
        reason = pc.if_else(pa.array(null), NULL_SCORE, reason)
        keep = pa.array(copies > 0)
        return pa.RecordBatch.from_arrays(
            [
                keep,
                pa.array(copies.astype(np.int32)),
                pc.if_else(keep, pa.scalar(None, pa.string()), reason),
                batch.column(self.weight or self.by).cast(pa.string()),
            ],
            names=["keep", "copies", "reason", "value"],
        )

    def _copies(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A row for each copy that may be chosen of a record."""
        if self.weight is None and self.max_copies == 1:
            return batch
        batch = batch.select(list(self.inputs))
        return copies_of(batch, self.by, self.weight, self.max_copies)

    def _places(self, rows: pa.RecordBatch) -> tuple[Words, Bools, Bools]:
        """The first word of each row, which rows have a place in the order, and which have no weight."""
        ranks = rows.column(self.by)
        words, ranked = score_words(ranks)
        unweighed = np.zeros(len(rows), np.bool_) if self.weight is None else without_weight(ranks)
        return words, ranked & ~unweighed, unweighed

    def _before(
        self, rows: pa.RecordBatch, words: Words, ranked: Bools, group: npt.NDArray[np.int64], cuts: Cuts
    ) -> Bools:
        """Which rows are taken before their group is cut."""
        at = cuts.word[group]
        taken = ranked & (cuts.all_fit[group] | (words < at))
        at_cut = ranked & ~cuts.all_fit[group] & (words == at)
        tied = np.flatnonzero(at_cut)
        if self.ties == "keep":
            taken |= at_cut
        elif len(tied):
            taken[tied] = self._before_cut(rows.take(pa.array(tied)), group[tied], cuts)
        return np.asarray(taken, np.bool_)

    def _look_closer(
        self,
        state: pa.Table,
        batch: pa.RecordBatch,
        learned: Again,
        groups: pa.Array,
        units: npt.NDArray[np.int64],
        words: Words,
        ranked: Bools,
        kind: str | None,
    ) -> pa.Table:
        """The state with those records of a batch that are in the range of their group's search."""
        searches = self._parsed(learned, lambda: prefix.Searches.read(learned.values))
        group = self._index(batch, searches.groups)
        rows = np.flatnonzero(ranked & searches.open[group])
        current = np.zeros(len(batch), np.uint64)
        for depth in range(searches.low.shape[1]):
            word = words[rows] if depth == 0 else self._tie_words(batch.take(pa.array(rows)), depth)
            inside = (searches.low[group[rows], depth] <= word) & (word <= searches.high[group[rows], depth])
            rows, word = rows[inside], word[inside]
            here = searches.depth[group[rows]] == depth
            current[rows[here]] = word[here]
        _, coarse = prefix.kind_and_coarse(state)
        low = searches.low[group, searches.depth[group].clip(max=searches.low.shape[1] - 1)]
        bucket = (current - low) >> (searches.shift[group] + np.uint64(coarse)).clip(max=63)
        chosen = searches.collect[group[rows]]
        counted, taken = rows[~chosen], rows[chosen]
        every = np.ones(len(counted), np.bool_)
        return prefix.combine(
            state,
            prefix.buckets(
                groups.take(pa.array(counted)), current[counted], bucket[counted], every, units[counted]
            ),
            prefix.collected(
                groups.take(pa.array(taken)),
                current[taken],
                units[taken],
                batch.column(POSITION).take(pa.array(taken)),
                batch.column("id").take(pa.array(taken)),
            ),
            kind=kind,
        )

    def _tie_words(self, rows: pa.RecordBatch, depth: int) -> Words:
        if self.ties == "random":
            if depth == 1:
                return draws(rows.column("id"), self.seed, self.step)
            depth -= 1
        positions = rows.column(POSITION).to_numpy(zero_copy_only=False)
        return id_words(rows.column("id"), positions, depth - 1)

    def _rank(self, records: pa.Table) -> pa.Array:
        keys = [("low", "ascending"), ("id", "ascending"), (POSITION, "ascending")]
        if self.ties == "random":
            hashes = draws(records["id"].combine_chunks(), self.seed, self.step)
            records = records.append_column("hash", pa.array(hashes))
            keys.insert(1, ("hash", "ascending"))
        return pc.sort_indices(records, sort_keys=keys)

    def _before_cut(self, rows: pa.RecordBatch, group: npt.NDArray[np.int64], cuts: Cuts) -> Bools:
        """Which of the records with the score of their group's cut come before the cut."""
        ids, cut_ids = rows.column("id").cast(pa.large_string()), cuts.ids.take(pa.array(group))
        positions = rows.column(POSITION).to_numpy(zero_copy_only=False)
        before = _numpy(pc.less(ids, cut_ids))
        before |= _numpy(pc.equal(ids, cut_ids)) & (positions < cuts.position[group])
        if self.ties == "id":
            return before
        mine = draws(rows.column("id"), self.seed, self.step)
        cut = draws(cuts.ids, self.seed, self.step)[group]
        return np.asarray((mine < cut) | ((mine == cut) & before), np.bool_)

    def _groups(self, batch: pa.RecordBatch) -> pa.Array:
        return group_names(batch, self.within)

    def _index(self, batch: pa.RecordBatch, names: pa.Array) -> npt.NDArray[np.int64]:
        index = pc.index_in(self._groups(batch), value_set=names)
        if index.null_count:
            raise ValueError(
                f"step {self.step}: a record's group was not there when the corpus was summed up"
            )
        return np.asarray(index.to_numpy(zero_copy_only=False), np.int64)

    def _allot(self, searches: Sequence[prefix.Search]) -> None:
        """Sets the budget of each group."""
        for search in searches:
            if self.ties == "keep" and self.top is not None:
                search.budget = int(search.records * self.top)
                continue
            share = Fraction(repr(self.top or 0.0))
            search.budget = math.floor(share * search.units) if self.budget is None else self.budget

    def _reasons(self, group: npt.NDArray[np.int64], cuts: Cuts) -> pa.Array | pa.Scalar:
        """Why a record of each group (its place in the decision) is dropped where it has a score."""
        return pa.scalar(BELOW_CUT)

    def _check_progress(self, search: prefix.Search) -> None:
        ids = search.known[2 if self.ties == "random" else 1 :]
        if search.left > 1 and len(ids) > 1 and ids[-2] & 0xFF < 7:
            raise ValueError(f"step {self.step}: {search.left} records have the position {ids[-1]}")

    def _outcome(self, search: prefix.Search, kind: Any) -> dict[str, Any]:
        cut = None
        if search.cut is not None:
            score = score_of(search.cut["word"], kind)
            shown = score if math.isfinite(score) else str(score)
            cut = {"score": shown}
            if self.ties != "keep":
                cut |= {"id": search.cut["id"], "position": search.cut["position"]}
        return {
            "group": search.group,
            "records": search.records,
            "units": search.units,
            "null_scores": search.unranked,
            "budget": search.budget,
            "kept_records" if self.max_copies == 1 else "kept_copies": search.above_records,
            "kept_units": search.above_units,
            "bar" if self.ties == "keep" else "first_dropped": cut,
            "tied_with_it": search.tied,
            "kept_of_tied": search.above_records - search.above_tied if search.tied else 0,
        }

    def _parsed(self, source: Any, parse: Any) -> Any:
        """What `parse` makes of `source`, made once for all batches of a pass."""
        if self._read[0] is not source:
            self._read = (source, parse())
        return self._read[1]


class Cuts:
    """Where each group is cut, as arrays."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        outcomes = values["groups"]
        cuts = [outcome["bar"] if "bar" in outcome else outcome["first_dropped"] for outcome in outcomes]
        kind = values["kind"] or "float64"
        read = float if kind == "float64" else int
        scores = pa.array([read(cut["score"]) if cut else None for cut in cuts], pa.type_for_alias(kind))
        self.names = pa.array([outcome["group"] for outcome in outcomes], pa.string())
        self.all_fit = np.array([cut is None for cut in cuts], np.bool_)
        self.word = score_words(scores)[0]
        self.ids = pa.array([cut.get("id") if cut else "" for cut in cuts], pa.large_string())
        self.position = np.array([cut.get("position") or 0 if cut else 0 for cut in cuts], np.uint64)


def unit_counts(batch: pa.RecordBatch, column: str | None) -> npt.NDArray[np.int64]:
    """int64 (n,): how much each record counts for; 1 without a column, 0 where it is null or negative."""
    if column is None:
        return np.ones(len(batch), np.int64)
    units = pc.fill_null(batch.column(column).cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return np.maximum(np.asarray(units, np.int64), 0)


def _numpy(mask: pa.Array) -> Bools:
    return np.asarray(mask.to_numpy(zero_copy_only=False), np.bool_)


def _check(value: str, name: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; write one of {', '.join(allowed)}")
