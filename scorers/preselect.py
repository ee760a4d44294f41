"""How far the losses of ranked models on a text are in the order of the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..schemas.contracts import Scorer


class RankAgreementScorer(Scorer):
    """Number of pairs of models of which the better one has the lower loss on a record (PreSelect's
    predictive strength: Shum et al. 2025, arXiv:2503.00808).

    `losses`: columns of numbers, that of the model with the best benchmark score first; of M columns at most
    M (M - 1) / 2 pairs agree, which is 15 of 6. Equal losses do not agree. Models with different tokenizers
    compare by bits for each byte, those with the same also by sums and means over tokens.
    Returns `agreement`: int32, null where one of the losses is null or no number.
    """

    version: ClassVar[int] = 1

    def __init__(self, losses: Sequence[str]) -> None:
        if isinstance(losses, str) or len(losses) < 2:
            raise ValueError("losses names two columns or more, that of the best model first")
        twice = [name for name in losses if list(losses).count(name) > 1]
        if twice:
            raise ValueError(f"losses names {twice[0]} twice")
        self.inputs = tuple(losses)

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {"agreement": pa.int32()}

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Counts the pairs."""
        losses = np.stack([_numbers(batch.column(name), name) for name in self.inputs])
        agreement = np.zeros(len(batch), np.int32)
        for better in range(len(losses) - 1):
            agreement += (losses[better] < losses[better + 1 :]).sum(axis=0, dtype=np.int32)
        return {"agreement": pa.array(agreement, mask=np.isnan(losses).any(axis=0))}


def _numbers(column: pa.Array, name: str) -> np.ndarray:
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise ValueError(f"column {name} is {column.type}; a loss is a number")
    doubles = pc.fill_null(column.cast(pa.float64(), safe=False), float("nan"))
    return np.asarray(doubles.to_numpy(zero_copy_only=False))
