"""The first records of the corpus, in the order of the input."""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.contracts import Again, Decision, Selector
from ...schemas.records import POSITION
from . import prefix

BEYOND_LIMIT: Final = "beyond_limit"


class LimitSelector(Selector):
    """Keeps the `count` records with the smallest positions; the others are dropped as `beyond_limit`.

    Depends on the order of the input, as `keep: first` does. Raises ValueError if `count` is negative.
    """

    version: ClassVar[int] = 1

    def __init__(self, count: int) -> None:
        if count < 0:
            raise ValueError(f"limit is {count}; it cannot be negative")
        self.count = count

    @property
    def inputs(self) -> tuple[str, ...]:
        return (POSITION,)

    def start(self, learned: Again | None) -> pa.Table:
        return prefix.empty_state()

    def update(self, state: pa.Table, batch: pa.RecordBatch, learned: Again | None) -> pa.Table:
        positions = batch.column(POSITION)
        words = positions.to_numpy(zero_copy_only=False)
        search = prefix.Search(**learned.values["groups"][0]) if learned else prefix.Search(None)
        low, high = (search.known * 2) or (search.low, search.high)
        words = words[(np.uint64(low) <= words) & (words <= np.uint64(high))]
        group, units = pa.nulls(len(words), pa.string()), np.ones(len(words), np.int64)
        if search.collect:
            more = prefix.collected(group, words, units, pa.array(words), pa.nulls(len(words), pa.string()))
        else:
            _, coarse = prefix.kind_and_coarse(state)
            bucket = (words - np.uint64(low)) >> np.uint64(search.shift + coarse)
            more = prefix.buckets(group, words, bucket, units > 0, units)
        return prefix.combine(state, more, kind=None)

    def merge(self, a: pa.Table, b: pa.Table, learned: Again | None) -> pa.Table:
        return prefix.merge(a, b)

    def finish(self, state: pa.Table, learned: Again | None) -> Decision | Again:
        state = prefix.compact(state)
        if learned is None:
            searches = prefix.first_searches(state)
            for search in searches:
                search.budget = self.count
        else:
            searches = [prefix.Search(**search) for search in learned.values["groups"]]
        prefix.advance(searches, state, lambda rows: pc.sort_indices(rows, sort_keys=[("low", "ascending")]))
        if any(search.left for search in searches):
            return Again({"groups": prefix.as_values(searches)})
        cut = next((search.cut for search in searches), None)
        return Decision(
            {
                "limit": self.count,
                "records": sum(search.records for search in searches),
                "kept_records": sum(search.above_records for search in searches),
                "first_dropped": cut["position"] if cut else None,
            }
        )

    def decide(self, batch: pa.RecordBatch, decision: Decision) -> pa.RecordBatch:
        positions, cut = batch.column(POSITION), decision.values["first_dropped"]
        words = positions.to_numpy(zero_copy_only=False)
        keep = np.ones(len(words), np.bool_) if cut is None else words < np.uint64(cut)
        return pa.RecordBatch.from_arrays(
            [
                pa.array(keep),
                pa.array(keep.astype(np.int32)),
                pc.if_else(pa.array(keep), pa.scalar(None, pa.string()), BEYOND_LIMIT),
                positions.cast(pa.string()),
            ],
            names=["keep", "copies", "reason", "value"],
        )
