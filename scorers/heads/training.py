"""Learns a head from embeddings and targets: ridge regression, logistic regression, or one hidden layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...filters.embeddings.matrix import Matrix, normalised
from ...schemas.contracts import AssetError, AssetRef
from ..assets import checksum
from ..metrics import auc
from ..model_card import closing
from .data import data_digest, divided, ordered
from .file import Head, Kind, write_head
from .linear import applied

Doubles = npt.NDArray[np.float64]

# From weak to strong, in shares of the mean variance of a dimension.
_RIDGES: Final = tuple(10.0**power for power in np.arange(-8, 2.5, 0.5))
_PENALTIES: Final = tuple(10.0**power for power in range(-1, -9, -1))
_ROUNDS: Final = 1000  # of L-BFGS, as the linear probe of CLIP (Radford et al. 2021, section A.3)
_HOW: Final = "install it with: pip install 'thresher[clip]'"


@dataclass(frozen=True)
class TrainedHead:
    """A trained head: its file, its card, what it saw, and its figures on rows that it did not see."""

    model: AssetRef
    card: Path
    rows: int  # that it was trained on
    held_out: int
    skipped: int  # rows without an embedding or a target
    kind: Kind
    labels: tuple[str, ...]
    figures: Mapping[str, float]
    data_sha256: str


@dataclass(frozen=True)
class HeadTrainer:
    """Trains a head on embeddings; by default of length one, as LAION's aesthetic predictor reads them.

    Without `hidden` a regression is ridge regression in closed form, its strength `ridge` that of least
    generalised cross-validation (Golub, Heath and Wahba 1979) unless given, as a share of the mean variance
    of a dimension; a classification is multinomial logistic regression by L-BFGS with the `penalty` on the
    weights' half square, unless given that of the lowest loss on a fifth of the rows. `hidden` units behind a
    ReLU are trained with Adam, `lr` and `batch` rows at a time, until a fifth of the rows has seen no lower
    loss for `patience` of at most `epochs` rounds; these four defaults are ours. `held_out`: the share of
    rows, chosen by hash(seed, embedding), that it is measured on and never sees.

    Raises ValueError for parameters out of range.
    """

    kind: Kind = "regression"
    normalised: bool = True
    hidden: int | None = None
    ridge: float | None = None
    penalty: float | None = None
    lr: float = 1e-3
    batch: int = 64
    epochs: int = 200
    patience: int = 20
    held_out: float = 0.1
    licence: str = "unknown"

    def __post_init__(self) -> None:
        for name in ("hidden", "batch", "epochs", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it is at least 1")
        for name in ("ridge", "penalty", "lr"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it is above 0")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; it is a share of rows, less than 1")
        if self.ridge is not None and (self.kind != "regression" or self.hidden):
            raise ValueError("ridge is for regressions without hidden units")
        if self.penalty is not None and (self.kind != "classification" or self.hidden):
            raise ValueError("penalty is for classifications without hidden units")

    def train(
        self,
        matrix: Matrix,
        targets: Sequence[Any] | npt.NDArray[Any],
        out: Path,
        seed: int,
        *,
        sources: Sequence[str] = (),
        skipped: int = 0,
    ) -> TrainedHead:
        """Learns `targets` (numbers, or labels) of the rows, writes the head to `out` and a card beside it.

        The same data, in whatever order, and seed give the same head on one machine. Raises ValueError where
        the data teach nothing.
        """
        labels: tuple[str, ...] = ()
        if self.kind == "classification":
            names = [str(target) for target in targets]
            labels = tuple(sorted(set(names)))
            values = np.array([labels.index(name) for name in names], np.float64)
            if len(labels) < 2:
                raise ValueError(f"every row has the label {names[0]!r}" if names else "there are no rows")
        else:
            values = np.asarray(targets, np.float64)
        rows = normalised(matrix) if self.normalised else matrix
        order = ordered(rows, values)
        rows, values = rows[order], values[order]
        held = divided(rows, self.held_out, seed)
        seen = values[~held]
        if len(np.unique(seen)) < max(2, len(labels)):
            what = f"a row of each of {', '.join(labels)}" if labels else "different targets"
            raise ValueError(f"{len(seen)} rows to learn from do not have {what}; give more data")
        layers, chosen = self.learned(rows[~held], seen, labels, seed)
        digest = data_digest(rows[~held], seen)
        about = {
            "rows": len(seen),
            "dimensions": int(rows.shape[1]),
            "seed": seed,
            "data_sha256": digest,
            "sources": list(sources),
            "licence": self.licence,
            **chosen,
        }
        head = Head(self.kind, layers, labels, self.normalised, "relu", about)
        figures = measured(head, rows[held], values[held])
        write_head(head, out)
        card = out.with_name(f"{out.name}.md")
        model = AssetRef(str(out), checksum(out), self.licence)
        trained = TrainedHead(
            model, card, len(seen), int(held.sum()), skipped, self.kind, labels, figures, digest
        )
        parameters = {**asdict(self), **chosen, "seed": seed}
        if not self.hidden:
            unused = {"hidden", "lr", "batch", "epochs", "patience", "ridge", "penalty"} - set(chosen)
            parameters = {name: value for name, value in parameters.items() if name not in unused}
        card.write_text(_card(trained, parameters, sources, rows.shape[1]), "utf-8")
        return trained

    def learned(
        self, rows: Matrix, values: Doubles, labels: tuple[str, ...], seed: int
    ) -> tuple[tuple[tuple[Any, Any], ...], dict[str, Any]]:
        if self.hidden:
            from .network import hidden_layer

            return hidden_layer(self, rows, values, labels, seed)
        if self.kind == "regression":
            layer, ridge = ridge_regression(rows, values, self.ridge)
            return (layer,), {"ridge": ridge}
        from .network import logistic_regression

        layer, penalty = logistic_regression(
            rows, values, len(labels), self.penalty, _PENALTIES, seed, _ROUNDS
        )
        return (layer,), {"penalty": penalty}


def ridge_regression(
    rows: Matrix, values: Doubles, ridge: float | None = None
) -> tuple[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]], float]:
    """Weight and bias of least squares with a penalty, which is none on the bias; and the penalty, as a share
    of the mean variance of a dimension."""
    count = len(rows)
    mean, middle = rows.mean(axis=0, dtype=np.float64), float(values.mean())
    centred = rows.astype(np.float64) - mean
    squares, axes = np.linalg.eigh(centred.T @ centred)
    squares = np.maximum(squares, 0)
    moved = axes.T @ (centred.T @ (values - middle))
    total = float(((values - middle) ** 2).sum())
    scale = float(squares.mean()) or 1.0

    def score(share: float) -> float:
        shrunk = squares / (squares + share * scale)
        left = (
            total
            - 2 * moved @ (moved / (squares + share * scale))
            + (squares * (moved / (squares + share * scale)) ** 2).sum()
        )
        return float(left / count / (1 - (shrunk.sum() + 1) / count) ** 2)

    if ridge is None:
        # More dimensions than rows leave nothing to cross-validate where hardly any is shrunk.
        fit = [share for share in _RIDGES if (squares / (squares + share * scale)).sum() + 1 < 0.9 * count]
        ridge = float(min(fit or _RIDGES[-1:], key=score))
    weight = axes @ (moved / (squares + ridge * scale))
    bias = middle - mean @ weight
    return (weight[None, :].astype(np.float32), np.array([bias], np.float32)), ridge


def measured(head: Head, rows: Matrix, values: Doubles) -> dict[str, float]:
    """The head's figures on rows made ready for it; those that are not defined for them are left out."""
    if not len(rows):
        return {}
    found = applied(head, rows)
    if head.kind == "regression":
        error = values - found[:, 0]
        spread = ((values - values.mean()) ** 2).sum()
        figures = {"mean squared error": float((error**2).mean())}
        if spread > 0:
            figures["R²"] = float(1 - (error**2).sum() / spread)
        correlation = spearman(found[:, 0], values)
        return figures if correlation is None else {**figures, "Spearman": correlation}
    figures = {"accuracy": float((found.argmax(axis=1) == values).mean())}
    numbers = range(len(head.labels)) if len(head.labels) > 2 else (1,)
    areas = [auc(found[:, number].astype(np.float32), values == number) for number in numbers]
    defined = [area for area in areas if area is not None]
    return {**figures, "AUC": float(np.mean(defined))} if len(defined) == len(areas) else figures


def spearman(a: Doubles, b: Doubles) -> float | None:
    """Spearman's rank correlation; equal values share their mean rank. None where either is constant."""
    ranks = []
    for values in (a, b):
        _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        mean = np.cumsum(counts) - (counts - 1) / 2
        rank = mean[place] - mean[place].mean()
        ranks.append(rank)
    size = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float(ranks[0] @ ranks[1] / size) if size else None


def _card(
    trained: TrainedHead, parameters: Mapping[str, Any], sources: Sequence[str], dimensions: int
) -> str:
    what = f"A classifier of {', '.join(trained.labels)}" if trained.labels else "A regression"
    quality = ["| figure | value |", "|---|---|"]
    quality += [f"| {name} | {value:.4f} |" for name, value in trained.figures.items()]
    lines = [
        f"# {Path(trained.model.path).name}",
        "",
        f"{what}, which reads embeddings of {dimensions} numbers. Use it on embeddings of the model that "
        "made those it was trained on, and of no other.",
        "",
        "## Data",
        "",
        f"Trained on {trained.rows} rows, measured on {trained.held_out} others. From: "
        f"{', '.join(sources) or 'not recorded'}.",
        f"{trained.skipped} rows had no embedding or no target and were left out. SHA-256 of what it was "
        f"trained on: `{trained.data_sha256}`.",
        "",
        *closing(
            parameters,
            quality if trained.figures else ["Nothing was held out, so nothing is known of it."],
            trained.model,
        ),
    ]
    return "\n".join(lines)


def require_torch() -> Any:
    """torch. Raises AssetError where it is missing."""
    try:
        import torch
    except ImportError as error:
        raise AssetError(f"this head is trained with the package torch ({error}); {_HOW}") from error
    return torch
