"""Counts of combinations of votes, beside Python's Counter."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.scorers.votes import patterns
from thresher.scorers.votes.patterns import Counted, VotePatterns

NAMES = ["a", "b", "c"]
Row = tuple[int | None, int | None, int | None]
vote = st.none() | st.integers(0, 2)
rows_of_votes = st.lists(st.tuples(vote, vote, vote), max_size=30)


def batch(rows: list[Row]) -> pa.RecordBatch:
    return pa.record_batch(
        {name: pa.array([row[at] for row in rows], pa.int8()) for at, name in enumerate(NAMES)}
    )


def as_counter(counted: Counted) -> Counter[Row]:
    keys = [tuple(None if one < 0 else one for one in row) for row in counted.votes.tolist()]
    return Counter(dict(zip(keys, counted.counts.tolist(), strict=True)))


@given(rows_of_votes, st.integers(0, 30), st.integers(1, 9))
def test_counts_are_those_of_the_records_however_they_are_cut_and_merged(
    rows: list[Row], cut: int, held: int
) -> None:
    one, other = VotePatterns(NAMES, 3), VotePatterns(NAMES, 3)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(patterns, "_HELD", held)
        for row in rows[:cut]:
            one.add(batch([row]))
        other.add(batch(rows[cut:]))
        one.merge(other)
    counted, whole = one.counted(), VotePatterns(NAMES, 3)
    whole.add(batch(rows[::-1]))
    assert as_counter(counted) == Counter(rows)
    assert counted.votes.tolist() == sorted(counted.votes.tolist()) == whole.counted().votes.tolist()
    assert counted.counts.tolist() == whole.counted().counts.tolist()
    assert counted.records == len(rows)


@given(rows_of_votes.filter(bool))
def test_coverage_overlap_and_conflict_are_shares_of_all_records(rows: list[Row]) -> None:
    found = VotePatterns(NAMES, 3)
    found.add(batch(rows))
    counted = found.counted()
    for at in range(3):
        others = [[one for i, one in enumerate(row) if i != at and one is not None] for row in rows]
        mine = [row[at] for row in rows]
        votes = [(one, rest) for one, rest in zip(mine, others, strict=True) if one is not None]
        expected = (
            len(votes),
            sum(bool(rest) for _, rest in votes),
            sum(any(one != other for other in rest) for one, rest in votes),
        )
        shares = (counted.coverage()[at], counted.overlap()[at], counted.conflict()[at])
        assert shares == pytest.approx(np.array(expected) / len(rows))


def test_records_of_another_true_class_are_counted_apart() -> None:
    found = VotePatterns(["a"], 2, gold="y")
    columns = {"a": pa.array([1, 1, 1, None]), "y": pa.array([1, 0, None, 1])}
    found.add(pa.record_batch(columns))
    counted = found.counted()
    assert sorted(zip(counted.votes[:, 0].tolist(), counted.gold.tolist(), strict=True)) == [
        (-1, 1),
        (1, -1),
        (1, 0),
        (1, 1),
    ]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([0, 3]), "column a has a vote 3; of 3 classes a vote is 0 to 2, or null to abstain"),
        (pa.array([-1]), "column a has a vote -1"),
        (pa.array(["spam"]), "column a is string; a vote is an integer"),
    ],
)
def test_what_is_no_vote_is_told_with_its_column(column: pa.Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VotePatterns(["a"], 3).add(pa.record_batch({"a": column}))


def test_truth_values_are_votes_for_the_first_two_classes() -> None:
    found = VotePatterns(["a"], 2)
    found.add(pa.record_batch({"a": pa.array([True, False, None, True])}))
    assert as_counter(found.counted()) == Counter({(None,): 1, (0,): 1, (1,): 2})
