"""Figures of classifiers against their definitions, spelled out."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from thresher.scorers.metrics import auc, measure

ROWS = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.booleans()), max_size=30)


@given(ROWS)
def test_auc_is_the_share_of_pairs_that_are_in_the_right_order(rows: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in rows], np.float32)
    truth = np.array([label for _, label in rows], bool)
    pairs = [(good, bad) for good in scores[truth] for bad in scores[~truth]]
    found = auc(scores, truth)
    if not pairs:
        assert found is None
    else:
        assert found == pytest.approx(
            sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
        )


def test_precision_recall_and_f1_count_what_was_chosen_and_what_should_have_been() -> None:
    truth = np.array([True, True, True, False, False])
    chosen = np.array([True, False, False, True, False])
    found = measure(np.zeros(5, np.float32), truth, chosen)
    assert (found.documents, found.precision, found.auc) == (3, 0.5, 0.5)
    assert found.recall == pytest.approx(1 / 3)
    assert found.f1 == pytest.approx(0.4)


def test_figures_that_are_not_defined_are_none() -> None:
    nothing = np.zeros(2, bool)
    found = measure(np.zeros(2, np.float32), nothing, nothing)
    assert (found.precision, found.recall, found.f1, found.auc) == (None, None, None, None)
