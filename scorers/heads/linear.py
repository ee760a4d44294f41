"""Scores of a small model that reads an embedding: a linear layer, or a few of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...filters.embeddings.matrix import Matrix, matrix_of
from ...schemas.contracts import AssetError, Assets, Scorer
from ..embedded import directed, spread
from .file import Head, read_head

_OUTPUTS: Final = {"score": pa.float32(), "label": pa.string(), "probability": pa.float32()}


class LinearHeadScorer(Scorer):
    """The value of a regression, or the probability of a label, from an embedding.

    A linear layer on embeddings of length one is how LAION predicts what people find beautiful
    (github.com/christophschuhmann/improved-aesthetic-predictor: several layers, without an activation between
    them in the weights that are used most). `embedding` names the column; `head` is a file that
    `thresher train head` writes.

    Returns as `outputs` say: `score` (float32), a regression's value or the probability of `label`, which may
    be left out where there are two and is then the second; `label` (string) and `probability` (float32) of
    the likeliest label, the first of equally likely ones. Null where there is no embedding, or one of zeros
    where they are made of length one. Raises AssetError where the file holds no head or not that label.
    """

    version: ClassVar[int] = 1
    obtain = "`thresher train head` makes one"
    kernels: ClassVar[tuple[str, ...]] = ("thresher.filters.embeddings.products",)

    def __init__(
        self, embedding: str, head: str, label: str | None = None, outputs: Sequence[str] = ("score",)
    ) -> None:
        chosen = [outputs] if isinstance(outputs, str) else list(outputs)
        unknown = sorted(set(chosen) - set(_OUTPUTS))
        if unknown or not chosen:
            raise ValueError(f"outputs is {chosen}; write some of {', '.join(_OUTPUTS)}")
        self.inputs = (embedding,)
        self.assets = (head,)
        self._label, self._names = label, tuple(dict.fromkeys(chosen))
        self._head: Head | None = None
        self._number = 0

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {name: _OUTPUTS[name] for name in self._names}

    def open(self, assets: Assets) -> None:
        path = assets.locate(self.assets[0])
        head = read_head(path)
        known = ", ".join(head.labels)
        if head.kind == "regression" and (self._label is not None or self._names != ("score",)):
            raise AssetError(f"{path}: is a regression and has no labels; leave out label and outputs")
        if self._label is not None and self._label not in head.labels:
            raise AssetError(f"{path}: has no label {self._label!r}; it has {known}")
        if head.kind == "classification" and "score" in self._names:
            if self._label is None and len(head.labels) != 2:
                raise AssetError(f"{path}: of which label? write label: with one of {known}")
            self._number = 1 if self._label is None else head.labels.index(self._label)
        self._head = head

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        assert self._head is not None, "open comes before score"
        head, column = self._head, self.inputs[0]
        if head.normalised:
            matrix, rows = directed(batch, column, head.dimensions, self.assets[0])
        else:
            try:
                matrix, valid = matrix_of(batch.column(column), head.dimensions)
            except ValueError as error:
                raise ValueError(f"column {column}: {error} in {self.assets[0]}") from error
            rows = np.flatnonzero(valid)
        has = np.zeros(len(batch), np.bool_)
        has[rows] = True
        values = applied(head, matrix)
        if head.kind == "regression":
            return {"score": spread(pa.array(values[:, 0].astype(np.float32)), has)}
        best = values.argmax(axis=1)
        likeliest = np.take_along_axis(values, best[:, None], 1)[:, 0].astype(np.float32)
        found = {
            "score": pa.array(values[:, self._number].astype(np.float32)),
            "label": pa.array(head.labels, pa.string()).take(pa.array(best)),
            "probability": pa.array(likeliest),
        }
        return {name: spread(found[name], has) for name in self._names}


def applied(head: Head, matrix: Matrix) -> npt.NDArray[np.float64]:
    """Of each row, made ready for the head, a regression's value or each label's probability."""
    from ...filters.embeddings.products import products, softmax

    values: npt.NDArray[np.float64] = matrix.astype(np.float64)
    for number, (weight, bias) in enumerate(head.layers):
        if number and head.activation == "relu":
            values = np.maximum(values, 0)
        elif number and head.activation == "tanh":
            values = np.tanh(values)
        values = products(values, weight) + bias.astype(np.float64)
    return softmax(values) if head.kind == "classification" else values
