"""Probabilities of classes from votes: as a label model weighs them up, or by their majority."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, get_args

import numpy as np
import pyarrow as pa

from ...schemas.contracts import AssetError, Assets, Scorer
from .label_model import Abstentions, Floats, LabelModel, majority, read
from .labels import ABSTAIN, Votes, checked_classes, checked_names, votes_of

PROBABILITIES: Final = "probabilities"


class _ClassScorer(Scorer):
    """What scorers of the probabilities of classes have in common: their columns."""

    def __init__(self, votes: Sequence[str], label: str | Sequence[str] | None) -> None:
        self.inputs = checked_names(votes, "votes", 1)
        several = [] if label is None or isinstance(label, str) else list(label)
        if label is not None and not isinstance(label, str) and not several:
            raise ValueError("label is an empty list; name a class, or leave it out")
        self._labels = [label] if isinstance(label, str) else list(checked_names(several, "label", 0))
        self._columns = self._labels if several else [PROBABILITIES if label is None else "probability"]

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        """A list, or a column for each class that was asked for."""
        kind = pa.float32() if self._labels else pa.list_(pa.float32())
        return dict.fromkeys(self._columns, kind)

    def _returned(self, classes: tuple[str, ...], votes: Votes, found: Floats) -> dict[str, pa.Array]:
        silent = (votes == ABSTAIN).all(axis=1)
        shares = found.astype(np.float32)
        if not self._labels:
            offsets = np.arange(0, shares.size + 1, len(classes), dtype=np.int32)
            lists = pa.ListArray.from_arrays(
                pa.array(offsets), pa.array(shares.ravel()), mask=pa.array(silent)
            )
            return {PROBABILITIES: lists.cast(pa.list_(pa.float32()))}
        numbers = [classes.index(label) for label in self._labels]
        return {
            column: pa.array(shares[:, number], mask=silent)
            for column, number in zip(self._columns, numbers, strict=True)
        }


class LabelModelScorer(_ClassScorer):
    """Probability of classes given votes, under a label model that `thresher train label-model` has made.

    `model`: its file. `votes`: the columns of votes, by the names that the model was trained with, in any
    order. Returns for a `label` its `probability`, float32; for a list of labels a column of each, by its
    name; left out, `probabilities`, a list of float32 in the order of the model's classes. Null where all
    abstain.
    `abstentions`: as evidence they count as what they tell under the model; silent leaves them out, as
    Snorkel's label model does.

    Raises AssetError for a file that holds no model, or one of other functions or classes.
    """

    version: ClassVar[int] = 1
    obtain = "`thresher train label-model` makes one"

    def __init__(
        self,
        model: str,
        votes: Sequence[str],
        label: str | Sequence[str] | None = None,
        abstentions: Abstentions = "evidence",
    ) -> None:
        super().__init__(votes, label)
        if abstentions not in get_args(Abstentions):
            raise ValueError(f"abstentions is {abstentions!r}; write {' or '.join(get_args(Abstentions))}")
        self.assets = (model,)
        self._abstentions: Abstentions = abstentions
        self._model: LabelModel | None = None

    def open(self, assets: Assets) -> None:
        """Reads the model."""
        path = assets.locate(self.assets[0])
        model = read(path)
        if set(model.functions) != set(self.inputs):
            raise AssetError(
                f"{path}: learned from the votes {', '.join(model.functions)}, not from "
                f"{', '.join(self.inputs)}; write the former, or train it anew"
            )
        for label in self._labels:
            if label not in model.classes:
                raise AssetError(f"{path}: has no class {label!r}; it has {', '.join(model.classes)}")
        self._model = model

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Weighs up the votes on each record."""
        assert self._model is not None, "open comes before score"
        votes = votes_of(batch, self._model.functions, len(self._model.classes))
        return self._returned(self._model.classes, votes, self._model.probabilities(votes, self._abstentions))


class MajorityVoteScorer(_ClassScorer):
    """Share of each class among those that the most functions vote for: what a label model should beat.

    `votes`: the columns of votes. `classes`: their names. `label` and what is returned are as for
    `label_model`: 1 for the class with the most votes, one half for each of two that tie.
    """

    version: ClassVar[int] = 1

    def __init__(
        self, votes: Sequence[str], classes: Sequence[str], label: str | Sequence[str] | None = None
    ) -> None:
        super().__init__(votes, label)
        self._classes = checked_classes(classes)
        for name in self._labels:
            if name not in self._classes:
                raise ValueError(f"label {name!r} is none of {', '.join(self._classes)}")

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Counts the votes on each record."""
        votes = votes_of(batch, self.inputs, len(self._classes))
        return self._returned(self._classes, votes, majority(votes, len(self._classes)))
