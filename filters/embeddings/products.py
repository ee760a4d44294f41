"""Products of embeddings with few vectors, such as those of classes or of a linear layer."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..kernels import kernel

Doubles = npt.NDArray[np.float64]

KERNELS: Final = ("thresher.filters.embeddings.products",)
_WIDTH: Final = 256  # sums that are kept at a time: 2 KB


def products(rows: npt.NDArray[np.floating], vectors: npt.NDArray[np.floating]) -> Doubles:
    """The inner product of each row and each vector, in double precision.

    A library's matrix product may give a row another last bit beside other rows; here each sum is made in
    the order of the dimensions, so that a score depends on its own record only.
    """
    if rows.shape[1] != vectors.shape[1]:
        raise ValueError(f"embeddings of {rows.shape[1]} numbers do not fit vectors of {vectors.shape[1]}")
    found = np.empty((len(rows), len(vectors)), np.float64)
    columns = np.ascontiguousarray(vectors.T, np.float64)
    _multiply(np.ascontiguousarray(rows, np.float64), columns, found)
    return found


def softmax(logits: Doubles) -> Doubles:
    """Each row's exponentials, divided by their sum."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@kernel("void(Array(float64, 2, 'C', readonly=True), Array(float64, 2, 'C', readonly=True), float64[:,::1])")
def _multiply(rows: Any, columns: Any, found: Any) -> None:
    width = columns.shape[1]
    for start in range(0, width, _WIDTH):
        stop = min(start + _WIDTH, width)
        for row in range(len(rows)):
            sums = found[row]
            for at in range(start, stop):
                sums[at] = 0.0
            for dimension in range(rows.shape[1]):
                value = rows[row, dimension]
                for at in range(start, stop):
                    sums[at] += value * columns[dimension, at]
