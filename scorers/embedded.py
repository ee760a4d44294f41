"""Embeddings as scorers read them from a column, and columns of what they found for those that are there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..filters.embeddings.matrix import Matrix, matrix_of, normalised

Mask = npt.NDArray[np.bool_]


def directed(
    batch: pa.RecordBatch, column: str, dimensions: int, model: str
) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """The embeddings of a column that are there and not zero, made of length one, and their rows.

    Raises ValueError, which names the column and the `model`, where they do not have `dimensions` numbers.
    """
    try:
        matrix, has = matrix_of(batch.column(column), dimensions)
    except ValueError as error:
        raise ValueError(f"column {column}: {error} in {model}") from error
    some = matrix.any(axis=1)
    return normalised(matrix[some]), np.flatnonzero(has)[some]


def spread(values: pa.Array, has: Mask) -> pa.Array:
    """The values, in their order, for the rows that have one; null for the others."""
    return values.take(pa.array(np.cumsum(has) - 1, mask=~has))


def lists_of(values: pa.Array, counts: npt.NDArray[np.int64], has: Mask) -> pa.Array:
    """The values in lists, one for each row, of `counts` each; null for rows that have none."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~has))
