"""Buckets between percentiles against sorting each group with numpy."""

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
from thresher.pipeline.selectors import BucketSelector, prefix
from thresher.pipeline.selectors.groups import NullScoreError

SCORES = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, 1.0, math.inf, -math.inf, math.nan]),
    st.floats(allow_nan=True, width=32),
    st.integers(-3, 3).map(float),
)


def corpus(scores: list[Any], langs: list[Any] | None = None, dtype: Any = None) -> pa.RecordBatch:
    count = len(scores)
    return pa.record_batch(
        {
            "id": pa.array([f"r{number}" for number in range(count)], pa.string()),
            "position": pa.array(np.arange(count, dtype=np.uint64) + (5 << 32)),
            "perplexity": pa.array(scores, dtype or pa.float64()),
            "lang": pa.array(langs or ["en"] * count, pa.string()),
        }
    )


def named_by_sorting(rows: list[dict[str, Any]], percents: list[int], names: list[str]) -> list[str | None]:
    """The bucket of each row: a score up to the ceil(p n)-th smallest of its group is below the cut at p."""
    found: list[str | None] = []
    for row in rows:
        score = row["perplexity"]
        if score is None or math.isnan(score):
            found.append(None)
            continue
        others = (other["perplexity"] for other in rows if other["lang"] == row["lang"])
        ordered = np.sort([other for other in others if other is not None and not math.isnan(other)])
        place = 0
        for percent in percents:
            below = math.ceil(Fraction(percent, 100) * len(ordered))
            place += not (below and score <= ordered[below - 1])
        found.append(names[place])
    return found


@given(
    rows=st.lists(st.tuples(SCORES, st.sampled_from(["en", "de", "", None])), max_size=40),
    percents=st.sets(st.integers(0, 100), min_size=1, max_size=4).map(sorted),
    edges=st.lists(st.integers(0, 1000), max_size=4),
    collect_rows=st.sampled_from([1, 3, 1000]),
    backwards=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_buckets_are_those_of_a_sort_however_the_corpus_is_cut(
    decide: Any,
    rows: list[tuple[Any, Any]],
    percents: list[int],
    edges: list[int],
    collect_rows: int,
    backwards: bool,
) -> None:
    batch = corpus([score for score, _ in rows], [lang for _, lang in rows])
    names = [f"b{number}" for number in range(len(percents) + 1)]
    selector = BucketSelector("perplexity", [p / 100 for p in percents], names, "lang", on_null="keep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "COLLECT_ROWS", collect_rows)
        decision, said = decide(selector, batch, edges, backwards)
    wanted = named_by_sorting(batch.to_pylist(), percents, names)
    assert [row["value"] for row in said] == wanted
    assert all(row["keep"] and row["reason"] is None for row in said)
    for group in decision.values["groups"]:
        mine = [name for name, (_, lang) in zip(wanted, rows, strict=True) if lang == group["group"]]
        assert group["records"] == len(mine)
        assert group["null_scores"] == mine.count(None)
        counted = Counter(name for name in mine if name is not None)
        assert {name: count for name, count in group["buckets"].items() if count} == counted


@given(scores=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30), percent=st.integers(1, 99))
@settings(deadline=None)
def test_large_integers_are_cut_exactly(decide: Any, scores: list[int], percent: int) -> None:
    selector = BucketSelector("perplexity", [percent / 100], ["low", "high"])
    decision, said = decide(selector, corpus(scores, dtype=pa.int64()), [7])
    bound = sorted(scores)[math.ceil(Fraction(percent, 100) * len(scores)) - 1]
    assert decision.values["groups"][0]["bounds"] == [bound]
    assert [row["value"] for row in said] == ["low" if score <= bound else "high" for score in scores]


def test_a_million_scores_are_cut_where_numpy_cuts_them(decide: Any) -> None:
    scores = np.random.default_rng(11).lognormal(6, 1, 1_000_000).astype(np.float32)
    selector = BucketSelector("perplexity", [0.3, 0.6], ["head", "middle", "tail"])
    decision, said = decide(selector, corpus(scores, dtype=pa.float32()), [300_000, 700_000])
    bounds = np.quantile(scores, [0.3, 0.6], method="inverted_cdf")
    assert decision.values["groups"][0]["bounds"] == bounds.tolist()
    assert decision.values["groups"][0]["buckets"] == {"head": 300_000, "middle": 300_000, "tail": 400_000}
    wanted = np.array(["head", "middle", "tail"])[(scores[:, None] > bounds).sum(1)]
    assert [row["value"] for row in said[:50_000]] == wanted[:50_000].tolist()


@pytest.mark.parametrize(
    ("scores", "buckets"),
    [
        ([1.0, 2.0, 2.0, 2.0], ["low", "low", "low", "low"]),
        ([1.0, 1.0, 1.0, 2.0], ["low", "low", "low", "high"]),
        ([0.0, -0.0, 1.0, 2.0, 3.0], ["low", "low", "low", "high", "high"]),
        ([5.0], ["low"]),
    ],
)
def test_equal_scores_are_in_one_bucket_the_lower(
    decide: Any, scores: list[float], buckets: list[str]
) -> None:
    _, said = decide(BucketSelector("perplexity", [0.5], ["low", "high"]), corpus(scores))
    assert [row["value"] for row in said] == buckets


def test_buckets_that_are_not_named_go_and_records_without_a_score_as_the_step_says(decide: Any) -> None:
    batch = corpus([1.0, 2.0, None, 3.0, math.nan, 4.0])
    chosen: dict[str, Any] = {"cuts": [0.5], "names": ["low", "high"], "keep": ["low"]}
    _, said = decide(BucketSelector("perplexity", **chosen), batch)
    assert [row["keep"] for row in said] == [True, True, False, False, False, False]
    assert [row["reason"] for row in said] == [
        None,
        None,
        "null_score",
        "other_bucket",
        "null_score",
        "other_bucket",
    ]
    assert [row["value"] for row in said] == ["low", "low", None, "high", None, "high"]
    _, said = decide(BucketSelector("perplexity", **chosen, on_null="keep"), batch)
    assert [row["keep"] for row in said] == [True, True, True, False, True, False]
    with pytest.raises(NullScoreError, match="record r2 has no perplexity"):
        decide(BucketSelector("perplexity", **chosen, on_null="fail"), batch)


def test_an_empty_corpus_and_one_without_scores_have_decisions(decide: Any) -> None:
    selector = BucketSelector("perplexity", [0.3, 0.6], ["head", "middle", "tail"], "lang")
    assert decide(selector, corpus([]))[0].values["groups"] == []
    decision, said = decide(selector, corpus([None, None], dtype=pa.null()))
    assert decision.values["groups"][0]["bounds"] == [None, None]
    assert [row["reason"] for row in said] == ["null_score"] * 2


def test_more_bounds_than_can_be_looked_for_at_once_are_refused(
    decide: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "MAX_GROUPS", 3)
    selector = BucketSelector("perplexity", [0.3, 0.6], ["head", "middle", "tail"], "lang")
    with pytest.raises(ValueError, match="2 groups with 2 cuts each are more than 3 bounds"):
        decide(selector, corpus([1.0, 2.0], ["a", "b"]))


@pytest.mark.parametrize(
    ("cuts", "names", "message"),
    [
        ([0.3], ["a"], "1 cuts make 2 buckets; 1 names are given"),
        ([], ["a"], "0 cuts"),
        ([0.6, 0.3], ["a", "b", "c"], "ascending"),
        ([30.0], ["a", "b"], "between 0 and 1"),
    ],
)
def test_cuts_and_names_that_do_not_fit_are_refused(cuts: Any, names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BucketSelector("perplexity", cuts, names)
