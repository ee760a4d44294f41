"""Clusters of clusters: each level is a k-means of the centroids of the one below.

As hierarchical k-means of Vo et al. 2024 (arXiv:2405.15613), but for where k-means starts from: drawn rows
here, k-means++ there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from .kmeans import Metric, Numbers, assign, train
from .matrix import Matrix


@dataclass(frozen=True)
class Level:
    """The clusters of one level, and for each of the level below the one that it is in."""

    centroids: Matrix
    members: Numbers | None = None  # int32, a number for each centroid below; None of the lowest level


def train_levels(
    sample: Matrix,
    clusters: Sequence[int],
    *,
    iterations: int,
    metric: Metric,
    seed: int,
    resample: int = 0,
    nearest: int = 10,
) -> list[Level]:
    """The levels of a hierarchy, that with the most clusters first; `clusters` says how many each has.

    The lowest is a k-means of `sample`, as `train` finds it; each other one of the centroids of the level
    below, all of which count the same, however many rows are in their clusters. Then come `resample` rounds,
    in which the centroids of that level are found again, from the `nearest` points of each cluster that are
    nearest to its centroid: dense regions count for less each time. A level has no more clusters than the one
    below.
    """
    options = {"iterations": iterations, "metric": metric}
    levels = [Level(train(sample, clusters[0], seed=_seed(seed, 1, 0), **options))]  # type: ignore[arg-type]
    for number, wanted in enumerate(clusters[1:], 2):
        points = levels[-1].centroids
        found = train(points, wanted, seed=_seed(seed, number, 0), **options)  # type: ignore[arg-type]
        for again in range(resample):
            near = _nearest_points(*assign(points, found, metric), nearest)
            found = train(points[near], wanted, seed=_seed(seed, number, again + 1), **options)  # type: ignore[arg-type]
        levels.append(Level(found, assign(points, found, metric)[0]))
    return levels


def _nearest_points(numbers: Numbers, closeness: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.intp]:
    """Rows of the `count` points of each cluster that are nearest to its centroid, of equals the first."""
    order = np.lexsort((-closeness, numbers))
    opens = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    sizes = np.diff(opens, append=len(order))
    place = np.arange(len(order)) - np.repeat(opens, sizes)
    return np.sort(order[place < count])


def _seed(seed: int, level: int, again: int) -> int:
    return xxhash.xxh3_64_intdigest(f"{seed}\0{level}\0{again}".encode())
