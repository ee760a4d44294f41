"""Which domains of text to train on, from how models' losses on them go with benchmark errors.

The arithmetic of perplexity correlations (Thrush et al. 2024, arXiv:2409.05816;
github.com/TristanThrush/perplexity-correlations, `estimation` and `projection`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Estimator = Literal["spearman", "sign_cdf", "sign_sign", "sign", "product"]
Projection = Literal["linear", "l2"]

_SLACK: Final = 1e-9  # by which limits that add up to one may fall short of it


def estimate(losses: Doubles, errors: Doubles, estimator: Estimator = "spearman") -> Doubles:
    """For each domain how much a lower loss on it goes with a lower error: the higher, the more it is worth.

    `losses`: models × domains, in bits per byte. `errors`: one for each model, 0 for a perfect one.

    spearman: the rank correlation of losses and errors, 0 where all losses are equal. sign_cdf, sign_sign and
    sign: the mean over pairs of models of sign(error_g - error_k) · (F_g - F_k), where F is the share of
    models whose loss is as low or lower; the sign of the losses' difference; the difference. product: the
    mean of error times loss. Equal values get the mean of their ranks, whatever the order of the models; the
    authors' code gives them ranks by that order.

    Raises ValueError for fewer than two models, numbers that are not finite, or errors that are all equal.
    """
    if losses.ndim != 2 or errors.shape != losses.shape[:1]:
        raise ValueError(f"losses of shape {losses.shape} do not fit {errors.size} errors")
    if len(errors) < 2:
        raise ValueError("a correlation needs two models at least")
    if not (np.isfinite(losses).all() and np.isfinite(errors).all()):
        raise ValueError("a loss or an error is not finite")
    if (errors == errors[0]).all():
        raise ValueError("all models have the same error, so nothing goes with it")
    return _ESTIMATORS[estimator](losses, errors)


def project(estimates: Doubles, limits: Doubles, projection: Projection = "linear") -> Doubles:
    """Weights of the domains: at least 0 and at most the domain's limit, one together.

    linear: those with the largest sum of weight times estimate; the domains with the highest estimates, of
    equal ones the first, get all that they may. l2: those nearest to the estimates by Euclidean distance,
    which makes sense only where their size means something, as that of `sign` and `product` does.
    Raises ValueError where the limits are not above 0 or fall short of one together.
    """
    if estimates.shape != limits.shape or estimates.ndim != 1:
        raise ValueError(f"{estimates.size} estimates do not fit {limits.size} limits")
    if not (limits > 0).all():
        raise ValueError("a limit is not above 0; leave such domains out")
    if limits.sum() < 1 - _SLACK:
        raise ValueError(f"the limits allow {limits.sum():.4f} together, which is less than the whole")
    return _linear(estimates, limits) if projection == "linear" else _l2(estimates, limits)


def _linear(estimates: Doubles, limits: Doubles) -> Doubles:
    order = np.argsort(-estimates, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(limits[order])[:-1]])
    weights = np.empty_like(limits)
    left = 1 - before
    weights[order] = np.where(left > _SLACK, np.minimum(left, limits[order]), 0.0)
    return weights


def _l2(estimates: Doubles, limits: Doubles) -> Doubles:
    """clip(estimate + shift, 0, limit) with the shift for which they add up to one.

    Their sum rises with the shift, in straight lines between the shifts at which a weight leaves 0 or reaches
    its limit.
    """
    bends = np.concatenate([-estimates, limits - estimates])
    slopes = np.concatenate([np.ones(len(limits)), -np.ones(len(limits))])
    order = np.argsort(bends, kind="stable")
    bends, slopes = bends[order], np.cumsum(slopes[order])
    sums = np.concatenate([[0.0], np.cumsum(slopes[:-1] * np.diff(bends))])
    at = min(int(np.searchsorted(sums, 1.0)), len(bends) - 1)
    shift = bends[at] if slopes[at - 1] <= 0 else bends[at - 1] + (1 - sums[at - 1]) / slopes[at - 1]
    return np.asarray(np.clip(estimates + min(shift, bends[at]), 0, limits))


def _spearman(losses: Doubles, errors: Doubles) -> Doubles:
    ranks, wanted = _ranks(losses), _ranks(errors[:, None])
    ranks, wanted = ranks - ranks.mean(axis=0), wanted - wanted.mean(axis=0)
    scale = np.sqrt((ranks**2).sum(axis=0) * (wanted**2).sum(axis=0))
    products = (ranks * wanted).sum(axis=0)
    return np.asarray(np.divide(products, scale, out=np.zeros(len(scale)), where=scale > 0))


def _sign_cdf(losses: Doubles, errors: Doubles) -> Doubles:
    shares = np.stack([_shares(column) for column in losses.T], axis=1)
    return _sign(shares, errors)


def _sign(values: Doubles, errors: Doubles) -> Doubles:
    # Σ over pairs of sign(y_g - y_k) (x_g - x_k) counts x_g once for each k, with the sign of y_g - y_k.
    counts = np.sign(errors[:, None] - errors[None, :]).sum(axis=1)
    return np.asarray(2 * (counts[:, None] * values).sum(axis=0) / _pairs(errors))


def _sign_sign(losses: Doubles, errors: Doubles) -> Doubles:
    total = np.zeros(losses.shape[1])
    for model in range(len(errors) - 1):
        signs = np.sign(errors[model + 1 :] - errors[model])
        total += (signs[:, None] * np.sign(losses[model + 1 :] - losses[model])).sum(axis=0)
    return 2 * total / _pairs(errors)


def _product(losses: Doubles, errors: Doubles) -> Doubles:
    return np.asarray((losses * errors[:, None]).mean(axis=0))


def _pairs(errors: Doubles) -> int:
    return len(errors) * (len(errors) - 1)


def _shares(values: Doubles) -> Doubles:
    return np.searchsorted(np.sort(values), values, side="right") / len(values)


def _ranks(values: Doubles) -> Doubles:
    """Ranks in each column; equal values get the mean of theirs."""
    found = np.empty(values.shape)
    for number, column in enumerate(values.T):
        ordered = np.sort(column)
        first, last = (np.searchsorted(ordered, column, side=side) for side in ("left", "right"))
        found[:, number] = (first + last) / 2
    return found


_ESTIMATORS: Final[dict[Estimator, Callable[[Doubles, Doubles], Doubles]]] = {
    "spearman": _spearman,
    "sign_cdf": _sign_cdf,
    "sign_sign": _sign_sign,
    "sign": _sign,
    "product": _product,
}
