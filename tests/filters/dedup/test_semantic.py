"""Which rows are too near an earlier one, against all pairs in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.dedup.semantic import in_order, too_near

THRESHOLD = 0.9


def unit(matrix: np.ndarray) -> np.ndarray:
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def drawn(count: int, dimensions: int, seed: int) -> np.ndarray:
    """Rows, of which some are near others, and some are copies."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, dimensions))
    near = random.random(count) < 0.4
    rows[near] = rows[random.integers(0, count, near.sum())]
    rows[near] += 0.35 * random.standard_normal((near.sum(), dimensions))
    copies = random.random(count) < 0.3
    rows[copies] = rows[random.integers(0, count, copies.sum())]
    return unit(rows)


def all_pairs(rows: np.ndarray, threshold: float) -> tuple[set[int], set[int], dict[int, float]]:
    """Rows that must go, rows of which rounding decides, and the largest cosine to an earlier row."""
    wide = rows.astype(np.float64)
    cosines = np.tril(wide @ wide.T, -1) - 2 * np.triu(np.ones((len(rows), len(rows))))
    largest = cosines.max(axis=1) if len(rows) else np.empty(0)
    certain = set(np.flatnonzero(largest > threshold + 1e-5).tolist())
    unsure = set(np.flatnonzero(abs(largest - threshold) <= 1e-5).tolist())
    return certain, unsure, dict(enumerate(largest.tolist()))


@pytest.mark.parametrize("block", [1, 7, 64, 1024])
@pytest.mark.parametrize(("count", "dimensions"), [(150, 5), (90, 33), (1, 4), (0, 4)])
def test_a_row_goes_if_an_earlier_one_is_too_near_and_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, block: int, count: int, dimensions: int
) -> None:
    monkeypatch.setattr("thresher.filters.dedup.semantic.BLOCK_ROWS", block)
    rows = drawn(count, dimensions, seed=count)
    gone, keepers = too_near(count, lambda start, stop: rows[start:stop], THRESHOLD)
    certain, unsure, largest = all_pairs(rows, THRESHOLD)
    assert certain <= set(gone.tolist()) <= certain | unsure
    wide = rows.astype(np.float64)
    for row, keeper in zip(gone.tolist(), keepers.tolist(), strict=True):
        assert keeper < row
        assert wide[row] @ wide[keeper] == pytest.approx(largest[row], abs=1e-9)
        equal = np.flatnonzero((rows[:row] == rows[keeper]).all(axis=1))
        assert keeper == equal[0]
    if count > 100:
        assert 20 < len(certain) < count - 20


@given(st.integers(0, 10**6), st.integers(2, 40), st.sampled_from([1, 3, 1024]))
def test_the_answer_does_not_depend_on_how_rows_are_read(seed: int, count: int, block: int) -> None:
    rows = drawn(count, 3, seed)
    answers = []
    for size in (block, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("thresher.filters.dedup.semantic.BLOCK_ROWS", size)
            found = too_near(count, lambda start, stop: rows[start:stop], THRESHOLD)
            answers.append([array.tolist() for array in found])
    assert answers[0] == answers[1]


def test_no_row_is_nearer_than_a_copy() -> None:
    rows = unit(np.random.default_rng(0).standard_normal((3, 77)))
    copies = np.repeat(rows, 40, axis=0)
    assert len(too_near(120, lambda start, stop: copies[start:stop], 1.0)[0]) == 0
    gone, keepers = too_near(120, lambda start, stop: copies[start:stop], 0.999)
    assert len(gone) == 117
    assert set(keepers.tolist()) == {0, 40, 80}


def test_rows_are_ordered_by_nearness_then_by_draw_then_by_position() -> None:
    similarity = np.array([0.5, 0.9, 0.5, 0.5, 0.1], np.float32)
    draws = np.array([4, 0, 2, 2, 9], np.uint64)
    positions = np.array([0, 1, 3, 2, 4], np.uint64)
    expected = {"hard": [4, 3, 2, 0, 1], "easy": [1, 3, 2, 0, 4], "random": [1, 3, 2, 0, 4]}
    for order, rows in expected.items():
        assert in_order(similarity, draws, positions, order).tolist() == rows  # type: ignore[arg-type]
    clusters = np.array([1, 0, 1, 0, 0], np.uint64)
    assert in_order(similarity, draws, positions, "hard", clusters).tolist() == [4, 3, 1, 2, 0]
