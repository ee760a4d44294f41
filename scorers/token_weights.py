"""How much each token of a text is worth to a model that also sees its image."""

from __future__ import annotations

import math
from typing import ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..schemas.contracts import Scorer

_ROUNDING: Final = 1e-3  # by how much the likelihood of a certain token may miss 0 in half precision


class TokenWeightsScorer(Scorer):
    """Weights of tokens from what a language model without the image thinks of them (PRIOR: Chen et al. 2025,
    arXiv:2505.08971).

    `token_nll` names a column of lists: of each token its negative log-likelihood in nats, as `causal_lm`
    gives it. A token of probability p weighs (1 - p)^`alpha`, and the weights of a record are scaled to a sum
    of as many as there are: a token that is hard to guess without the image weighs more than 1. Returns
    `weights`: a list of float32, null where the list is null. A token whose likelihood is null or not a
    number, as the first one's that nothing predicts, has a null weight and does not count; where the others
    are all certain, each weighs 1.

    Raises ValueError for a negative `alpha`, and for likelihoods that are none.
    """

    version: ClassVar[int] = 1

    def __init__(self, token_nll: str, alpha: float = 1.0) -> None:
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha is {alpha}; it is 0 or more")
        self.inputs = (token_nll,)
        self._alpha = alpha

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {"weights": pa.list_(pa.float32())}

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        (name,) = self.inputs
        lists = batch.column(name)
        kind = lists.type
        if pa.types.is_null(kind):
            return {"weights": pa.nulls(len(lists), pa.list_(pa.float32()))}
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not (is_list and pa.types.is_floating(kind.value_type)):
            raise ValueError(f"column {name} is {kind}; lists of numbers are wanted, such as token_nll")
        values = lists.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
        there = ~np.isnan(values)
        if (values < -_ROUNDING).any():
            raise ValueError(
                f"column {name}: {np.nanmin(values)} is no negative log-likelihood, which is above 0"
            )
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        ends = np.cumsum(lengths, dtype=np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends])
        hardness = np.where(there, -np.expm1(-np.maximum(values, 0.0)), 0.0)
        weights = np.where(there, hardness**self._alpha, 0.0)
        rows = np.repeat(np.arange(len(lists)), lengths)
        tokens = np.bincount(rows, there, len(lists))
        total = np.bincount(rows, weights, len(lists))
        is_certain = total == 0
        scale = np.divide(tokens, total, out=np.zeros(len(lists)), where=~is_certain)
        scaled = np.where(is_certain[rows], 1.0, weights * scale[rows]).astype(np.float32)
        made = pa.ListArray.from_arrays(
            pa.array(starts.astype(np.int32)),
            pa.array(scaled, mask=~there),
            mask=lists.is_null() if lists.null_count else None,
        )
        return {"weights": made.cast(pa.list_(pa.float32()))}
