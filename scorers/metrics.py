"""How well a classifier tells one label from the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Metrics:
    """Figures in [0, 1]; None where they are not defined, as precision is where nothing was chosen."""

    documents: int  # that have the label
    precision: float | None
    recall: float | None
    f1: float | None
    auc: float | None  # the chance that a document with the label scores above one without it


def measure(
    scores: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_], chosen: npt.NDArray[np.bool_]
) -> Metrics:
    """The figures for n documents: their scores, which have the label, for which it was chosen."""
    right = int((truth & chosen).sum())
    positives, picked = int(truth.sum()), int(chosen.sum())
    precision = right / picked if picked else None
    recall = right / positives if positives else None
    f1 = 2 * right / (picked + positives) if picked + positives else None
    return Metrics(positives, precision, recall, f1, auc(scores, truth))


def auc(scores: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve as the Mann–Whitney statistic, equal scores counting one half (Fawcett 2006).

    None if all documents have the label, or none.
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[place]
    wins = ranks[truth].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))
