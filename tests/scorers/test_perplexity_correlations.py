"""Estimates by sums over pairs as the paper writes them, projections by scipy's solvers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from thresher.scorers.perplexity_correlations import estimate, project

MODELS, DOMAINS = 9, 6


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    return chance.uniform(0.5, 2, (MODELS, DOMAINS)), chance.uniform(0.1, 0.9, MODELS)


def by_pairs(losses: np.ndarray, errors: np.ndarray, of: Any) -> list[float]:
    """The mean over ordered pairs of different models of sign(y_g - y_k) times what `of` says of losses."""
    found = []
    for column in losses.T:
        terms = [
            np.sign(errors[g] - errors[k]) * of(column, g, k)
            for g in range(len(errors))
            for k in range(len(errors))
            if g != k
        ]
        found.append(sum(terms) / len(terms))
    return found


def share_below(column: np.ndarray, model: int) -> float:
    return float(np.mean([other <= column[model] for other in column]))


@pytest.mark.parametrize("seed", range(3))
def test_estimates_of_pairs_are_their_means(seed: int) -> None:
    losses, errors = drawn(seed)
    losses[2:5, 1] = losses[2, 1]  # equal losses count, too
    errors[3] = errors[7]
    ways = {
        "sign": lambda column, g, k: column[g] - column[k],
        "sign_sign": lambda column, g, k: np.sign(column[g] - column[k]),
        "sign_cdf": lambda column, g, k: share_below(column, g) - share_below(column, k),
    }
    for name, way in ways.items():
        assert estimate(losses, errors, name) == pytest.approx(by_pairs(losses, errors, way))


@pytest.mark.parametrize("seed", range(3))
def test_spearman_is_what_scipy_computes_and_one_minus_squared_differences_of_ranks(seed: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    losses, errors = drawn(seed)
    ranks = losses.argsort(axis=0).argsort(axis=0) - errors.argsort().argsort()[:, None]
    formula = 1 - 6 * (ranks**2).sum(axis=0) / (MODELS * (MODELS**2 - 1))
    assert estimate(losses, errors) == pytest.approx(formula)
    losses[:4, 2] = 1.0
    expected = [stats.spearmanr(column, errors).statistic for column in losses.T]
    assert estimate(losses, errors) == pytest.approx(expected)


def test_product_is_the_mean_of_error_times_loss() -> None:
    losses, errors = drawn(5)
    expected = [
        float(np.mean([loss * error for loss, error in zip(c, errors, strict=True)])) for c in losses.T
    ]
    assert estimate(losses, errors, "product") == pytest.approx(expected)


@pytest.mark.parametrize("estimator", ["spearman", "sign_cdf", "sign_sign", "sign"])
def test_a_domain_on_which_good_models_have_low_losses_is_worth_most(estimator: Any) -> None:
    errors = np.array([0.1, 0.2, 0.3, 0.4])
    losses = np.stack([errors + 1, 2 - errors, np.ones(4)], axis=1)
    good, bad, same = estimate(losses, errors, estimator)
    assert good > same == 0 > bad


@pytest.mark.parametrize("estimator", ["spearman", "sign_cdf", "sign_sign", "sign", "product"])
def test_the_order_of_models_makes_no_difference(estimator: Any) -> None:
    losses, errors = drawn(8)
    losses, errors = np.round(losses, 1), np.round(errors, 1)
    order = np.random.default_rng(0).permutation(MODELS)
    assert estimate(losses[order], errors[order], estimator) == pytest.approx(
        estimate(losses, errors, estimator)
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_linear_projection_is_the_solution_of_the_linear_program(seed: int) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    chance = np.random.default_rng(seed)
    values, limits = chance.normal(size=12), chance.uniform(0.02, 0.4, 12)
    found = project(values, limits)
    solved = optimize.linprog(
        -values, A_eq=np.ones((1, 12)), b_eq=[1], bounds=[(0, limit) for limit in limits]
    )
    assert found == pytest.approx(solved.x, abs=1e-9)
    assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(8))
def test_the_l2_projection_is_the_nearest_point_that_a_solver_finds(seed: int) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    chance = np.random.default_rng(seed)
    values, limits = chance.normal(size=10), chance.uniform(0.05, 0.6, 10)
    found = project(values, limits, "l2")
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    assert (found <= limits).all()
    solved = optimize.minimize(
        lambda weights: ((weights - values) ** 2).sum(),
        limits / limits.sum(),
        jac=lambda weights: 2 * (weights - values),
        bounds=[(0, limit) for limit in limits],
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert found == pytest.approx(solved.x, abs=1e-5)


def test_projections_of_the_authors_example() -> None:
    """Their repository's tests: tests/test_projection.py."""
    values, limits = np.array([-0.3, 4, 1, 0.9, 0]), np.array([0.2, 0.5, 0.9, 0.4, 1])
    assert project(values, limits) == pytest.approx([0, 0.5, 0.5, 0, 0])
    assert project(values, limits, "l2") == pytest.approx([0, 0.5, 0.3, 0.2, 0])


@pytest.mark.parametrize("projection", ["linear", "l2"])
def test_limits_that_add_up_to_one_are_the_weights(projection: Any) -> None:
    limits = np.full(10, 0.1)
    assert project(np.arange(10.0), limits, projection) == pytest.approx(limits)


def test_of_equal_estimates_the_first_domain_is_taken() -> None:
    assert project(np.array([1.0, 2.0, 1.0, 1.0]), np.full(4, 0.4)) == pytest.approx([0.4, 0.4, 0.2, 0])


@pytest.mark.parametrize(
    ("losses", "errors", "told"),
    [
        (np.ones((1, 2)), np.ones(1), "two models"),
        (np.ones((3, 2)), np.ones(2), "do not fit"),
        (np.array([[1.0], [np.nan]]), np.array([0.1, 0.2]), "not finite"),
        (np.ones((2, 2)), np.array([0.5, 0.5]), "same error"),
    ],
)
def test_what_cannot_be_estimated_is_told(losses: np.ndarray, errors: np.ndarray, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        estimate(losses, errors)


@pytest.mark.parametrize(
    ("limits", "told"), [([0.2, 0.2], "less than the whole"), ([1.0, 0.0], "not above 0")]
)
def test_limits_that_leave_no_weights_are_told(limits: list[float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        project(np.zeros(2), np.array(limits))
