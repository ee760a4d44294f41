"""Votes that are drawn from a known label model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# Of each function: for each true class how often it votes for class 0, for class 1, and abstains. The second
# only ever votes for one class; the last one is hardly better than chance.
BALANCE = np.array([0.7, 0.3])
TABLES = np.array(
    [
        [[0.50, 0.10, 0.40], [0.10, 0.60, 0.30]],
        [[0.00, 0.05, 0.95], [0.00, 0.50, 0.50]],
        [[0.80, 0.20, 0.00], [0.25, 0.75, 0.00]],
        [[0.30, 0.02, 0.68], [0.10, 0.20, 0.70]],
        [[0.25, 0.25, 0.50], [0.20, 0.30, 0.50]],
    ]
)


def draw(
    records: int, seed: int, balance: npt.NDArray[Any] = BALANCE, tables: npt.NDArray[Any] = TABLES
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """Votes, -1 to abstain, and the true classes."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(balance), records, p=balance)
    ends = tables.cumsum(axis=2)
    ends[:, :, -1] = 1.0
    votes = np.stack(
        [(rng.random(records)[:, None] > ends[j][truth]).sum(axis=1) for j in range(len(tables))], axis=1
    )
    return np.where(votes == len(balance), -1, votes).astype(np.int8), truth


def counted(votes: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """Combinations that are different, and how often each occurs."""
    rows, counts = np.unique(votes, axis=0, return_counts=True)
    return rows, counts.astype(np.int64)
