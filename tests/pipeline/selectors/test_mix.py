"""Mixes of groups against drawing each group by itself."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from thresher.pipeline.selectors import MixSelector, prefix
from thresher.pipeline.selectors.groups import joined_name

Row = dict[str, Any]


def corpus(groups: list[Any], draws: list[int] | None = None, tokens: list[Any] | None = None) -> Any:
    count = len(groups)
    rng = np.random.default_rng(count)
    return pa.record_batch(
        {
            "id": pa.array([f"r{number % 3}" for number in range(count)], pa.string()),
            "position": pa.array(np.arange(count, dtype=np.uint64) + (5 << 32)),
            "input": pa.array(groups, pa.string()),
            "draw": pa.array(draws or rng.integers(0, 2**64, count, np.uint64, endpoint=False), pa.uint64()),
            "tokens": pa.array(tokens or [1] * count, pa.int64()),
        }
    )


def drawn_one_by_one(rows: list[Row], budgets: dict[Any, float]) -> set[int]:
    """Positions of the rows that fit into the budget of their group, the largest draw first."""
    chosen = set()
    for group in {row["input"] for row in rows}:
        room = budgets.get(group, -1)  # of a group that is not in the mix, nothing fits
        members = [row for row in rows if row["input"] == group]
        for row in sorted(members, key=lambda row: (-row["draw"], row["id"], row["position"])):
            room -= row["tokens"]
            if room < 0:
                break
            chosen.add(row["position"])
    return chosen


GROUPS = st.sampled_from(["crawl", "wiki", "books", None])
ROWS = st.lists(st.tuples(GROUPS, st.integers(0, 3), st.integers(0, 6)), max_size=40)


@given(
    rows=ROWS,
    weights=st.dictionaries(st.sampled_from(["crawl", "wiki", "code"]), st.integers(1, 40), min_size=1),
    budget=st.one_of(st.none(), st.integers(1, 80)),
    edges=st.lists(st.integers(0, 1000), max_size=4),
    collect_rows=st.sampled_from([1, 3, 1000]),
)
@settings(max_examples=250, deadline=None)
def test_weights_give_each_group_its_exact_share_of_the_whole(
    decide: Any,
    rows: list[tuple[Any, int, int]],
    weights: dict[str, int],
    budget: int | None,
    edges: list[int],
    collect_rows: int,
) -> None:
    batch = corpus([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
    tenths = {name: weight / 10 for name, weight in weights.items()}
    selector = MixSelector("draw", "input", weights=tenths, budget=budget, unit_column="tokens")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "COLLECT_ROWS", collect_rows)
        decision, said = decide(selector, batch, edges)
    has = Counter(dict.fromkeys(weights, 0))
    for group, _, tokens in rows:
        has[group] += tokens
    # In whole numbers: a group's part of a whole w is w * weight // sum, and the scarcest bounds the whole.
    together = sum(weights.values())
    scarcest = min(weights, key=lambda name: Fraction(has[name], weights[name]))
    part = (has[scarcest], weights[scarcest]) if budget is None else (budget, together)
    budgets = {name: part[0] * weight // part[1] for name, weight in weights.items()}
    kept = {row["position"] for row, verdict in zip(batch.to_pylist(), said, strict=True) if verdict["keep"]}
    assert kept == drawn_one_by_one(batch.to_pylist(), budgets)
    for group in decision.values["groups"]:
        if group["group"] is not None:
            assert group["budget"] == budgets[group["group"]]
            assert group["short"] == max(0, group["budget"] - has[group["group"]])
    assert set(weights) <= {group["group"] for group in decision.values["groups"]}
    for (name, _, _), verdict in zip(rows, said, strict=True):
        if not verdict["keep"]:
            assert verdict["reason"] == ("over_weight" if name in weights else "not_in_mix")


@given(
    rows=ROWS,
    caps=st.dictionaries(st.sampled_from(["crawl", "wiki", "code"]), st.integers(1, 40), min_size=1),
    edges=st.lists(st.integers(0, 1000), max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_caps_bound_the_groups_that_they_name_and_leave_the_others(
    decide: Any, rows: list[tuple[Any, int, int]], caps: dict[str, int], edges: list[int]
) -> None:
    batch = corpus([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
    _, said = decide(MixSelector("draw", "input", caps=caps, unit_column="tokens"), batch, edges)
    kept = {row["position"] for row, verdict in zip(batch.to_pylist(), said, strict=True) if verdict["keep"]}
    budgets = {name: caps.get(name or "", math.inf) for name in ("crawl", "wiki", "books", None)}
    assert kept == drawn_one_by_one(batch.to_pylist(), budgets)
    assert {row["reason"] for row in said} <= {None, "over_cap"}


def test_decimal_weights_do_not_drift(decide: Any) -> None:
    # 0.7 and 0.1 times 1000 are 699.9… and 100.0… in binary floating point.
    groups = ["a"] * 1000 + ["b"] * 1000 + ["c"] * 1000
    selector = MixSelector("draw", "input", weights={"a": 0.7, "b": 0.2, "c": 0.1}, budget=1000)
    _, said = decide(selector, corpus(groups))
    kept = Counter(group for group, row in zip(groups, said, strict=True) if row["keep"])
    assert kept == {"a": 700, "b": 200, "c": 100}


def test_without_a_budget_the_scarcest_group_is_used_up(decide: Any) -> None:
    groups = ["crawl"] * 1000 + ["wiki"] * 90
    selector = MixSelector("draw", "input", weights={"crawl": 0.7, "wiki": 0.3})
    _, said = decide(selector, corpus(groups))
    kept = Counter(group for group, row in zip(groups, said, strict=True) if row["keep"])
    assert kept == {"crawl": 210, "wiki": 90}


def test_a_group_with_less_than_its_part_of_a_budget_gives_all_and_the_decision_says_so(decide: Any) -> None:
    groups = ["crawl"] * 100 + ["wiki"] * 10 + ["spam"] * 5
    selector = MixSelector("draw", "input", weights={"crawl": 1, "wiki": 1, "code": 2}, budget=80)
    decision, said = decide(selector, corpus(groups))
    kept = Counter(group for group, row in zip(groups, said, strict=True) if row["keep"])
    assert kept == {"crawl": 20, "wiki": 10}
    told = {
        group["group"]: (
            group["share"],
            group["records"],
            group["budget"],
            group["kept_records"],
            group["short"],
        )
        for group in decision.values["groups"]
    }
    assert told == {
        None: (None, 5, 0, 0, 0),
        "crawl": (0.25, 100, 20, 20, 0),
        "wiki": (0.25, 10, 20, 10, 10),
        "code": (0.5, 0, 40, 0, 40),
    }


def test_any_number_of_groups_that_are_not_named_are_one(
    decide: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "MAX_GROUPS", 2)
    groups = ["crawl"] * 10 + [f"g{number}" for number in range(100)]
    _, said = decide(MixSelector("draw", "input", caps={"crawl": 3}), corpus(groups))
    assert sum(row["keep"] for row in said) == 103


def test_wrong_arguments_are_refused() -> None:
    for arguments in ({}, {"weights": {"a": 1.0}, "caps": {"a": 1}}):
        with pytest.raises(ValueError, match="one of weights, caps, alpha and unimax_epochs"):
            MixSelector("draw", "input", **arguments)  # type: ignore[arg-type]
    for weight in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="above 0"):
            MixSelector("draw", "input", weights={"a": weight})


def even_by_hand(sizes: dict[Any, int], budget: int, epochs: Fraction) -> dict[Any, int]:
    """UniMax as a fair division: all fill at the same speed, and stop where they are full."""
    given, open_groups, left = dict.fromkeys(sizes, Fraction(0)), set(sizes), Fraction(budget)
    while left > 0 and open_groups:
        step = min([left / len(open_groups), *(epochs * sizes[name] - given[name] for name in open_groups)])
        for name in open_groups:
            given[name] += step
        left -= step * len(open_groups)
        open_groups = {name for name in open_groups if given[name] < epochs * sizes[name]}
    return {name: math.floor(part) for name, part in given.items()}


def copies_by_hand(rows: list[Row], budgets: dict[Any, int], most: int) -> Counter[int]:
    """Position: copies, all records of a group once before any comes again, the largest draw first."""
    taken: Counter[int] = Counter()
    for group, budget in budgets.items():
        members = [row for row in rows if row["input"] == group]
        members.sort(
            key=lambda row: (-(row["draw"] >> 11 if most > 1 else row["draw"]), row["id"], row["position"])
        )
        room = budget
        for row in members * most:
            room -= row["tokens"]
            if room < 0:
                break
            taken[row["position"]] += 1
    return taken


@given(
    rows=ROWS,
    budget=st.integers(1, 150),
    epochs=st.sampled_from([0.5, 1, 2.5, 4]),
    edges=st.lists(st.integers(0, 1000), max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_unimax_fills_all_groups_at_the_same_speed_until_they_are_full(
    decide: Any, rows: list[tuple[Any, int, int]], budget: int, epochs: float, edges: list[int]
) -> None:
    batch = corpus([row[0] for row in rows], tokens=[row[2] for row in rows])
    selector = MixSelector("draw", "input", unimax_epochs=epochs, budget=budget, unit_column="tokens")
    decision, found = decide(selector, batch, edges)
    plain = batch.to_pylist()
    sizes: Counter[Any] = Counter()
    for row in plain:
        sizes[row["input"]] += row["tokens"]
    budgets = even_by_hand(dict(sizes), budget, Fraction(epochs))
    assert {group["group"]: group["budget"] for group in decision.values["groups"]} == budgets
    expected = copies_by_hand(plain, budgets, max(1, math.ceil(epochs)))
    assert [told["copies"] for told in found] == [expected[row["position"]] for row in plain]
    assert {told["reason"] for told in found} <= {None, "over_weight"}


def test_unimax_gives_what_the_algorithm_of_the_paper_gives(decide: Any) -> None:
    """Sizes 10, 30 and 200, a budget of 150 and two epochs at most: 20, then 60 of 65, then the 70 left."""
    batch = corpus(["a"] * 10 + ["b"] * 30 + ["c"] * 200)
    decision, found = decide(MixSelector("draw", "input", unimax_epochs=2, budget=150), batch)
    assert [group["budget"] for group in decision.values["groups"]] == [20, 60, 70]
    assert [group["kept_copies"] for group in decision.values["groups"]] == [20, 60, 70]
    assert Counter(told["copies"] for told in found) == {2: 40, 1: 70, 0: 130}


@pytest.mark.parametrize("alpha", [0, 0.3, 1])
def test_alpha_makes_shares_of_powers_of_sizes(decide: Any, alpha: float) -> None:
    sizes = {"a": 10, "b": 40, "c": 200}
    batch = corpus([name for name, size in sizes.items() for _ in range(size)])
    powers = {name: size**alpha for name, size in sizes.items()}
    decision, _ = decide(MixSelector("draw", "input", alpha=alpha, budget=90, epochs=3), batch)
    for group in decision.values["groups"]:
        expected = powers[group["group"]] / sum(powers.values())
        assert group["share"] == pytest.approx(expected)
        assert group["budget"] == math.floor(90 * expected + 1e-9)
        assert group["kept_copies"] == min(group["budget"], 3 * group["records"])


def test_without_a_budget_the_scarcest_group_gives_all_its_epochs(decide: Any) -> None:
    batch = corpus(["a"] * 4 + ["b"] * 50)
    decision, found = decide(MixSelector("draw", "input", weights={"a": 1, "b": 3}, epochs=2.5), batch)
    assert [group["kept_copies"] for group in decision.values["groups"]] == [10, 30]
    assert sorted(told["copies"] for told in found[:4]) == [2, 2, 3, 3]


def test_a_group_short_of_its_epochs_says_by_how_much(decide: Any) -> None:
    batch = corpus(["a"] * 4 + ["b"] * 50)
    decision, _ = decide(MixSelector("draw", "input", weights={"a": 1, "b": 1}, epochs=2, budget=40), batch)
    assert [(g["budget"], g["kept_copies"], g["short"]) for g in decision.values["groups"]] == [
        (20, 8, 12),
        (20, 20, 0),
    ]


def test_groups_of_two_columns_are_told_apart_whatever_their_values_hold(decide: Any) -> None:
    groups = [("a/b", "c"), ("a", "b/c"), ("a\\", "/b"), ("a", "\\/b"), ("a", None), (None, "a")] * 2
    batch = corpus([one for one, _ in groups])
    batch = batch.append_column("quality", pa.array([two for _, two in groups]))
    decision, _ = decide(MixSelector("draw", ["input", "quality"], alpha=0, budget=100), batch)
    found = {group["group"]: group["records"] for group in decision.values["groups"]}
    names = [joined_name([one, two]) for one, two in groups[:4]]
    assert len(set(names)) == 4
    assert found == dict.fromkeys(names, 2) | {None: 4}
