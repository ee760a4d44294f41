"""Weighted sampling with replacement against sorting every copy, and against what is expected of it."""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from thresher.pipeline.selectors import TopSelector, prefix
from thresher.pipeline.selectors.groups import NullScoreError

WEIGHTS = st.one_of(st.none(), st.integers(-1, 6), st.sampled_from([0.25, 1e-310, 1e305, math.nan]))
ROWS = st.lists(st.tuples(WEIGHTS, st.sampled_from(["x", "y", None]), st.integers(0, 5)), max_size=25)


def corpus(weights: list[Any], groups: list[Any], tokens: list[int], seed: int = 0) -> pa.RecordBatch:
    count = len(weights)
    drawn = np.random.default_rng([seed, count]).integers(0, 2**64, count, np.uint64)
    return pa.record_batch(
        {
            "id": pa.array([f"r{number % 3}" for number in range(count)], pa.string()),
            "position": pa.array(np.arange(count, dtype=np.uint64) + (5 << 32)),
            "draw": pa.array(drawn, pa.uint64()),
            "weight": pa.array(weights, pa.float64()),
            "group": pa.array(groups, pa.string()),
            "tokens": pa.array(tokens, pa.int64()),
        }
    )


def weighs(weight: Any) -> bool:
    return weight is not None and not math.isnan(weight) and weight > 1e-300


def copied_one_by_one(rows: list[dict[str, Any]], most: int, budget: int) -> dict[int, int]:
    """Position: copies, if copies are taken in the order of (number + 1 - draw) / weight."""
    taken: dict[int, int] = defaultdict(int)
    for group in {row["group"] for row in rows}:
        copies = [
            ((number + 1 - Fraction(row["draw"] >> 11, 2**53)) / Fraction(row["weight"]), row)
            for row in rows
            if row["group"] == group and weighs(row["weight"])
            for number in range(most)
        ]
        room = budget
        for _, row in sorted(copies, key=lambda copy: (copy[0], copy[1]["id"], copy[1]["position"])):
            room -= row["tokens"]
            if room < 0:
                break
            taken[row["position"]] += 1
    return taken


@given(
    rows=ROWS,
    most=st.integers(1, 4),
    budget=st.integers(0, 60),
    edges=st.lists(st.integers(0, 1000), max_size=4),
    collect_rows=st.sampled_from([1, 3, 1000]),
    backwards=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_copies_are_those_that_come_first_one_by_one(
    decide: Any,
    rows: list[tuple[Any, Any, int]],
    most: int,
    budget: int,
    edges: list[int],
    collect_rows: int,
    backwards: bool,
) -> None:
    weights, groups, tokens = ([row[place] for row in rows] for place in range(3))
    # So large a weight is as good as the largest that is told apart.
    batch = corpus(weights, groups, tokens)
    selector = TopSelector(
        "draw", budget=budget, within="group", unit_column="tokens", weight="weight", max_copies=most
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "COLLECT_ROWS", collect_rows)
        decision, found = decide(selector, batch, edges, backwards)
    plain = [row | {"weight": row["weight"] and min(row["weight"], 1e300)} for row in batch.to_pylist()]
    expected = copied_one_by_one(plain, most, budget)
    for row, told in zip(plain, found, strict=True):
        assert told["copies"] == expected[row["position"]]
        assert told["keep"] == (told["copies"] > 0)
        null = row["weight"] is None or math.isnan(row["weight"])
        why = "null_score" if null else "below_cut" if weighs(row["weight"]) else "no_weight"
        assert told["reason"] == (None if told["keep"] else why)
    for group in decision.values["groups"]:
        mine = [row for row in plain if row["group"] == group["group"]]
        assert group["records"] == len(mine)
        assert group["units"] == sum(row["tokens"] for row in mine)
        assert group["kept_copies" if most > 1 else "kept_records"] == sum(
            expected[row["position"]] for row in mine
        )


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 6), st.integers(1, 90))
@settings(deadline=None)
def test_a_budget_is_met_exactly_and_copies_are_the_expected_number_rounded_up_or_down(
    decide: Any, weights: list[int], most: int, budget: int
) -> None:
    batch = corpus(weights, [None] * len(weights), [1] * len(weights))
    _, found = decide(TopSelector("draw", budget=budget, weight="weight", max_copies=most), batch)
    copies = [told["copies"] for told in found]
    assert sum(copies) == min(budget, most * len(weights))
    # One multiple of the weights makes every expected number: its bounds from each record must agree.
    least = max(((c - 1) / w for c, w in zip(copies, weights, strict=True) if c), default=0)
    largest = min(((c + 1) / w for c, w in zip(copies, weights, strict=True) if c < most), default=math.inf)
    assert least <= largest


def test_over_many_draws_each_record_gets_its_share_of_the_budget(decide: Any) -> None:
    weights = [1, 2, 3, 4, 10] * 8
    budget, tries = 100, 300
    total = np.zeros(len(weights))
    for seed in range(tries):
        batch = corpus(weights, [None] * len(weights), [1] * len(weights), seed)
        _, found = decide(TopSelector("draw", budget=budget, weight="weight", max_copies=8), batch)
        total += [told["copies"] for told in found]
    for weight in set(weights):
        mean = float(np.mean([total[row] for row in range(len(weights)) if weights[row] == weight])) / tries
        # Eight records, 300 draws, a variance below a quarter: standard error below 0.0103.
        assert mean == pytest.approx(budget * weight / sum(weights), abs=0.035)


def test_a_record_without_a_weight_is_kept_once_or_ends_the_run_and_one_of_weight_0_goes(decide: Any) -> None:
    batch = corpus([None, 0.0, 2.0], [None] * 3, [1] * 3)
    kept = TopSelector("draw", budget=9, weight="weight", max_copies=3, on_null="keep")
    _, found = decide(kept, batch)
    assert [(told["copies"], told["reason"]) for told in found] == [(1, None), (0, "no_weight"), (3, None)]
    failing = TopSelector("draw", budget=9, weight="weight", max_copies=3, on_null="fail")
    with pytest.raises(NullScoreError, match="record r0 has no weight"):
        decide(failing, batch)
    _, found = decide(failing, batch.slice(1))
    assert [told["copies"] for told in found] == [0, 3]


def test_a_share_is_of_the_records_and_not_of_their_copies(decide: Any) -> None:
    batch = corpus([1.0] * 10, [None] * 10, [1] * 10)
    _, found = decide(TopSelector("draw", top=0.5, weight="weight", max_copies=4), batch)
    assert sum(told["copies"] for told in found) == 5


def test_fewer_than_one_copy_is_refused() -> None:
    with pytest.raises(ValueError, match="max_copies is 0"):
        TopSelector("draw", budget=1, weight="weight", max_copies=0)
