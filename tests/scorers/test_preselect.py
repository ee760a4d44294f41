"""Agreement of losses with the order of models, against a count of pairs in plain Python."""

from __future__ import annotations

import functools
import math
import random
from itertools import combinations

import pyarrow as pa
import pytest
from thresher.scorers.preselect import RankAgreementScorer
from thresher.scorers.testing import check_scorer

NAMES = ["best", "good", "fair", "poor", "bad", "worst"]


def agreement(columns: dict[str, list[float | None]], names: list[str] = NAMES) -> list[int | None]:
    batch = pa.record_batch({name: pa.array(values, pa.float32()) for name, values in columns.items()})
    return RankAgreementScorer(names).score(batch)["agreement"].to_pylist()


def test_all_fifteen_pairs_of_six_models_agree_where_losses_rise_from_the_best_to_the_worst() -> None:
    rising = {name: [float(number), float(-number)] for number, name in enumerate(NAMES)}
    assert agreement(rising) == [15, 0]


def test_pairs_are_counted_as_the_better_model_has_the_lower_loss() -> None:
    draw = random.Random(1)
    # Few values, so that many are equal, which is no agreement.
    columns = {name: [float(draw.randrange(4)) for _ in range(300)] for name in NAMES}
    expected = [
        sum(columns[better][row] < columns[worse][row] for better, worse in combinations(NAMES, 2))
        for row in range(300)
    ]
    assert agreement(columns) == expected
    assert len(set(expected)) > 8


def test_a_record_that_lacks_a_loss_has_no_agreement() -> None:
    assert agreement({"a": [1.0, None, 1.0, math.nan], "b": [2.0, 2.0, None, 2.0]}, ["a", "b"]) == [
        1,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize("losses", [["one"], "several", ["one", "two", "one"]])
def test_fewer_than_two_columns_or_one_of_them_twice_are_refused(losses: list[str]) -> None:
    with pytest.raises(ValueError, match="losses names"):
        RankAgreementScorer(losses)


def test_a_column_of_text_is_no_loss() -> None:
    batch = pa.record_batch({"a": ["low"], "b": ["high"]})
    with pytest.raises(ValueError, match="column a is string"):
        RankAgreementScorer(["a", "b"]).score(batch)


def test_it_keeps_the_contract_of_scorers() -> None:
    columns = {"a": pa.float32(), "b": pa.float64(), "c": pa.int32()}
    check_scorer(functools.partial(RankAgreementScorer, losses=["a", "b", "c"]), columns=columns)
