"""Figures of heads, counted one by one."""

from __future__ import annotations

import numpy as np
import pytest
from thresher.scorers.encoders.evaluation import figures
from thresher.scorers.encoders.heads import Question

CHANCE = np.random.default_rng(3)


def test_figures_of_a_regression_are_those_of_their_definitions() -> None:
    truth = CHANCE.integers(0, 6, 40).astype(np.float64)
    value = truth + CHANCE.normal(0, 0.8, 40)
    value[:3] = value[3]  # equal ones share their rank
    found = figures(Question("regression"), truth, value[:, None])

    assert found["mean squared error"] == pytest.approx(np.mean((truth - value) ** 2))
    assert found["R²"] == pytest.approx(
        1 - np.sum((truth - value) ** 2) / np.sum((truth - truth.mean()) ** 2)
    )
    ranks = [
        np.array([sum(b < a for b in values) + (sum(b == a for b in values) - 1) / 2 for a in values])
        for values in (truth, value)
    ]
    assert found["Spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    chosen = [round(min(max(float(v), truth.min()), truth.max())) for v in value]
    assert found["accuracy"] == pytest.approx(np.mean(truth == chosen))
    for label in range(6):
        both = sum(t == label and c == label for t, c in zip(truth, chosen, strict=True))
        either = sum(t == label for t in truth) + sum(c == label for c in chosen)
        assert found[f"F1 of {label}"] == pytest.approx(2 * both / either)
    recalls = [
        np.mean([c == label for t, c in zip(truth, chosen, strict=True) if t == label]) for label in range(6)
    ]
    assert found["balanced accuracy"] == pytest.approx(np.mean(recalls))


def test_a_regression_of_numbers_that_are_no_scale_is_not_measured_as_one() -> None:
    for truth in (np.array([0.5, 1.0, 2.0]), np.array([0.0, 10.0, 100.0])):
        found = figures(Question("regression"), truth, truth[:, None])
        assert set(found) == {"mean squared error", "R²", "Spearman"}


def test_figures_of_a_classification_are_those_of_their_definitions() -> None:
    truth = CHANCE.integers(0, 3, 50)
    values = CHANCE.random((50, 3)) + np.eye(3)[truth] * 0.3
    names = ("a", "b", "c")
    found = figures(Question("classification", names), truth.astype(np.float64), values)
    chosen = [int(np.argmax(row)) for row in values]
    assert found["accuracy"] == pytest.approx(np.mean(truth == chosen))
    areas = []
    for label in range(3):
        pairs = [
            (values[i, label] > values[j, label]) + 0.5 * (values[i, label] == values[j, label])
            for i in range(50)
            for j in range(50)
            if truth[i] == label and truth[j] != label
        ]
        areas.append(np.mean(pairs))
    assert found["AUC"] == pytest.approx(np.mean(areas), abs=1e-6)
    scores = [found[f"F1 of {name}"] for name in names]
    assert found["macro F1"] == pytest.approx(np.mean(scores))


def test_a_class_that_is_neither_there_nor_chosen_counts_for_nothing() -> None:
    values = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0]])
    found = figures(Question("classification", ("a", "b", "c")), np.array([0.0, 1.0, 1.0]), values)
    assert found["balanced accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert "F1 of c" not in found
    assert "AUC" not in found


def test_nothing_held_out_has_no_figures() -> None:
    assert figures(Question("regression"), np.zeros(0), np.zeros((0, 1))) == {}
