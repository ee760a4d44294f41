"""Nearest neighbours against all pairs in double precision, and embeddings as they travel."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.embeddings.neighbours import (
    NOBODY,
    cosine,
    first_of_each,
    nearest_lists,
    neighbours,
    rounding,
)
from thresher.filters.embeddings.packing import pack, unpack


def unit(matrix: np.ndarray) -> np.ndarray:
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def drawn(count: int, dimensions: int, seed: int) -> np.ndarray:
    """Rows of which a third are copies of others."""
    random = np.random.default_rng(seed)
    rows = unit(random.standard_normal((count, dimensions)))
    rows[: count // 3] = rows[random.integers(0, count, count // 3)]
    return rows


def brute_force(
    queries: np.ndarray,
    of: np.ndarray,
    base: np.ndarray,
    positions: np.ndarray,
    ties: np.ndarray,
    k: int,
    bar: float,
) -> list[tuple[int, int]]:
    cosines = np.round(queries.astype(np.float64) @ base.T.astype(np.float64), 12)
    found = []
    for row in range(len(queries)):
        others = [n for n in range(len(base)) if positions[n] != of[row] and cosines[row, n] > bar]
        others.sort(key=lambda n: (-cosines[row, n], ties[n], positions[n]))
        found += [(row, n) for n in others[:k]]
    return found


@given(
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.integers(1, 12),
    st.sampled_from([1, 2, 5, 100]),
    st.sampled_from([-2.0, 0.0, 0.7]),
)
def test_neighbours_are_those_of_all_pairs(
    seed: int, count: int, dimensions: int, k: int, bar: float
) -> None:
    rows = drawn(count, dimensions, seed)
    positions = np.arange(count, dtype=np.uint64) * np.uint64(3)
    ties = np.random.default_rng(seed).integers(0, 3, count).astype(np.uint64)
    mine = slice(count // 2, None)
    found = neighbours(rows[mine], positions[mine], rows, positions, ties, k, bar)
    expected = brute_force(rows[mine], positions[mine], rows, positions, ties, k, bar)
    assert list(zip(found[0].tolist(), found[1].tolist(), strict=True)) == expected
    assert found[2] == pytest.approx([float(rows[mine][a].astype(float) @ rows[b]) for a, b in expected])


@pytest.mark.parametrize("dimensions", [1, 7, 8, 512, 1027])
def test_products_are_never_wrong_by_more_than_is_said(dimensions: int) -> None:
    rows = unit(np.abs(np.random.default_rng(0).standard_normal((200, dimensions))))
    exact = np.array([[cosine(one, other) for other in rows[:20]] for one in rows])
    assert abs(rows @ rows[:20].T - exact).max() < rounding(dimensions)
    assert exact == pytest.approx(np.minimum(rows.astype(float) @ rows[:20].T.astype(float), 1), abs=1e-13)


def test_lists_are_the_nearest_centroids_and_of_equal_ones_the_first() -> None:
    centroids = unit(np.random.default_rng(1).standard_normal((9, 4)))
    centroids[5] = centroids[2]
    rows = unit(np.random.default_rng(2).standard_normal((50, 4)))
    found = nearest_lists(rows, centroids, 3)
    numbers = np.arange(9, dtype=np.uint64)
    of = np.full(50, NOBODY, np.uint64)
    expected = brute_force(rows, of, centroids, numbers, numbers, 3, -2)
    assert found.reshape(-1).tolist() == [number for _, number in expected]
    assert nearest_lists(rows, centroids, 99).shape == (50, 9)
    assert nearest_lists(rows[:0], centroids, 3).shape == (0, 3)
    assert nearest_lists(rows[:0], centroids[:0], 3).shape == (0, 0)


def test_the_first_of_each_group_are_the_nearest() -> None:
    group = np.array([7, 1, 7, 7, 1])
    similarity = np.array([0.5, 0.1, 0.9, 0.5, 0.2])
    ties, positions = np.array([3, 0, 0, 2, 0], np.uint64), np.arange(5, dtype=np.uint64)
    assert first_of_each(group, similarity, ties, positions, 2).tolist() == [4, 1, 2, 3]
    assert first_of_each(group[:0], similarity[:0], ties[:0], positions[:0], 2).tolist() == []


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 600))
def test_a_row_that_travels_does_not_depend_on_what_travels_with_it(
    seed: int, count: int, dimensions: int
) -> None:
    halves = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float16)
    packed = pack(halves.astype(np.float32), pa.list_(pa.float16()))
    assert np.stack(packed.to_pylist()).astype(np.float16).tolist() == halves.tolist()
    whole = unpack(packed)
    assert np.linalg.norm(whole, axis=1) == pytest.approx(1)
    for row in range(count):
        assert unpack(packed.slice(row, 1)).tolist() == whole[row : row + 1].tolist()


def test_numbers_wider_than_float16_travel_with_length_one() -> None:
    rows = np.float32([[3e8, 4e8], [0.3, 0.4], [-5, 0]])
    packed = pack(rows, pa.list_(pa.float32()))
    assert packed.type == pa.list_(pa.float16(), 2)
    assert unpack(packed) == pytest.approx(np.float32([[0.6, 0.8], [0.6, 0.8], [-1, 0]]), abs=5e-4)
