"""Embeddings as a column of lists, and as a matrix."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Matrix = npt.NDArray[np.float32]

# A list, for Parquet gives lists of a fixed size back only where none is null (Arrow 25).
EMBEDDING: Final = pa.list_(pa.float16())


def is_embedding(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold embeddings: lists of floating-point numbers."""
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and pa.types.is_floating(kind.value_type))


def matrix_of(column: pa.Array, dimensions: int | None = None) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    """The embeddings that are there, one in a row (float32, C order), and for each row whether it has one.

    Raises ValueError where they are not all of the same length, or not of `dimensions`, or not finite.
    """
    valid = pc.is_valid(column).to_numpy(zero_copy_only=False)
    there = column.drop_null()
    rows = len(there)
    lengths = pc.list_value_length(there).to_numpy(zero_copy_only=False)
    if dimensions is None:
        dimensions = int(lengths[0]) if rows else 0
    if (lengths != dimensions).any():
        wrong = int(lengths[lengths != dimensions][0])
        raise ValueError(f"an embedding has {wrong} numbers where others have {dimensions}")
    values = there.flatten()
    matrix = np.ascontiguousarray(values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False))
    if values.null_count or not np.isfinite(matrix).all():
        raise ValueError("an embedding has a number that is not finite")
    return matrix.reshape(rows, dimensions), valid


def column_of(matrix: npt.NDArray[np.floating], valid: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """The rows of a matrix as embeddings; with `valid` they are those of the rows where it is true, and the
    others are null."""
    rows, dimensions = matrix.shape
    counts = np.ones(rows, np.int64) if valid is None else valid.astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts * dimensions)]).astype(np.int32)
    values = pa.array(np.ascontiguousarray(matrix, np.float16).reshape(-1))
    mask = None if valid is None else pa.array(~valid)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=mask)


def normalised(matrix: Matrix) -> Matrix:
    """The rows with length one; a row of zeros stays as it is."""
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(lengths > 0, lengths, 1), np.float32)
