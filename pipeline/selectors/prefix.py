"""Finds, for each group of records, the first record of an order that no longer fits a budget.

A pass counts records and units in at most 65,536 buckets of the word that is being looked at; the next pass
looks only inside the bucket in which the budget ends, and once few records are left there they are collected
and sorted. The answer is exact, and nothing grows with the number of records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .order import Words

BUCKET_BITS: Final = 16
COLLECT_ROWS: Final = 1 << 16  # records that one pass may collect, over all groups
MAX_BUCKETS: Final = 1 << 20  # over all groups; beyond it buckets are made wider
MAX_GROUPS: Final = 1 << 16
_COARSER: Final = 4  # bits by which buckets widen at a time
_COMPACT_AFTER: Final = 16  # batches that are appended before the state is summed up again
_LAST: Final = (1 << 64) - 1

# A bucket (position null) or a collected record (bucket null, low = high = its word).
STATE: Final = pa.schema(
    [
        pa.field("group", pa.string()),
        pa.field("bucket", pa.uint64()),  # null as well for records that have no place in the order
        pa.field("records", pa.int64()),
        pa.field("units", pa.int64()),
        pa.field("low", pa.uint64()),  # smallest and largest word in the bucket
        pa.field("high", pa.uint64()),
        pa.field("position", pa.uint64()),
        pa.field("id", pa.string()),
    ]
)


@dataclass
class Search:
    """What is known of one group: where its budget ends, as far as the passes have narrowed it down."""

    group: str | None
    records: int = 0  # in all, with those that have no place in the order
    units: int = 0
    unranked: int = 0  # records without a place in the order
    budget: int = 0
    above_records: int = 0  # that are certain to fit
    above_units: int = 0
    known: list[int] = field(default_factory=list)  # the words that all records still in question share
    low: int = 0  # range of their next word
    high: int = _LAST
    left: int = 0  # how many are in question; 0 once the search has ended
    collect: bool = False
    tied: int = 0  # records whose first word is the one at which the budget ends
    above_tied: int = 0  # records before those
    cut: dict[str, Any] | None = None  # first record that does not fit: word, id, position; None if all fit

    @property
    def shift(self) -> int:
        """By how many bits a word is shifted to give its bucket."""
        return max(0, (self.high - self.low).bit_length() - BUCKET_BITS)

    def narrow(self, records: int, low: int, high: int) -> None:
        """Goes on within `records` records whose next word is in low … high."""
        self.left, self.low, self.high = records, low, high
        if low == high:
            if not self.known:
                self.tied, self.above_tied = records, self.above_records
            self.known.append(low)
            self.low, self.high = 0, _LAST

    def end_behind_ties(self) -> None:
        """Takes all records that share the word at which the budget ends, once that is known."""
        if self.cut is None and not (self.left and self.known):
            return
        if self.cut is None:
            self.cut = {"word": self.known[0]}
        self.above_records = self.above_units = self.above_tied + self.tied
        self.left = 0


class Searches:
    """The searches of all groups as arrays that a batch can be compared with at once."""

    def __init__(self, searches: Sequence[Search]) -> None:
        self.groups = pa.array([search.group for search in searches], pa.string())
        self.open = np.array([search.left > 0 for search in searches], np.bool_)
        self.collect = np.array([search.collect for search in searches], np.bool_)
        self.shift = np.array([search.shift for search in searches], np.uint64)
        self.depth = np.array([len(search.known) for search in searches], np.int64)
        words = int(self.depth[self.open].max(initial=-1)) + 1
        self.low = np.zeros((len(searches), words), np.uint64)
        self.high = np.full((len(searches), words), _LAST, np.uint64)
        for row, search in enumerate(searches):
            if search.left:
                depth = len(search.known)
                self.low[row, :depth] = self.high[row, :depth] = search.known
                self.low[row, depth], self.high[row, depth] = search.low, search.high

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Searches:
        """From the JSON values of a request for another pass."""
        return cls([Search(**search) for search in values["groups"]])


def empty_state(kind: str | None = None, coarse: int = 0) -> pa.Table:
    """A state without records. `kind`: number type of the scores; `coarse`: bits that buckets widened by."""
    return STATE.with_metadata({"kind": kind or "", "coarse": str(coarse)}).empty_table()


def kind_and_coarse(state: pa.Table) -> tuple[str | None, int]:
    """What `empty_state` was given."""
    metadata = state.schema.metadata
    return metadata[b"kind"].decode() or None, int(metadata[b"coarse"])


def buckets(
    groups: pa.Array, word: Words, bucket: Words, ranked: npt.NDArray[np.bool_], units: npt.NDArray[np.int64]
) -> pa.Table:
    """The records of a batch as a table of buckets, one row for each record; all arrays have its length."""
    without = ~ranked
    return pa.table(
        [
            groups,
            pa.array(bucket, mask=without),
            pa.array(np.ones(len(word), np.int64)),
            pa.array(units),
            pa.array(word, mask=without),
            pa.array(word, mask=without),
            pa.nulls(len(word), pa.uint64()),
            pa.nulls(len(word), pa.string()),
        ],
        schema=STATE,
    )


def collected(
    groups: pa.Array, word: Words, units: npt.NDArray[np.int64], positions: pa.Array, ids: pa.Array
) -> pa.Table:
    """The records of a batch as collected records."""
    words = pa.array(word)
    return pa.table(
        [
            groups,
            pa.nulls(len(word), pa.uint64()),
            pa.array(np.ones(len(word), np.int64)),
            pa.array(units),
            words,
            words,
            positions,
            ids.cast(pa.string()),
        ],
        schema=STATE,
    )


def combine(state: pa.Table, *more: pa.Table, kind: str | None) -> pa.Table:
    """`state` with more rows of the same coarseness; summed up now and then, so that it stays small."""
    before, coarse = kind_and_coarse(state)
    metadata = {"kind": _same_kind(before, kind) or "", "coarse": str(coarse)}
    tables = [state, *(table for table in more if len(table))]
    joined = pa.concat_tables([table.replace_schema_metadata(metadata) for table in tables])
    return joined if joined["records"].num_chunks < _COMPACT_AFTER else compact(joined)


def compact(state: pa.Table) -> pa.Table:
    """One row for each bucket, and buckets so wide that there are at most MAX_BUCKETS of them.

    How wide depends on the records alone: a state that is too large is so together with any other.
    Raises ValueError if there are more than MAX_GROUPS groups.
    """
    kind, coarse = kind_and_coarse(state)
    is_record = pc.is_valid(state["position"])
    records = state.filter(is_record)
    counts = _sum_up(state.filter(pc.invert(is_record)))
    groups = pc.count_distinct(counts["group"], mode="all").as_py()
    if groups > MAX_GROUPS:
        raise ValueError(
            f"the records fall into more than {MAX_GROUPS:,} groups; group by a column with fewer values, or "
            "select with a cap, which takes any number of groups"
        )
    while len(counts) > MAX_BUCKETS and coarse + _COARSER < BUCKET_BITS:
        coarse += _COARSER
        counts = _sum_up(_widen(counts, _COARSER))
    metadata = {"kind": kind or "", "coarse": str(coarse)}
    return pa.concat_tables([counts, records.combine_chunks()]).replace_schema_metadata(metadata)


def merge(a: pa.Table, b: pa.Table) -> pa.Table:
    """The state of the records of both. Raises ValueError if their scores are of different number types."""
    (kind_a, coarse_a), (kind_b, coarse_b) = kind_and_coarse(a), kind_and_coarse(b)
    coarse = max(coarse_a, coarse_b)
    metadata = {"kind": _same_kind(kind_a, kind_b) or "", "coarse": str(coarse)}
    wide = [_widen(a, coarse - coarse_a), _widen(b, coarse - coarse_b)]
    return compact(pa.concat_tables([table.replace_schema_metadata(metadata) for table in wide]))


def _same_kind(a: str | None, b: str | None) -> str | None:
    if a and b and a != b:
        raise ValueError(f"the score column is {a} in one part and {b} in another; give it one type")
    return a or b


def _widen(state: pa.Table, bits: int) -> pa.Table:
    if bits == 0:
        return state
    bucket = pc.shift_right(state["bucket"], pa.scalar(bits, pa.uint64()))
    return state.set_column(state.schema.get_field_index("bucket"), STATE.field("bucket"), bucket)


def _sum_up(counts: pa.Table) -> pa.Table:
    if len(counts) == 0:
        return counts
    summed = counts.group_by(["group", "bucket"], use_threads=False).aggregate(
        [("records", "sum"), ("units", "sum"), ("low", "min"), ("high", "max")]
    )
    columns = [
        summed[name] for name in ("group", "bucket", "records_sum", "units_sum", "low_min", "high_max")
    ]
    columns += [pa.nulls(len(summed), pa.uint64()), pa.nulls(len(summed), pa.string())]
    return pa.table(columns, schema=counts.schema)


def advance(searches: Sequence[Search], state: pa.Table, rank: Callable[[pa.Table], pa.Array]) -> None:
    """Narrows every open search down by what a pass has found.

    `state`: compacted. `rank` gives the indices that sort the collected records of one group.
    """
    for search, rows in zip(searches, _by_group(state, [search.group for search in searches]), strict=True):
        if not search.left:
            continue
        if search.collect:
            _take_records(search, rows.take(rank(rows)))
        else:
            _take_buckets(search, rows.slice(0, len(rows) - rows["bucket"].null_count))
    share_room(searches)


def share_room(searches: Sequence[Search]) -> None:
    """Says which searches end by collecting what is left: the shortest, as long as all fit in a state."""
    room = COLLECT_ROWS
    for search in sorted((search for search in searches if search.left), key=lambda search: search.left):
        room -= search.left
        search.collect = room >= 0


def first_searches(state: pa.Table) -> list[Search]:
    """The searches of a compacted first state, one for each group, sorted by name with null first.

    Their budgets are still to be set.
    """
    names = sorted(set(state["group"].to_pylist()), key=lambda name: (name is not None, name or ""))
    searches = []
    for name, rows in zip(names, _by_group(state, names), strict=True):
        records, units = pc.sum(rows["records"]).as_py(), pc.sum(rows["units"]).as_py()
        ranked = len(rows) - rows["bucket"].null_count
        unranked = pc.sum(rows["records"].slice(ranked)).as_py() or 0
        search = Search(name, records, units, unranked)
        search.left = records - unranked
        searches.append(search)
    return searches


def as_values(searches: Sequence[Search]) -> list[dict[str, Any]]:
    """The searches as JSON values."""
    return [asdict(search) for search in searches]


def _by_group(state: pa.Table, names: Sequence[str | None]) -> list[pa.Table]:
    """The rows of each named group by bucket, those without a bucket last, in one sort for all groups."""
    state = state.combine_chunks()
    index = pc.index_in(state["group"].combine_chunks(), value_set=pa.array(names, pa.string()))
    codes = index.fill_null(len(names)).to_numpy(zero_copy_only=False).astype(np.int64)
    bucket = state["bucket"].combine_chunks().fill_null(_LAST).to_numpy(zero_copy_only=False)
    order = np.lexsort((bucket, codes))
    ordered = state.take(pa.array(order))
    edges = np.searchsorted(codes[order], np.arange(len(names) + 1))
    return [ordered.slice(edges[row], edges[row + 1] - edges[row]) for row in range(len(names))]


def _take_buckets(search: Search, rows: pa.Table) -> None:
    counts, units = rows["records"].to_numpy(), rows["units"].to_numpy()
    fits = int(np.searchsorted(np.cumsum(units), search.budget - search.above_units, side="right"))
    search.above_records += int(counts[:fits].sum())
    search.above_units += int(units[:fits].sum())
    if fits == len(rows):
        search.left = 0
        return
    search.narrow(int(counts[fits]), rows["low"][fits].as_py(), rows["high"][fits].as_py())


def _take_records(search: Search, rows: pa.Table) -> None:
    units, words = rows["units"].to_numpy(), rows["low"].to_numpy()
    fits = int(np.searchsorted(np.cumsum(units), search.budget - search.above_units, side="right"))
    word = int(words[fits]) if not search.known else search.known[0]
    if not search.known:
        search.tied = int((words == word).sum())
        search.above_tied = search.above_records + int(np.searchsorted(words, word))
    search.above_records += fits
    search.above_units += int(units[:fits].sum())
    search.cut = {"word": word, "id": rows["id"][fits].as_py(), "position": rows["position"][fits].as_py()}
    search.left = 0
