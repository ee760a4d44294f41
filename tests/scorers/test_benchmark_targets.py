"""Ranks of documents for benchmark examples, against sorting in double precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from thresher.scorers import benchmark_targets
from thresher.scorers.benchmark_targets import rank_documents

DIMENSIONS = 12


def vectors(seed: int, rows: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, DIMENSIONS)).astype(np.float32)


def names(count: int) -> pa.Array:
    return pa.array([f"d{number:04d}" for number in range(count)])


def ranks(documents: np.ndarray, examples: np.ndarray) -> list[list[int]]:
    """For each document its rank under each example; 1 plus those that are nearer."""
    unit = documents.astype(np.float64) / np.linalg.norm(documents.astype(np.float64), axis=1)[:, None]
    near = unit @ examples.astype(np.float64).T
    return [
        [1 + int((near[:, i] > near[j, i]).sum()) for i in range(len(examples))] for j in range(len(unit))
    ]


@pytest.mark.parametrize("aggregate", ["best", "reciprocal", "log"])
def test_a_score_is_made_of_the_ranks_that_examples_give(aggregate: Any) -> None:
    documents, examples = vectors(1, 70), vectors(2, 9)
    expected = ranks(documents, examples)
    found = rank_documents(documents, names(70), examples, aggregate)
    assert found.best.tolist() == [min(one) for one in expected]
    make = {
        "best": lambda one: 1 / min(one),
        "reciprocal": lambda one: sum(1 / r for r in one) / len(one),
        "log": lambda one: sum(math.log2(1 / r) for r in one) / len(one),
    }[aggregate]
    assert found.scores == pytest.approx([make(one) for one in expected])


@pytest.mark.parametrize("aggregate", ["best", "reciprocal", "log"])
def test_neither_threads_nor_blocks_nor_the_order_of_documents_change_a_bit(
    aggregate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents, examples = vectors(3, 60), vectors(4, 40)
    one = rank_documents(documents, names(60), examples, aggregate, threads=1)
    monkeypatch.setattr(benchmark_targets, "_CELLS", 60 * 7)
    order = np.random.default_rng(5).permutation(60)
    other = rank_documents(documents[order], names(60).take(pa.array(order)), examples, aggregate, threads=3)
    assert other.best.tolist() == one.best[order].tolist()
    assert other.scores.tolist() == one.scores[order].tolist()


def test_of_copies_the_lower_id_and_then_the_earlier_one_ranks_higher() -> None:
    copy = np.ones((4, DIMENSIONS), np.float32)
    found = rank_documents(copy, pa.array(["b", "a", "c", "a"]), copy[:1])
    assert found.best.tolist() == [3, 1, 4, 2]


def test_the_length_of_an_embedding_does_not_count() -> None:
    documents, examples = vectors(6, 30), vectors(7, 5)
    longer = documents * np.linspace(0.5, 8, 30, dtype=np.float32)[:, None]
    assert (
        rank_documents(longer, names(30), examples * 3).best.tolist()
        == rank_documents(documents, names(30), examples).best.tolist()
    )


@pytest.mark.parametrize(
    ("documents", "examples", "told"),
    [
        (vectors(1, 0), vectors(1, 2), "no documents"),
        (vectors(1, 2), vectors(1, 0), "no examples"),
        (vectors(1, 2), vectors(1, 2)[:, :5], "5 numbers"),
    ],
)
def test_what_cannot_be_ranked_is_told(documents: np.ndarray, examples: np.ndarray, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        rank_documents(documents, names(len(documents)), examples)
