"""Weights of tokens, beside PRIOR's formula in plain Python."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.scorers import registry
from thresher.scorers.testing import check_scorer
from thresher.scorers.token_weights import TokenWeightsScorer

losses = st.none() | st.floats(0, 50, width=32) | st.just(math.inf) | st.just(math.nan)
lists = st.lists(st.none() | st.lists(losses, max_size=6), min_size=1, max_size=6)


def weights(rows: Any, alpha: float = 1.0, kind: pa.DataType | None = None) -> list[Any]:
    column = pa.array(rows, kind or pa.list_(pa.float32()))
    scorer = TokenWeightsScorer("lm_token_nll", alpha)
    found = scorer.score(pa.record_batch({"lm_token_nll": column}))
    assert {name: array.type for name, array in found.items()} == scorer.outputs
    return found["weights"].to_pylist()


@given(lists, st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_a_weight_is_one_minus_the_probability_to_a_power_scaled_to_a_mean_of_one(
    rows: list[Any], alpha: float
) -> None:
    for row, found in zip(rows, weights(rows, alpha), strict=True):
        if row is None:
            assert found is None
            continue
        there = [at for at, loss in enumerate(row) if loss is not None and not math.isnan(loss)]
        raw = {at: (1 - math.exp(-row[at])) ** alpha for at in there}
        total = sum(raw.values())
        assert [at for at, one in enumerate(found) if one is not None] == there
        for at in there:
            expected = len(there) * raw[at] / total if total > 0 else 1.0
            assert found[at] == pytest.approx(expected, rel=1e-5, abs=1e-6)
        if there:
            assert sum(found[at] for at in there) == pytest.approx(len(there), rel=1e-5)


def test_a_token_that_is_hard_to_guess_weighs_more_than_one() -> None:
    (found,) = weights([[-math.log(0.99), -math.log(0.5), -math.log(0.01)]])
    assert found == pytest.approx([3 * one / 1.5 for one in (0.01, 0.5, 0.99)])


def test_lists_of_other_numbers_and_slices_are_read_as_they_are() -> None:
    rows = [[0.5, 1.0], None, [], [2.0], [0.25, 0.25, 4.0]]
    expected = weights(rows)
    for kind in (pa.list_(pa.float16()), pa.list_(pa.float64()), pa.large_list(pa.float32())):
        assert weights(rows, kind=kind) == [
            None if row is None else pytest.approx(row, rel=1e-3) for row in expected
        ]
    sliced = pa.array([[9.0], *rows], pa.list_(pa.float32())).slice(1)
    scorer = TokenWeightsScorer("lm_token_nll")
    found = scorer.score(pa.record_batch({"lm_token_nll": sliced}))["weights"].to_pylist()
    assert found == expected


def test_what_are_no_likelihoods_is_an_error() -> None:
    with pytest.raises(ValueError, match="lists of numbers are wanted"):
        weights([1.0], kind=pa.float32())
    with pytest.raises(ValueError, match="no negative log-likelihood"):
        weights([[1.0, -2.0]])
    with pytest.raises(registry.PluginError, match="alpha is -1"):
        registry.build(registry.SCORER, "token_weights", {"token_nll": "x", "alpha": -1})


def test_the_scorer_keeps_its_contract() -> None:
    column = pa.array([[0.1, 2.0], None, [], [0.0, 0.0], [None, 3.0, 0.5]], pa.list_(pa.float32()))
    check_scorer(partial(TokenWeightsScorer, token_nll="x"), pa.record_batch({"x": column}))
