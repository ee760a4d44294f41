"""Clusters of clusters against the same steps written out in numpy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from thresher.filters.embeddings.hierarchy import train_levels
from thresher.filters.embeddings.kmeans import Metric, assign

METRICS: tuple[Metric, ...] = ("cosine", "euclidean")


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 5)).astype(np.float32)


def means(points: np.ndarray, numbers: np.ndarray, metric: Metric) -> np.ndarray:
    found = np.stack([points[numbers == k].astype(np.float64).mean(0) for k in range(numbers.max() + 1)])
    return found / np.linalg.norm(found, axis=1, keepdims=True) if metric == "cosine" else found


def distances(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return ((points[:, None].astype(np.float64) - centroids[None]) ** 2).sum(2)


@pytest.mark.parametrize("metric", METRICS)
def test_each_level_is_a_clustering_of_the_centroids_below(metric: Metric) -> None:
    levels = train_levels(rows(900), [60, 12, 3], iterations=100, metric=metric, seed=1)
    assert [len(level.centroids) for level in levels] == [60, 12, 3]
    assert levels[0].members is None
    for below, level in pairwise(levels):
        assert level.members is not None
        assert level.members.tolist() == distances(below.centroids, level.centroids).argmin(1).tolist()
        # After enough rounds a centroid is the mean of its members, each of which counts once.
        np.testing.assert_allclose(level.centroids, means(below.centroids, level.members, metric), atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_a_round_of_resampling_clusters_the_points_nearest_to_each_centroid(metric: Metric) -> None:
    options = {"iterations": 100, "metric": metric, "seed": 4}
    plain = train_levels(rows(900), [80, 6], **options)
    again = train_levels(rows(900), [80, 6], **options, resample=1, nearest=4)
    assert (plain[0].centroids == again[0].centroids).all()
    points = plain[0].centroids
    apart = distances(points, plain[1].centroids)
    numbers = apart.argmin(1)
    near = []
    for cluster in range(6):
        members = np.flatnonzero(numbers == cluster)
        near += members[np.argsort(apart[members, cluster])[:4]].tolist()
    assert len(near) < 80
    of_near = distances(points[near], again[1].centroids).argmin(1)
    np.testing.assert_allclose(again[1].centroids, means(points[near], of_near, metric), atol=1e-5)
    assert again[1].members is not None
    assert again[1].members.tolist() == distances(points, again[1].centroids).argmin(1).tolist()


def test_resampling_evens_out_what_is_dense() -> None:
    random = np.random.default_rng(0)
    crowd = 0.15 * random.standard_normal((950, 2)).astype(np.float32)
    lone = random.uniform(-4, 4, (50, 2)).astype(np.float32)
    sample = np.concatenate([crowd, lone])
    in_crowd = []
    for resample in (0, 8):
        level = train_levels(
            sample, [400, 40], iterations=20, metric="euclidean", seed=2, resample=resample, nearest=5
        )[1]
        in_crowd.append(int((np.linalg.norm(level.centroids, axis=1) < 0.5).sum()))
    assert in_crowd[1] < in_crowd[0]


@pytest.mark.parametrize("metric", METRICS)
def test_a_level_has_no_more_clusters_than_the_one_below(metric: Metric) -> None:
    few = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    for resample in (0, 2):
        levels = train_levels(few, [9, 5, 1], iterations=3, metric=metric, seed=0, resample=resample)
        assert [len(level.centroids) for level in levels] == [2, 2, 1]
        assert levels[1].members is not None
        assert sorted(levels[1].members.tolist()) == [0, 1]
    nothing = train_levels(
        np.zeros((0, 0), np.float32), [9, 5], iterations=3, metric=metric, seed=0, resample=1
    )
    assert [len(level.centroids) for level in nothing] == [0, 0]


def test_another_seed_finds_other_levels_and_the_same_one_the_same() -> None:
    found = [
        train_levels(rows(200), [30, 4], iterations=2, metric="cosine", seed=seed, resample=1)
        for seed in (1, 1, 2)
    ]
    for number in (0, 1):
        first, same, other = (levels[number].centroids for levels in found)
        assert (first == same).all()
        assert (first != other).any()
    assert (assign(rows(9), found[0][0].centroids, "cosine")[0] >= 0).all()
