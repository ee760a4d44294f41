"""Embeddings as they travel through an exchange: lists of one length, without offsets to cut and join."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from .matrix import Matrix, normalised


def pack(matrix: Matrix, kind: pa.DataType) -> pa.FixedSizeListArray:
    """The rows as lists of float16: as they are where the column that they come from, of type `kind`, holds
    no more, else with length one."""
    is_half = not pa.types.is_null(kind) and kind.value_type == pa.float16()
    rows = matrix if is_half else normalised(matrix)
    values = pa.array(rows.astype(np.float16).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(values, max(1, matrix.shape[1]))


def unpack(column: pa.FixedSizeListArray) -> Matrix:
    """The rows that `pack` has made, with length one. A row does not depend on what else is there."""
    values = column.flatten().to_numpy(zero_copy_only=False)
    return unit_rows(values.reshape(len(column), column.type.list_size))


def unit_rows(packed: np.ndarray) -> Matrix:
    """The same for the numbers themselves."""
    return normalised(np.ascontiguousarray(packed, np.float32))
