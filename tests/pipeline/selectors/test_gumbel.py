"""Gumbel top-k against closed forms and the definition of the distribution."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from thresher.pipeline.draws import draws
from thresher.pipeline.selectors import TopSelector
from thresher.pipeline.selectors.gumbel import gumbel_keys, noise

EDGES = [0, 1, 2**12 - 1, 2**12, 2**63, 2**64 - 2**12, 2**64 - 1]


@given(st.lists(st.one_of(st.sampled_from(EDGES), st.integers(0, 2**64 - 1)), min_size=1, max_size=20))
@settings(deadline=None)
def test_noise_is_the_inverse_of_the_gumbel_distribution_function(numbers: list[int]) -> None:
    for number, found in zip(numbers, noise(np.array(numbers, np.uint64)).tolist(), strict=True):
        uniform = ((number >> 12) + 0.5) / 2**52
        assert 0 < uniform < 1
        assert found == pytest.approx(-math.log(-math.log(uniform)), rel=1e-14, abs=1e-15)


def test_noise_ascends_with_the_draw_and_is_finite_at_both_ends() -> None:
    found = noise(np.array(EDGES, np.uint64))
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()
    assert found[0] < -3.5
    assert found[-1] > 36


def test_scores_are_divided_by_the_temperature_and_what_is_no_number_stays_so() -> None:
    drawn = np.array([2**63] * 5, np.uint64)
    scores = pa.array([3.0, None, math.nan, math.inf, -math.inf])
    still = noise(drawn)[0]
    keys = gumbel_keys(scores, drawn, 4.0).to_pylist()
    assert keys == [3.0 / 4 + still, None, None, math.inf, -math.inf]
    assert gumbel_keys(pa.array([3], pa.int64()), drawn[:1], 4.0).to_pylist() == keys[:1]


def picked(weights: dict[str, float], count: int, seed: int, temperature: float) -> tuple[str, ...]:
    """The records of the largest keys, largest first, as a selection of a job draws them."""
    ids = pa.array(list(weights))
    scores = pa.array([math.log(weight) for weight in weights.values()])
    keys = gumbel_keys(scores, draws(ids, seed, "select:weight"), temperature).to_pylist()
    return tuple(sorted(weights, key=lambda name: -keys[list(weights).index(name)])[:count])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_two_picks_are_as_often_as_draws_without_replacement_in_proportion_to_weights(
    temperature: float,
) -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 5.0}
    tries = 6000
    found = Counter(picked(weights, 2, seed, temperature) for seed in range(tries))
    tempered = {name: weight ** (1 / temperature) for name, weight in weights.items()}
    whole = sum(tempered.values())
    chi_square = 0.0
    for one, two in itertools.permutations(weights, 2):
        chance = tempered[one] / whole * tempered[two] / (whole - tempered[one])
        chi_square += (found[one, two] - tries * chance) ** 2 / (tries * chance)
    # The 99.9th percentile of chi-square with 5 degrees of freedom; the seeds are fixed.
    assert chi_square < 20.5


def test_the_selector_takes_the_largest_keys(decide) -> None:  # type: ignore[no-untyped-def]
    count = 60
    ids = pa.array([f"r{number}" for number in range(count)])
    keys = gumbel_keys(pa.array(np.linspace(-2, 2, count)), draws(ids, 3, "select:x"))
    batch = pa.record_batch({"id": ids, "position": pa.array(np.arange(count, dtype=np.uint64)), "key": keys})
    _, rows = decide(TopSelector("key", budget=7), batch, [13, 40])
    expected = sorted(range(count), key=lambda row: -keys[row].as_py())[:7]
    assert {row for row, told in enumerate(rows) if told["keep"]} == set(expected)
