"""Records as often as they may be chosen: a row for each copy, ranked so that weights are kept to.

Copy j of a record of weight w, whose draw is u in [0, 1), ranks by -(j + 1 - u) / w. The copies before any
place in that order are then floor(c), or one more with the probability c - floor(c), of every record whose
expected number of copies is c, and c is in proportion to w up to the largest number of copies: systematic
sampling, with less variance than so many independent draws (Ohlsson 1998, sequential Poisson sampling, is the
case of one copy). What is cut off is found as for any other ranking.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .order import Bools, Words

# Weights of which the ranks of all copies of a record are finite and differ.
LEAST_WEIGHT: Final = 1e-300
LARGEST_WEIGHT: Final = 1e300


def copies_of(batch: pa.RecordBatch, draw: str, weight: str | None, most: int) -> pa.RecordBatch:
    """`most` rows for each row of `batch`, one after the other, with the column `draw` replaced by ranks.

    `draw`: uint64, uniform. `weight`: a column of numbers; None: all weigh the same. A rank is null where the
    weight is null or NaN, and -inf where it is below LEAST_WEIGHT, which no copy is made of.
    """
    rows = pa.array(np.repeat(np.arange(len(batch)), most))
    ranks = _ranks(batch, draw, weight, most)
    place = batch.schema.get_field_index(draw)
    return batch.take(rows).set_column(place, draw, ranks)


def _ranks(batch: pa.RecordBatch, draw: str, weight: str | None, most: int) -> pa.Array:
    draws: Words = batch.column(draw).to_numpy(zero_copy_only=False)
    # 53 bits, so that the difference from 1 is exact.
    ranks = (draws >> np.uint64(11)).astype(np.float64)[:, None] * 2.0**-53 - 1 - np.arange(most)
    if weight is None:
        return pa.array(ranks.ravel())
    weights = pc.fill_null(batch.column(weight).cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        ranks /= np.clip(weights, LEAST_WEIGHT, LARGEST_WEIGHT)[:, None]
    ranks[weights < LEAST_WEIGHT] = -np.inf
    return pa.array(ranks.ravel(), mask=np.repeat(np.isnan(weights), most))


def without_weight(ranks: pa.Array) -> Bools:
    """bool (n,): the rows of which there is no copy, as their weight is 0 or less."""
    found = pc.fill_null(pc.equal(ranks, -np.inf), False)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.bool_)
