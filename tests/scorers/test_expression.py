"""Arithmetic over columns, beside plain Python's."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.scorers import registry
from thresher.scorers.expression import ExpressionScorer
from thresher.scorers.testing import check_scorer

numbers = st.none() | st.floats(-1e6, 1e6, width=32) | st.just(0.0)
pairs = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8)


def scored(value: str, columns: dict[str, Any], **arguments: Any) -> list[Any]:
    scorer = ExpressionScorer(value, **arguments)
    found = scorer.score(pa.record_batch(columns))
    assert {name: array.type for name, array in found.items()} == scorer.outputs
    return found["value"].to_pylist()


def by_column(rows: list[tuple[Any, Any]]) -> dict[str, pa.Array]:
    return {name: pa.array([row[at] for row in rows], pa.float32()) for at, name in enumerate(["a", "b"])}


@given(pairs)
def test_color_is_the_difference_of_two_losses(rows: list[tuple[Any, Any]]) -> None:
    expected = [None if None in row else row[0] - row[1] for row in rows]
    assert scored("a - b", by_column(rows)) == expected


@given(pairs)
def test_attention_influence_is_the_relative_difference_and_null_over_zero(
    rows: list[tuple[Any, Any]],
) -> None:
    expected = [None if None in row or not row[1] else (row[0] - row[1]) / row[1] for row in rows]
    assert scored("(a - b) / b", by_column(rows)) == expected


def test_the_columns_of_the_expression_are_what_the_scorer_reads() -> None:
    scorer = ExpressionScorer("max(prior, 0) - log(conditional) if lang == 'en' else 0")
    assert scorer.inputs == ("conditional", "lang", "prior")
    assert scorer.outputs == {"value": pa.float64()}


def test_an_int_is_rounded_as_python_rounds() -> None:
    score = [-1.0, 0.5, 1.5, 2.4999, 2.5, 4.7, 9.0, None]
    expected = [None if one is None else round(min(max(one, 0), 5)) for one in score]
    assert scored("min(max(edu, 0), 5)", {"edu": pa.array(score)}, type="int") == expected


def test_levels_of_several_heads_add_up_to_an_int() -> None:
    columns = {"x": pa.array([0, 3, 2], pa.int8()), "y": pa.array([1, 3, None], pa.int8())}
    assert scored("x + y", columns, type="int") == [1, 6, None]
    assert scored("(1 if x > 1 else 0) + (1 if y > 1 else 0)", columns, type="int") == [0, 2, None]


def test_a_comparison_is_a_bool_and_a_choice_of_words_a_text() -> None:
    columns = {"t": pa.array([1, 5, 9, None])}
    assert scored("t > 4", columns, type="bool") == [False, True, True, None]
    level = "'none' if t < 3 else ('mild' if t < 7 else 'toxic')"
    assert scored(level, columns, type="text") == ["none", "mild", "toxic", None]


def test_what_is_no_finite_number_is_null() -> None:
    columns = {"a": pa.array([1e308, 1.0, math.inf, math.nan, 1e19]), "b": pa.array([-1e308, 0.0, 1, 1, 1])}
    assert scored("a - b", columns) == [None, 1.0, None, None, 1e19]
    assert scored("a - b", columns, type="int") == [None, 1, None, None, None]
    assert scored("log(b)", columns) == [None, None, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"value": "a > 1"}, "is a condition; a number is wanted"),
        ({"value": "a + 1", "type": "bool"}, "is a number"),
        ({"value": "a +"}, "not an expression"),
        ({"value": "1 + 2"}, "reads no column"),
        ({"value": "a", "type": "double"}, "'double' is not one of float, int, bool, text"),
        ({"value": "__import__('os')"}, "is not a function"),
    ],
)
def test_what_cannot_be_a_score_is_refused_before_a_record_is_read(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(registry.PluginError, match=message):
        registry.build(registry.SCORER, "expr", arguments)


def test_a_column_of_another_type_than_the_job_says_is_an_error() -> None:
    with pytest.raises(ValueError, match="gives string, and type is float"):
        scored("a", {"a": pa.array(["x"])})
    with pytest.raises(ValueError, match="does not fit the columns"):
        scored("a - 1", {"a": pa.array(["x"])})


def test_the_scorer_keeps_its_contract() -> None:
    examples = pa.record_batch({"a": pa.array([1.5, None, 0.0, -2.0]), "b": pa.array([1.0, 2.0, 0.0, None])})
    check_scorer(partial(ExpressionScorer, value="(a - b) / b"), examples)
