"""What stands under `decontaminate`: presets, what goes together, and the resolved form."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from thresher.schemas.decontamination import METHODS, Decontaminate
from thresher.schemas.steps import DecontaminateStep


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("more", [{}, {"short": "whole"}, {"action": "remove"}, {"action": "report"}])
def test_a_resolved_step_loads_as_itself(method: str, more: dict[str, Any]) -> None:
    step = DecontaminateStep.model_validate(
        {"decontaminate": {"against": "e.jsonl", "method": method, **more}, "name": "clean"}
    )
    resolved = step.model_dump(mode="json", exclude_none=True)
    assert DecontaminateStep.model_validate(resolved) == step
    assert step.default_name == f"decontaminate:{method}"


def test_methods_have_the_figures_of_their_sources() -> None:
    gpt3, datatrove = (
        Decontaminate.model_validate({"against": "e.jsonl", "method": method})
        for method in ("gpt3", "datatrove")
    )
    assert (gpt3.ngram, gpt3.window, gpt3.min_piece, gpt3.max_pieces, gpt3.max_records) == (
        13,
        200,
        200,
        10,
        10,
    )
    assert (gpt3.action, gpt3.words, gpt3.ignore) == ("remove", "whitespace", [])
    assert (datatrove.ngram, datatrove.query_ngrams, datatrove.overlap_ngrams) == (12, False, True)
    assert (datatrove.action, datatrove.ignore) == ("drop", ["diacritics", "numbers"])


def test_what_is_given_wins_over_the_method() -> None:
    options = Decontaminate.model_validate(
        {"against": "e", "method": "gpt3", "action": "drop", "ngram": 8, "max_records": 0}
    )
    assert (options.action, options.ngram, options.max_records, options.window) == ("drop", 8, 0, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"window": 100}, "window goes with action: remove"),
        ({"method": "gpt3", "action": "report", "max_pieces": 3}, "max_pieces goes with action: remove"),
        ({"shortest": 4}, "shortest goes with short: whole"),
        ({"short": "whole", "ngram": 8}, "items of 8 words have an n-gram of 8 words"),
        ({"ignore": ["numbers", "numbers"]}, "the same is named twice"),
        ({"ignore": 3}, "valid list"),
        ({"against": []}, "at least 1 item"),
        ({"method": "bloom"}, "'ngram', 'gpt3' or 'datatrove'"),
        ({"ngram": 0}, "greater than or equal to 1"),
    ],
)
def test_contradictions_are_told(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Decontaminate.model_validate({"against": "e.jsonl", **given})


@pytest.mark.parametrize("action", ["drop", "remove"])
def test_only_a_report_has_columns_to_name(action: str) -> None:
    with pytest.raises(ValidationError, match="action: report"):
        DecontaminateStep.model_validate({"decontaminate": {"against": "e", "action": action}, "as": "quiz"})
    named = {"decontaminate": {"against": "e", "action": "report"}, "as": "quiz"}
    assert DecontaminateStep.model_validate(named).prefix == "quiz"
