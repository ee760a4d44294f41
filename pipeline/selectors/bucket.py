"""Names for the ranges between percentiles of a score, by group: exact at any size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.contracts import Again, Decision, Selector
from ...schemas.records import POSITION
from ...schemas.verbs import OnNull
from . import prefix
from .groups import check_scores, group_names
from .order import Bools, Words, kind_of, score_of, score_words
from .top import NULL_SCORE

OTHER_BUCKET: Final = "other_bucket"


class BucketSelector(Selector):
    """Says for each record between which percentiles of its group its score lies, and keeps some ranges.

    The bound of a cut is the smallest score for which at least that share of the group's scores are equal or
    smaller (the inverse of their distribution function, rounded by no interpolation). A score up to and with
    the bound lies below the cut, so that equal scores are in the same bucket, the lower one. CCNet puts a
    perplexity that equals a bound into the upper bucket, and takes its bounds from a list made of an earlier
    sample (cc_net/perplexity.py, PerplexityBucket); ours are those of the records that reach the step.

    `by`: the score column, any float or integer type, smallest first. NaN counts as null.
    `cuts`: shares in [0, 1], ascending, taken as the decimal numbers that they are written as; below a cut at
    0 there is nothing. `names`: of the buckets, one more than cuts.
    `within`: as in TopSelector; groups times cuts may be at most `prefix.MAX_GROUPS`.
    `keep`: the buckets whose records stay; None: all.
    `on_null`: what happens to a record without a score. `drop`: reason `null_score`. `keep`: it stays, and
    its bucket is null. `fail`: NullScoreError.

    Memory and passes are bounded as in TopSelector. Raises ValueError for other arguments and for a column of
    the wrong type.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        by: str,
        cuts: Sequence[float],
        names: Sequence[str],
        within: str | None = None,
        keep: Sequence[str] | None = None,
        step: str = "bucket",
        on_null: OnNull = "drop",
    ) -> None:
        if not cuts or len(names) != len(cuts) + 1:
            raise ValueError(f"{len(cuts)} cuts make {len(cuts) + 1} buckets; {len(names)} names are given")
        if list(cuts) != sorted(cuts) or not all(0 <= cut <= 1 for cut in cuts):
            raise ValueError("cuts are shares between 0 and 1, ascending")
        self.by, self.within, self.step, self.on_null = by, within, step, on_null
        self.cuts, self.names = list(cuts), list(names)
        self.kept = list(names) if keep is None else [name for name in names if name in keep]
        self._read: tuple[Any, Any] = (None, None)

    @property
    def inputs(self) -> tuple[str, ...]:
        columns = (self.by, self.within, "id", POSITION)
        return tuple(dict.fromkeys(column for column in columns if column))

    def start(self, learned: Again | None) -> pa.Table:
        return prefix.empty_state(learned.values["kind"] if learned else None)

    def update(self, state: pa.Table, batch: pa.RecordBatch, learned: Again | None) -> pa.Table:
        kind = kind_of(batch.schema.field(self.by).type, self.by)
        if len(batch) == 0:
            return state
        words, ranked = _ascending(batch.column(self.by))
        check_scores(batch, ranked, self.by, self.step, self.on_null)
        groups = group_names(batch, self.within)
        _, coarse = prefix.kind_and_coarse(state)
        if learned is None:
            bucket = words >> np.uint64(64 - prefix.BUCKET_BITS + coarse)
            more = [prefix.buckets(groups, words, bucket, ranked, ranked.astype(np.int64))]
        else:
            more = list(self._inside(batch, learned, groups, words, ranked, coarse))
        return prefix.combine(state, *more, kind=kind)

    def merge(self, a: pa.Table, b: pa.Table, learned: Again | None) -> pa.Table:
        return prefix.merge(a, b)

    def finish(self, state: pa.Table, learned: Again | None) -> Decision | Again:
        state = prefix.compact(state)
        kind, _ = prefix.kind_and_coarse(state)
        if learned is None:
            names, searches = self._first(state)
        else:
            names = learned.values["names"]
            searches = [prefix.Search(**search) for search in learned.values["groups"]]
            prefix.advance(searches, state, _by_word)
        for search in searches:
            if search.known:  # every record still in question has the same score
                search.left = 0
        prefix.share_room(searches)
        if any(search.left for search in searches):
            return Again({"kind": kind, "names": names, "groups": prefix.as_values(searches)})
        cuts = len(self.cuts)
        return Decision(
            {
                "by": self.by,
                "kind": kind,
                "within": self.within,
                "cuts": self.cuts,
                "names": self.names,
                "groups": [
                    self._outcome(name, searches[row * cuts : (row + 1) * cuts], kind)
                    for row, name in enumerate(names)
                ],
            }
        )

    def decide(self, batch: pa.RecordBatch, decision: Decision) -> pa.RecordBatch:
        """As Selector; `value` is the name of the record's bucket, null where it has none."""
        bounds = self._parsed(decision, lambda: _Bounds(decision.values))
        words, ranked = _ascending(batch.column(self.by))
        group = self._index(batch, bounds.names)
        place = np.zeros(len(batch), np.int64)
        for cut in range(len(self.cuts)):
            place += ~(bounds.there[group, cut] & (words <= bounds.word[group, cut]))
        bucket = pa.array(self.names, pa.string()).take(pa.array(place, mask=~ranked))
        inside = pc.is_in(bucket, value_set=pa.array(self.kept, pa.string())).to_numpy(zero_copy_only=False)
        keep = np.where(ranked, inside, self.on_null == "keep")
        reason = pc.if_else(pa.array(ranked), OTHER_BUCKET, NULL_SCORE)
        return pa.RecordBatch.from_arrays(
            [
                pa.array(keep),
                pa.array(keep.astype(np.int32)),
                pc.if_else(pa.array(keep), pa.scalar(None, pa.string()), reason),
                bucket,
            ],
            names=["keep", "copies", "reason", "value"],
        )

    def _first(self, state: pa.Table) -> tuple[list[str | None], list[prefix.Search]]:
        """The groups, and for each in turn a search for the bound of every cut."""
        groups = prefix.first_searches(state)
        if len(groups) * len(self.cuts) > prefix.MAX_GROUPS:
            raise ValueError(
                f"step {self.step}: {len(groups):,} groups with {len(self.cuts)} cuts each are more than "
                f"{prefix.MAX_GROUPS:,} bounds; group by a column with fewer values"
            )
        of_cuts = []
        for number, cut in enumerate(self.cuts):
            searches = [replace(search, known=[]) for search in groups]
            for search in searches:
                below = math.ceil(Fraction(repr(cut)) * search.units)
                # The bound is the first record that no longer fits.
                search.budget = below - 1
                search.left = search.left if below else 0
            prefix.advance(searches, state, _by_word)
            for search in searches:
                search.group = _cut_of(number, search.group)
            of_cuts.append(searches)
        in_turn = [search for of_group in zip(*of_cuts, strict=True) for search in of_group]
        return [search.group for search in groups], in_turn

    def _inside(
        self,
        batch: pa.RecordBatch,
        learned: Again,
        groups: pa.Array,
        words: Words,
        ranked: Bools,
        coarse: int,
    ) -> Iterator[pa.Table]:
        """The records of a batch that are in the range of a search, once for each such search."""
        searches, names = self._parsed(
            learned,
            lambda: (prefix.Searches.read(learned.values), pa.array(learned.values["names"], pa.string())),
        )
        group = self._index(batch, names)
        for number in range(len(self.cuts)):
            search = group * len(self.cuts) + number
            low, high = searches.low[search, 0], searches.high[search, 0]
            inside = ranked & searches.open[search] & (low <= words) & (words <= high)
            for collect in (False, True):
                rows = np.flatnonzero(inside & (searches.collect[search] == collect))
                if not len(rows):
                    continue
                name = searches.groups.take(pa.array(search[rows]))
                one, taken = np.ones(len(rows), np.int64), words[rows]
                if collect:
                    positions = batch.column(POSITION).take(pa.array(rows))
                    yield prefix.collected(name, taken, one, positions, pa.nulls(len(rows), pa.string()))
                else:
                    shift = (searches.shift[search[rows]] + np.uint64(coarse)).clip(max=63)
                    bucket = (taken - low[rows]) >> shift
                    yield prefix.buckets(name, taken, bucket, one > 0, one)

    def _index(self, batch: pa.RecordBatch, names: pa.Array) -> Any:
        index = pc.index_in(group_names(batch, self.within), value_set=names)
        if index.null_count:
            raise ValueError(
                f"step {self.step}: a record's group was not there when the corpus was summed up"
            )
        return index.to_numpy(zero_copy_only=False).astype(np.int64)

    def _outcome(self, group: str | None, searches: Sequence[prefix.Search], kind: Any) -> dict[str, Any]:
        bounds: list[Any] = []
        below = [0]
        for search in searches:
            word = _bound(search)
            score = None if word is None else score_of(int(~np.uint64(word)), kind)
            bounds.append(score if score is None or math.isfinite(score) else str(score))
            below.append(search.above_tied + search.tied)
        below.append(searches[0].units)
        return {
            "group": group,
            "records": searches[0].records,
            "null_scores": searches[0].unranked,
            "bounds": bounds,
            "buckets": dict(zip(self.names, np.diff(below).tolist(), strict=True)),
        }

    def _parsed(self, source: Any, parse: Any) -> Any:
        """What `parse` makes of `source`, made once for all batches of a pass."""
        if self._read[0] is not source:
            self._read = (source, parse())
        return self._read[1]


class _Bounds:
    """The bounds of each group's cuts, as arrays (groups, cuts)."""

    def __init__(self, values: Any) -> None:
        kind = values["kind"] or "float64"
        read = float if kind == "float64" else int
        shape = (len(values["groups"]), len(values["cuts"]))
        bounds = [bound for group in values["groups"] for bound in group["bounds"]]
        scores = pa.array([None if b is None else read(b) for b in bounds], pa.type_for_alias(kind))
        words, there = _ascending(scores)
        self.names = pa.array([group["group"] for group in values["groups"]], pa.string())
        self.word, self.there = words.reshape(shape), there.reshape(shape)


def _ascending(scores: pa.Array) -> tuple[Words, Bools]:
    """One word for each score, the lowest score having the smallest word, and which scores there are."""
    words, ranked = score_words(scores)
    return ~words, ranked


def _bound(search: prefix.Search) -> int | None:
    """The word at which a search has ended; None where nothing lies below its cut."""
    if search.known:
        return search.known[0]
    return None if search.cut is None else int(search.cut["word"])


def _by_word(records: pa.Table) -> pa.Array:
    return pc.sort_indices(records, sort_keys=[("low", "ascending")])


def _cut_of(number: int, group: str | None) -> str:
    """A name of its own for each cut of each group."""
    return f"{number}" if group is None else f"{number}:{group}"
