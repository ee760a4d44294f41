"""The rows that a head learns from: which are held out, and what they were."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import xxhash

from ...filters.embeddings.matrix import Matrix

Mask = npt.NDArray[np.bool_]


def divided(rows: Matrix, share: float, seed: int) -> Mask:
    """Which rows are held out: about a share of them, by hash(seed, row); copies fall on the same side."""
    bar = int(share * 2**64)
    plain = np.ascontiguousarray(rows + 0, np.float32)  # -0.0 becomes 0.0
    return np.array([xxhash.xxh3_64_intdigest(row.tobytes(), seed) < bar for row in plain], np.bool_)


def ordered(rows: Matrix, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """An order of the rows that does not depend on the one in which they came."""
    keys = [
        xxhash.xxh3_128_digest(row.tobytes() + value.tobytes())
        for row, value in zip(np.ascontiguousarray(rows), values, strict=True)
    ]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def data_digest(rows: Matrix, values: npt.NDArray[np.float64]) -> str:
    """SHA-256 of rows and their targets, in their order."""
    digest = hashlib.sha256()
    digest.update(np.ascontiguousarray(rows, "<f4").tobytes())
    digest.update(np.ascontiguousarray(values, "<f8").tobytes())
    return digest.hexdigest()
