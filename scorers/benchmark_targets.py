"""How high the examples of benchmarks rank each document of a sample.

The scores of BETR (Mizrahi et al. 2025, arXiv:2507.12466): each example ranks all documents by how near their
embeddings are to its own, and a document's score is made of its ranks.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..filters.embeddings.matrix import Matrix, normalised
from ..filters.embeddings.products import products

Aggregate = Literal["best", "reciprocal", "log"]
_CELLS: Final = 1 << 24  # similarities that a thread keeps at a time: 128 MB
_ROWS: Final = 4096  # that are made double precision at a time


@dataclass(frozen=True)
class Targeted:
    """Of each document the best of its ranks, 1 for the nearest, and its score, the higher the better."""

    best: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]


def rank_documents(
    documents: Matrix,
    ids: pa.Array,
    examples: Matrix,
    aggregate: Aggregate = "best",
    threads: int | None = None,
) -> Targeted:
    """Ranks the documents by their cosines with each example, and scores them.

    best: one over the best rank, so that documents are ordered by it; reciprocal: the mean of one over the
    rank; log: the mean of log2(1 / rank). Of equal cosines the lower id, then the earlier document ranks
    higher. Every document is compared with every example, and neither threads nor blocks change the result.
    Raises ValueError where there is nothing to compare.
    """
    if not len(documents) or not len(examples):
        raise ValueError("there are no documents to rank" if not len(documents) else "there are no examples")
    if documents.shape[1] != examples.shape[1]:
        raise ValueError(
            f"examples have {examples.shape[1]} numbers, and documents have {documents.shape[1]}"
        )
    order = pc.sort_indices(
        pa.table({"id": ids, "position": np.arange(len(ids))}),
        sort_keys=[("id", "ascending"), ("position", "ascending")],
    ).to_numpy()
    rows, targets = normalised(documents[order]), normalised(examples)
    best = np.full(len(rows), len(rows), np.int64)
    total = np.zeros(len(rows))
    ranks = np.arange(1, len(rows) + 1)
    worth = -np.log2(ranks) if aggregate == "log" else 1 / ranks
    for order_of_one in _orders(rows, targets, threads or os.cpu_count() or 1):
        # In the order of the examples, so that sums are the same however many threads there are.
        best[order_of_one] = np.minimum(best[order_of_one], ranks)
        if aggregate != "best":
            total[order_of_one] += worth
    scores = 1 / best if aggregate == "best" else total / len(targets)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return Targeted(best[back], scores[back])


def _orders(rows: Matrix, targets: Matrix, threads: int) -> Iterator[npt.NDArray[np.int64]]:
    """For each example in turn the documents, nearest first."""
    size = max(1, _CELLS // len(rows))
    waiting: deque[Future[list[npt.NDArray[np.int64]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(targets), size):
            waiting.append(pool.submit(_ordered, rows, targets[start : start + size]))
            # No more than the threads need, for each holds a number for every document.
            if len(waiting) > threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _ordered(rows: Matrix, targets: Matrix) -> list[npt.NDArray[np.int64]]:
    similarities = np.empty((len(targets), len(rows)))
    for start in range(0, len(rows), _ROWS):
        piece = slice(start, start + _ROWS)
        similarities[:, piece] = products(rows[piece], targets).T
    return [_nearest_first(line) for line in similarities]


def _nearest_first(similarities: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    # Where no two are equal there is one order only, and a sort that is not stable is six times as fast.
    order = np.argsort(-similarities)
    if (np.diff(similarities[order]) == 0).any():
        order = np.argsort(-similarities, kind="stable")
    return order
