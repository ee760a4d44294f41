"""Nearest rows, among all or among those of a mask, against sorting every product in double precision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from thresher.filters.embeddings.matrix import Matrix, normalised
from thresher.filters.embeddings.search import Index

faiss = pytest.importorskip("faiss")

ROWS, DIMENSIONS, CENTRES = 6000, 48, 60


def points(seed: int, rows: int, *, spread: float = 0.8) -> Matrix:
    """Rows around common centres, as embeddings lie."""
    centres = np.random.default_rng(0).normal(size=(CENTRES, DIMENSIONS))
    chance = np.random.default_rng(seed)
    near = centres[chance.integers(0, CENTRES, rows)]
    return normalised((near + spread * chance.normal(size=near.shape)).astype(np.float32))


def sorted_rows(
    queries: Matrix, matrix: Matrix, k: int, where: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.int64]:
    products = queries.astype(np.float64) @ matrix.T.astype(np.float64)
    if where is not None:
        products[:, ~where] = -np.inf
    return np.argsort(-products, axis=1, kind="stable")[:, :k]


def recall(found: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> float:
    hits = [len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]
    return float(np.mean(hits))


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return points(1, ROWS)


@pytest.fixture(scope="module")
def lists(matrix: Matrix) -> Index:
    return Index(matrix, lists=100, probes=10, seed=3)


def test_without_lists_the_nearest_rows_are_those_of_sorting_all_products(matrix: Matrix) -> None:
    queries = points(2, 70)
    found = Index(matrix).search(queries, 7)
    wanted = sorted_rows(queries, matrix, 7)
    assert (found.rows == wanted).all()
    products = np.einsum("qd,qkd->qk", queries.astype(np.float64), matrix[wanted].astype(np.float64))
    assert np.abs(found.values - products).max() < 1e-7


def test_by_euclidean_distance_a_short_row_may_be_nearer_than_one_of_the_same_direction() -> None:
    matrix = np.array([[4, 0], [1, 1], [0, -3], [1, 0]], np.float32)
    found = Index(matrix, "euclidean").search(np.array([[2, 0]], np.float32), 3)
    assert found.rows.tolist() == [[3, 1, 0]]
    assert found.values.tolist() == [[1, 2, 4]]


@pytest.mark.parametrize("share", [1.0, 0.9, 0.5, 0.25, 0.05, 0.005])
def test_lists_find_nearly_all_that_an_exact_search_finds_whatever_share_a_mask_lets_through(
    matrix: Matrix, lists: Index, share: float
) -> None:
    queries = points(2, 60)
    where = np.random.default_rng(7).random(ROWS) < share
    wanted = sorted_rows(queries, matrix, 10, where)
    found = lists.search(queries, 10, where)
    assert where[found.rows].all()
    assert recall(found.rows, wanted) >= 0.97
    exact = Index(matrix).search(queries, 10, where)
    assert (exact.rows == wanted).all()


def test_a_mask_that_follows_the_embeddings_does_not_hide_what_is_behind_it(
    matrix: Matrix, lists: Index
) -> None:
    queries = points(2, 60)
    for share in (0.7, 0.55):
        where = matrix[:, 0] < np.quantile(matrix[:, 0], share)
        assert recall(lists.search(queries, 10, where).rows, sorted_rows(queries, matrix, 10, where)) >= 0.97


def test_where_fewer_rows_are_let_through_than_asked_for_the_rest_is_minus_one(lists: Index) -> None:
    where = np.zeros(ROWS, np.bool_)
    where[[5, 4000, 17]] = True
    found = lists.search(points(2, 3), 5, where)
    assert (np.sort(found.rows, axis=1) == [-1, -1, 5, 17, 4000]).all()
    assert (np.isnan(found.values) == (found.rows < 0)).all()
    nothing = lists.search(points(2, 3), 2, np.zeros(ROWS, np.bool_))
    assert (nothing.rows == -1).all()


def test_of_equal_rows_the_lower_ones_are_found_however_many_there_are() -> None:
    others = points(5, 3000)
    copies = np.repeat(points(6, 1), 1500, axis=0)
    matrix = np.ascontiguousarray(np.vstack([others, copies, others[:10]]))
    queries = np.vstack([copies[:1], others[4:6]])
    found = Index(matrix).search(queries, 4)
    assert found.rows[0].tolist() == [3000, 3001, 3002, 3003]
    assert found.rows[1, :2].tolist() == [4, 4504]
    assert found.values[1, 0] == found.values[1, 1]
    masked = np.ones(len(matrix), np.bool_)
    masked[3001] = masked[3500] = False
    assert Index(matrix).search(queries, 4, masked).rows[0].tolist() == [3000, 3002, 3003, 3004]


def test_the_blocks_of_queries_and_the_threads_change_no_bit(matrix: Matrix) -> None:
    wide = np.ascontiguousarray(np.tile(matrix[:3000], (1, 11)))
    wide[2000:2200] = wide[:200]
    queries = np.ascontiguousarray(wide[:130])
    before = faiss.omp_get_max_threads()
    found = []
    try:
        for threads in (1, 2):
            faiss.omp_set_num_threads(threads)
            for arguments in ({}, {"lists": 40, "probes": 5}):
                index = Index(wide, **arguments)
                whole = index.search(queries, 5)
                cut = [index.search(queries[start : start + 9], 5) for start in range(0, 130, 9)]
                assert (np.vstack([part.rows for part in cut]) == whole.rows).all()
                assert np.vstack([part.values for part in cut]).tobytes() == whole.values.tobytes()
                found.append((whole.rows.tobytes(), whole.values.tobytes()))
    finally:
        faiss.omp_set_num_threads(before)
    assert found[:2] == found[2:]


def test_too_few_rows_for_lists_are_searched_one_by_one() -> None:
    index = Index(points(1, 100), lists=50)
    assert index.lists == 1
    assert (index.search(points(2, 9), 3).rows == sorted_rows(points(2, 9), points(1, 100), 3)).all()


def test_what_does_not_fit_the_matrix_is_refused_in_words(matrix: Matrix) -> None:
    index = Index(matrix)
    with pytest.raises(ValueError, match="queries of shape"):
        index.search(np.zeros((2, 3), np.float32), 1)
    with pytest.raises(ValueError, match="mask of 6000 rows"):
        index.search(points(2, 2), 1, np.ones(3, np.bool_))
    with pytest.raises(ValueError, match="rows and columns"):
        Index(np.zeros((0, 4), np.float32))
