"""Votes of rules, beside what plain Python makes of the same records."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.scorers import registry
from thresher.scorers.testing import check_scorer
from thresher.scorers.votes.functions import VotesScorer

CLASSES = ["ham", "spam"]
FUNCTIONS = [
    {"name": "link", "rule": "contains(text, 'http')", "label": "spam"},
    {"name": "long", "rule": "length > 20", "label": "ham", "otherwise": "spam"},
    {"name": "sure", "vote": "'spam' if p > 0.9 else ('ham' if p < 0.1 else 'abstain')"},
]


def votes(functions: list[dict[str, Any]], columns: dict[str, Any]) -> dict[str, list[int | None]]:
    scorer = VotesScorer(CLASSES, functions)
    found = scorer.score(pa.record_batch(columns))
    assert {name: column.type for name, column in found.items()} == scorer.outputs
    return {name: column.to_pylist() for name, column in found.items()}


@given(
    st.lists(
        st.tuples(
            st.none() | st.sampled_from(["see http://x", "hello", ""]),
            st.none() | st.integers(0, 40),
            st.none() | st.sampled_from([0.0, 0.05, 0.1, 0.5, 0.9, 0.95]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_a_function_votes_where_its_condition_says_and_abstains_where_it_is_null(
    rows: list[tuple[Any, Any, Any]],
) -> None:
    texts, lengths, numbers = zip(*rows, strict=True)
    found = votes(
        FUNCTIONS,
        {
            "text": pa.array(texts, pa.string()),
            "length": pa.array(lengths, pa.int64()),
            "p": pa.array(numbers, pa.float64()),
        },
    )
    assert found["link"] == [1 if text and "http" in text else None for text in texts]
    assert found["long"] == [None if one is None else int(one <= 20) for one in lengths]
    assert found["sure"] == [None if one is None or 0.1 <= one <= 0.9 else int(one > 0.9) for one in numbers]


def test_the_columns_of_all_expressions_are_read() -> None:
    scorer = VotesScorer(CLASSES, FUNCTIONS)
    assert scorer.inputs == ("length", "p", "text")
    assert list(scorer.outputs) == ["link", "long", "sure"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ({"name": "f", "rule": "x >"}, "function f: not an expression"),
        ({"name": "f", "rule": "x > 1"}, "always abstains"),
        ({"name": "f", "rule": "x > 1", "label": "egg"}, "'egg' is none of ham, spam, abstain"),
        ({"name": "f", "rule": "1 > 0", "label": "ham"}, "reads no column"),
        ({"name": "f", "label": "ham"}, "write its rule, or a vote"),
        ({"name": "f", "vote": "lower(x)", "label": "ham"}, "label does not go with name, vote"),
        ({"name": "f", "vote": "x > 1"}, "a text is wanted"),
        ({"name": "no name", "rule": "x > 1", "label": "ham"}, "letters, digits and _"),
    ],
)
def test_a_function_that_cannot_vote_is_told_by_name(function: dict[str, Any], message: str) -> None:
    with pytest.raises(registry.PluginError, match=message):
        registry.build(registry.SCORER, "votes", {"classes": CLASSES, "functions": [function]})


def test_names_that_are_there_twice_and_a_single_class_are_refused() -> None:
    rule = {"name": "f", "rule": "x > 1", "label": "ham"}
    with pytest.raises(ValueError, match="there twice"):
        VotesScorer(CLASSES, [rule, rule])
    with pytest.raises(ValueError, match="at least 2"):
        VotesScorer(["ham"], [rule])
    with pytest.raises(ValueError, match="cannot be called abstain"):
        VotesScorer(["ham", "abstain"], [rule])


def test_a_vote_for_something_else_than_a_class_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="function f: votes for 'egg', none of ham, spam"):
        votes([{"name": "f", "vote": "lower(x)"}], {"x": pa.array(["HAM", None, "egg"])})


def test_the_scorer_keeps_its_contract() -> None:
    examples = pa.record_batch(
        {
            "text": pa.array(["see http://x", None, "", "hello"]),
            "length": pa.array([12, None, 0, 50]),
            "p": pa.array([0.95, 0.5, None, 0.0]),
        }
    )
    check_scorer(partial(VotesScorer, classes=CLASSES, functions=FUNCTIONS), examples)
