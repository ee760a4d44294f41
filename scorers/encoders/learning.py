"""Learns heads by small steps, on vectors that stay as they are or with the encoder that makes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from ...filters.embeddings.matrix import Matrix
from ...filters.embeddings.matrix import normalised as made_unit
from ..heads.file import Activation, Head
from ..heads.training import HeadTrainer
from .descent import Numbers, Outcome, Progress, Settings, descend, shuffled
from .heads import Doubles, Question
from .training_data import Division

if TYPE_CHECKING:
    import torch

ClassWeights = Literal["none", "balanced", "errors"]
Sampling = Literal["plain", "balanced"]
CLASS_WEIGHTS: Final[tuple[str, ...]] = get_args(ClassWeights)
SAMPLINGS: Final[tuple[str, ...]] = get_args(Sampling)
_CHECKED_AT_A_TIME: Final = 64


@dataclass(frozen=True)
class Shape:
    """Of a head's network: `hidden` units before its outputs, behind an activation; none where it is None."""

    hidden: int | None = None
    activation: Activation = "none"


@dataclass(frozen=True)
class Task:
    """What is learned from which rows. `values`: for each question and row a number, NaN where there is none.

    `class_weights`: balanced weighs a class by its rarity; errors by how often it was mistaken in the epoch
    before, log(1 + false positives + false negatives), as Celadon's training does. `sampling`: plain takes
    each row once in an epoch; balanced draws as many with replacement, in proportion to the mean rarity of
    their classes, also Celadon's.
    """

    questions: Mapping[str, Question]
    values: Mapping[str, Doubles]
    learned: Numbers
    checked: Numbers
    class_weights: ClassWeights = "none"
    sampling: Sampling = "plain"


def computed_heads(matrix: Matrix, division: Division, normal: bool, seed: int) -> dict[str, Head]:
    """Ridge or logistic regression for each question, on all texts that are not held out."""
    rows = made_unit(matrix) if normal else matrix
    found = {}
    for name, question in division.questions.items():
        values = division.values[name]
        there = ~division.held & ~np.isnan(values)
        kind: Any = question.kind
        layers, _ = HeadTrainer(kind=kind, normalised=normal).learned(
            rows[there], values[there], question.classes, seed
        )
        found[name] = Head(kind, layers, question.classes, normal, "none")
    return found


def learn_heads(
    task: Task,
    represent: Callable[[Numbers], torch.Tensor],
    encoder: torch.nn.Module | None,
    lengths: npt.NDArray[np.int64] | None,
    dimensions: int,
    normalised: bool,
    shape: Shape,
    settings: Settings,
    device: torch.device,
    seed: int,
    report: Callable[[Progress], None],
) -> tuple[dict[str, Head], Outcome]:
    """The heads, and with `encoder` that too is left as it was best.

    `represent` gives the vectors of rows; `lengths` are those of their texts where it matters.
    """
    import torch

    heads = torch.nn.ModuleDict(
        {name: _network(question, dimensions, shape) for name, question in task.questions.items()}
    ).to(device)
    scales = {name: _scale(task, name) for name in task.questions}
    targets = {}
    for name, question in task.questions.items():
        middle, spread = scales[name]
        scaled = (task.values[name] - middle) / spread
        targets[name] = torch.from_numpy(scaled.astype(np.float32)).to(device)
        if question.kind == "classification":
            assert (middle, spread) == (0.0, 1.0)
    weights = {
        name: torch.ones(len(question.classes), device=device)
        for name, question in task.questions.items()
        if question.kind == "classification"
    }
    if task.class_weights == "balanced":
        for name in weights:
            rarity = _rarity(task, name)
            weights[name] = torch.from_numpy((rarity / rarity.mean()).astype(np.float32)).to(device)

    def vectors(rows: Numbers) -> torch.Tensor:
        found = represent(rows)
        return torch.nn.functional.normalize(found, dim=1) if normalised else found

    def losses(rows: Numbers, with_weights: bool, given: torch.Tensor) -> dict[str, torch.Tensor]:
        """Of each head the sum of the losses, and the sum of the weights."""
        at = torch.from_numpy(rows).to(device)
        found = {}
        for name, question in task.questions.items():
            target = targets[name][at]
            there = ~torch.isnan(target)
            said, target = heads[name](given)[there].float(), target[there]
            if question.kind == "regression":
                each, weight = (said[:, 0] - target) ** 2, torch.ones_like(target)
            else:
                classes = target.long()
                each = torch.nn.functional.cross_entropy(said, classes, reduction="none")
                weight = weights[name][classes] if with_weights else torch.ones_like(each)
            found[name] = torch.stack([(each * weight).sum(), weight.sum()])
        return found

    def loss(rows: Numbers) -> torch.Tensor:
        parts = losses(rows, True, vectors(rows))
        return torch.stack([total / count.clamp_min(1e-9) for total, count in parts.values()]).sum()

    def judged() -> float:
        # A few rows have nothing to check with: then the rows that are learned from say when to stop.
        rows = task.checked if len(task.checked) else task.learned
        if lengths is not None:
            rows = rows[np.argsort(lengths[rows], kind="stable")]
        sums = {name: torch.zeros(2, dtype=torch.float64) for name in task.questions}
        chosen: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in weights}
        for start in range(0, len(rows), _CHECKED_AT_A_TIME):
            some = rows[start : start + _CHECKED_AT_A_TIME]
            given = vectors(some)
            for name, part in losses(some, False, given).items():
                sums[name] += part.double().cpu()
            if task.class_weights == "errors":
                for name in weights:
                    chosen[name].append(heads[name](given).argmax(dim=1).cpu().numpy())
        if task.class_weights == "errors":
            for name in weights:
                weights[name] = _by_errors(
                    task.values[name][rows], np.concatenate(chosen[name]), weights[name]
                )
        return math.fsum(float(total / max(count, 1.0)) for total, count in sums.values())

    def batches(chance: np.random.Generator) -> list[Numbers]:
        rows = task.learned
        if task.sampling == "balanced":
            share = _shares(task)
            rows = np.sort(chance.choice(rows, len(rows), replace=True, p=share))
        return shuffled(rows, lengths, settings.batch, chance)

    networks = [heads] if encoder is None else [heads, encoder]
    steps = math.ceil(len(task.learned) / settings.batch)
    outcome = descend(networks, batches, steps, loss, judged, settings, seed, "learning", report)
    found = {
        name: _head(heads[name], question, scales[name], normalised, shape)
        for name, question in task.questions.items()
    }
    return found, outcome


def _network(question: Question, dimensions: int, shape: Shape) -> torch.nn.Module:
    import torch

    outputs = len(question.classes) or 1
    if shape.hidden is None:
        return torch.nn.Sequential(torch.nn.Linear(dimensions, outputs))
    between = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "none": torch.nn.Identity}[shape.activation]
    return torch.nn.Sequential(
        torch.nn.Linear(dimensions, shape.hidden), between(), torch.nn.Linear(shape.hidden, outputs)
    )


def _scale(task: Task, name: str) -> tuple[float, float]:
    """What a regression's numbers are moved and divided by, so that all of them are learned as fast."""
    if task.questions[name].kind == "classification":
        return 0.0, 1.0
    seen = task.values[name][task.learned]
    seen = seen[~np.isnan(seen)]
    return float(seen.mean()), float(seen.std()) or 1.0


def _head(
    network: Any, question: Question, scale: tuple[float, float], normalised: bool, shape: Shape
) -> Head:
    middle, spread = scale
    weights = [weight.detach().float().cpu().numpy().astype(np.float64) for weight in network.parameters()]
    weights[-2], weights[-1] = weights[-2] * spread, weights[-1] * spread + middle
    layers = tuple(
        (weights[at].astype(np.float32), weights[at + 1].astype(np.float32))
        for at in range(0, len(weights), 2)
    )
    kind: Any = question.kind
    return Head(kind, layers, question.classes, normalised, shape.activation)


def _rarity(task: Task, name: str) -> Doubles:
    """For each class one through its number among the rows that are learned from."""
    seen = task.values[name][task.learned]
    counts = np.bincount(seen[~np.isnan(seen)].astype(np.int64), minlength=len(task.questions[name].classes))
    return np.asarray(1.0 / np.maximum(counts, 1), np.float64)


def _shares(task: Task) -> Doubles:
    """How likely each row that is learned from is drawn."""
    total, count = np.zeros(len(task.learned)), np.zeros(len(task.learned))
    for name, question in task.questions.items():
        if question.kind == "classification":
            seen = task.values[name][task.learned]
            there = ~np.isnan(seen)
            total[there] += _rarity(task, name)[seen[there].astype(np.int64)]
            count += there
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    mean[count == 0] = mean[count > 0].mean() if (count > 0).any() else 1.0
    return np.asarray(mean / mean.sum(), np.float64)


def _by_errors(truth: Doubles, chosen: npt.NDArray[np.int64], before: torch.Tensor) -> torch.Tensor:
    """Weights of classes, of mean 1, by how often each was missed or chosen wrongly."""
    import torch

    there = ~np.isnan(truth)
    true, said = truth[there].astype(np.int64), chosen[there]
    wrong = true != said
    errors = np.bincount(true[wrong], minlength=len(before)) + np.bincount(said[wrong], minlength=len(before))
    if not errors.any():
        return before
    weights = np.log1p(errors)
    return torch.from_numpy((weights / weights.mean()).astype(np.float32)).to(before.device)
