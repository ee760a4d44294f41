"""k-means and assignment against plain numpy in float64, and that nothing but their arguments matters."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from thresher.filters.embeddings import kmeans
from thresher.filters.embeddings.kmeans import Metric, assign, train

METRICS: tuple[Metric, ...] = ("cosine", "euclidean")


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    lengths = np.sqrt((rows**2).sum(1, keepdims=True))
    return rows / np.where(lengths > 0, lengths, 1)


def nearness(rows: np.ndarray, centroids: np.ndarray, metric: Metric) -> np.ndarray:
    """Cosines, or minus the distances, of all pairs."""
    if metric == "cosine":
        return unit(rows) @ centroids.astype(np.float64).T
    return -np.sqrt(((rows[:, None].astype(np.float64) - centroids[None]) ** 2).sum(2))


def lloyd(rows: np.ndarray, centroids: np.ndarray, rounds: int, metric: Metric) -> np.ndarray:
    rows = unit(rows) if metric == "cosine" else rows.astype(np.float64)
    for _ in range(rounds):
        members = nearness(rows, centroids, metric).argmax(1)
        means = [rows[members == k].mean(0) for k in range(len(centroids))]
        centroids = unit(np.stack(means)) if metric == "cosine" else np.stack(means)
    return centroids


def clouds(count: int, dimensions: int, groups: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((groups, dimensions))
    found = centres[rng.integers(0, groups, count)] + 0.4 * rng.standard_normal((count, dimensions))
    return found.astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rounds", [1, 3, 50])
def test_centroids_are_those_of_lloyds_algorithm_from_the_same_start(metric: Metric, rounds: int) -> None:
    rows = clouds(600, 13, 9)
    start = train(rows, 7, iterations=0, metric=metric, seed=5)
    expected = lloyd(rows, start, rounds, metric)
    found = train(rows, 7, iterations=rounds, metric=metric, seed=5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not np.allclose(found, start, atol=1e-2)


@pytest.mark.parametrize("metric", METRICS)
def test_it_starts_from_different_rows_that_the_seed_chooses(metric: Metric) -> None:
    rows = unit(clouds(50, 4, 50)).astype(np.float32)[np.arange(200) % 50]
    starts = [train(rows, 20, iterations=0, metric=metric, seed=seed) for seed in (1, 1, 2)]
    assert (starts[0] == starts[1]).all()
    assert (starts[0] != starts[2]).any()
    for start in starts:
        distances = nearness(start, rows, "euclidean")
        assert (distances.max(1) > -1e-6).all()
        assert len(set(distances.argmax(1))) == 20


small = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.just(3)),
    elements=st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 1.5, 1e-30, 1.1e-20, 3e18, 3e38]),
)
usual = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.just(3)),
    elements=st.floats(-4, 4, width=16),
)


@given(rows=usual, centroids=usual, metric=st.sampled_from(METRICS))
@settings(deadline=None)
def test_each_row_is_given_the_nearest_centroid(
    rows: np.ndarray, centroids: np.ndarray, metric: Metric
) -> None:
    if metric == "cosine":
        centroids = unit(centroids).astype(np.float32)
    numbers, closeness = assign(rows, centroids, metric)
    expected = nearness(rows, centroids, metric)
    chosen = expected[np.arange(len(rows)), numbers]
    np.testing.assert_allclose(chosen, expected.max(1), atol=1e-6)
    np.testing.assert_allclose(closeness, chosen, atol=1e-6)


@given(rows=small, centroids=small)
@settings(deadline=None)
def test_sizes_beyond_the_type_of_the_products_do_no_harm(rows: np.ndarray, centroids: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        numbers, _ = assign(rows, centroids, "euclidean")
    expected = nearness(rows, centroids, "euclidean")
    chosen = expected[np.arange(len(rows)), numbers]
    assert (chosen >= expected.max(1) * (1 + 1e-9)).all()


@given(rows=usual, centroids=usual, metric=st.sampled_from(METRICS), data=st.data())
@settings(deadline=None)
def test_of_equal_centroids_the_first_is_the_nearest(
    rows: np.ndarray, centroids: np.ndarray, metric: Metric, data: st.DataObject
) -> None:
    order = data.draw(st.lists(st.integers(0, len(centroids) - 1), min_size=1, max_size=20))
    numbers, _ = assign(rows, centroids[order], metric)
    copies = centroids[order]
    for number in numbers:
        assert not (copies[:number] == copies[number]).all(1).any()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dimensions", [1, 5, 512])
def test_what_a_row_is_given_does_not_depend_on_the_rows_beside_it(
    metric: Metric, dimensions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((300, dimensions)).astype(np.float32)
    # Of rows in the middle between two centroids the last bits decide.
    rows[::3] = (rows[1::3] + rows[2::3]) / 2
    centroids = rows if metric == "euclidean" else unit(rows).astype(np.float32)
    centroids = np.ascontiguousarray(centroids[np.arange(300) % 3 > 0])
    whole = assign(rows, centroids, metric)
    alone = [assign(rows[at : at + 1], centroids, metric) for at in range(300)]
    monkeypatch.setattr(kmeans, "BLOCK_NUMBERS", 1)
    blocks = assign(rows, centroids, metric)
    for which in (0, 1):
        assert (whole[which] == blocks[which]).all()
        assert (whole[which] == np.concatenate([one[which] for one in alone])).all()


THREADS = """
import hashlib
import numpy as np
from thresher.filters.embeddings.kmeans import assign, train

rng = np.random.default_rng(3)
rows = rng.standard_normal((3000, 96)).astype(np.float32).astype(np.float16).astype(np.float32)
digest = hashlib.sha256()
for metric in ("cosine", "euclidean"):
    centroids = train(rows, 37, iterations=8, metric=metric, seed=1)
    for array in (centroids, *assign(rows, centroids, metric)):
        digest.update(array.tobytes())
print(digest.hexdigest())
"""


def test_two_threads_give_the_same_bits_as_one_and_so_do_older_processors() -> None:
    answers = set()
    for settings_ in (
        {"OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_NUM_THREADS": "2"},
        {"OPENBLAS_CORETYPE": "Nehalem"},
    ):
        environment = {**os.environ, **settings_}
        done = subprocess.run(
            [sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True, check=True
        )
        answers.add(done.stdout)
    assert len(answers) == 1


@pytest.mark.parametrize("metric", METRICS)
def test_there_are_no_more_clusters_than_different_rows(metric: Metric) -> None:
    rows = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [-1, -0.0], [-1, 0]], np.float32)
    found = train(rows, 5, iterations=4, metric=metric, seed=0)
    assert sorted(map(tuple, found.tolist())) == [(-1, 0), (0, 1), (1, 0)]


def test_rows_of_zeros_have_no_direction_but_a_place() -> None:
    rows = np.array([[0, 0], [3, 4], [0, 0]], np.float32)
    (only,) = train(rows, 5, iterations=3, metric="cosine", seed=0).tolist()
    assert only == pytest.approx([0.6, 0.8])
    assert len(train(rows, 5, iterations=3, metric="euclidean", seed=0)) == 2
    numbers, cosines = assign(rows, np.array([[1, 0], [0, 1]], np.float32), "cosine")
    assert numbers.tolist() == [0, 1, 0]
    assert cosines.tolist() == pytest.approx([0, 0.8, 0])


@pytest.mark.parametrize("metric", METRICS)
def test_without_rows_there_are_no_centroids_and_without_centroids_no_numbers(metric: Metric) -> None:
    for rows in (np.zeros((0, 3), np.float32), np.zeros((0, 0), np.float32)):
        assert train(rows, 4, iterations=2, metric=metric, seed=0).shape == rows.shape
    numbers, closeness = assign(np.ones((2, 3), np.float32), np.zeros((0, 0), np.float32), metric)
    assert numbers.tolist() == [-1, -1]
    assert np.isnan(closeness).all()


def test_an_empty_cluster_gets_half_of_the_largest_one() -> None:
    spread = lost = 0
    for seed in range(300):
        rows = np.random.default_rng(seed).integers(-4, 5, (12, 2)).astype(np.float32)
        start = train(rows, 5, iterations=0, metric="euclidean", seed=seed)
        plain = start.astype(np.float64)
        for _ in range(30):
            members = nearness(rows, plain, "euclidean").argmax(1)
            plain = np.stack(
                [rows[members == k].mean(0) if (members == k).any() else plain[k] for k in range(len(plain))]
            )
        if len(set(members)) == len(start):
            continue
        lost += 1
        found = train(rows, 5, iterations=30, metric="euclidean", seed=seed)
        spread += len(set(assign(rows, found, "euclidean")[0])) > len(set(members))
    assert lost
    assert spread == lost


def test_dimensions_that_differ_are_told() -> None:
    with pytest.raises(ValueError, match="an embedding has 2 numbers where centroids have 3"):
        assign(np.ones((1, 2), np.float32), np.ones((1, 3), np.float32), "cosine")
