"""How good the answers of a head are on texts that it has not learned from."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...filters.embeddings.matrix import normalised
from ..heads.linear import applied
from ..heads.training import spearman
from ..metrics import measure
from .heads import Doubles, Heads, Question
from .model import Encoder
from .training_data import Division

Figures = dict[str, float]

_MOST_STEPS: Final = 20  # between the least and the largest of what is a scale of integers


def measured_heads(encoder: Encoder, heads: Heads, division: Division) -> dict[str, Figures]:
    """Figures of each head on the texts held out, read as a job reads them."""
    held = np.flatnonzero(division.held)
    tokens = encoder.tokens([division.texts[row] for row in held])
    matrix = encoder.encode(tokens, [heads.pooling]).pooled[heads.pooling]
    rows = normalised(matrix) if heads.normalised else matrix
    found = {}
    for name, head in heads.heads.items():
        truth = division.values[name][held]
        there = ~np.isnan(truth)
        found[name] = figures(division.questions[name], truth[there], applied(head, rows[there]))
    return found


def figures(question: Question, truth: Doubles, values: Doubles) -> Figures:
    """Figures of a head's `values` (a regression's value, or each class's probability) against the truth (a
    number, or that of the class); those that are not defined are left out.

    A regression whose truth is of integers near each other is measured as a classification too, its values
    being rounded (halves to the even one) and brought between the least and the largest of them.
    """
    if not len(truth):
        return {}
    if question.kind == "classification":
        return _of_classes(truth.astype(np.int64), values, question.classes)
    value = values[:, 0]
    error, spread = ((truth - value) ** 2).sum(), ((truth - truth.mean()) ** 2).sum()
    found = {"mean squared error": float(error / len(truth))}
    if spread > 0:
        found["R²"] = float(1 - error / spread)
    correlation = spearman(value, truth)
    if correlation is not None:
        found["Spearman"] = correlation
    low, high = int(truth.min()), int(truth.max())
    if (truth == np.round(truth)).all() and 0 < high - low <= _MOST_STEPS:
        chosen = np.round(np.clip(value, low, high)).astype(np.int64) - low
        names = tuple(map(str, range(low, high + 1)))
        found |= _of_choices(truth.astype(np.int64) - low, chosen, names)
    return found


def _of_classes(truth: npt.NDArray[np.int64], values: Doubles, names: tuple[str, ...]) -> Figures:
    found = _of_choices(truth, values.argmax(axis=1), names)
    numbers = range(len(names)) if len(names) > 2 else (1,)
    areas = [measure(_scores(values[:, number]), truth == number, truth == number).auc for number in numbers]
    defined = [area for area in areas if area is not None]
    if len(defined) == len(areas):
        found["AUC"] = float(np.mean(defined))
    return found


def _of_choices(truth: npt.NDArray[np.int64], chosen: npt.NDArray[Any], names: tuple[str, ...]) -> Figures:
    found = {"accuracy": float((truth == chosen).mean())}
    recalls, scores = [], {}
    for number, name in enumerate(names):
        measured = measure(_scores(chosen == number), truth == number, chosen == number)
        if measured.recall is not None:
            recalls.append(measured.recall)
        if measured.f1 is not None:
            scores[f"F1 of {name}"] = measured.f1
    found["balanced accuracy"] = float(np.mean(recalls))
    found["macro F1"] = float(np.mean(list(scores.values())))
    return found | scores


def _scores(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.asarray(values, np.float32)
