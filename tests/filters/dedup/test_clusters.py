"""Union-find against a breadth-first search, and survivors against a sort of each cluster."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.dedup.clusters import Keep, UnionFind, connected_components, keepers, survivors

ids = st.integers(0, 12) | st.sampled_from([2**32, 2**32 + 1, 2**63, 2**64 - 1])
edge_lists = st.lists(st.tuples(ids, ids), max_size=40)


def searched(edges: list[tuple[int, int]]) -> dict[int, int]:
    """The least member of the component of each member, by breadth-first search from the least."""
    neighbours = defaultdict(set)
    for a, b in edges:
        neighbours[a].add(b)
        neighbours[b].add(a)
    root: dict[int, int] = {}
    for start in sorted(neighbours):
        front = [] if start in root else [start]
        while front:
            root.update(dict.fromkeys(front, start))
            front = [b for a in front for b in neighbours[a] if b not in root]
    return root


def columns(edges: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    array = np.array(edges, np.uint64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


@given(edge_lists)
def test_components_are_those_of_a_search(edges: list[tuple[int, int]]) -> None:
    members, root = connected_components(*columns(edges))
    assert dict(zip(members.tolist(), root.tolist(), strict=True)) == searched(edges)
    assert members.tolist() == sorted(set(members.tolist()))
    assert members.dtype == root.dtype == np.uint64


@given(edge_lists, st.lists(st.integers(0, 40), max_size=4), st.randoms())
def test_components_depend_neither_on_the_order_of_edges_nor_on_batches(
    edges: list[tuple[int, int]], cuts: list[int], random: object
) -> None:
    expected = connected_components(*columns(edges))
    shuffled = [edge[::-1] for edge in edges]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    forest = UnionFind()
    bounds = sorted({0, *cuts, 41})
    for start, stop in pairwise(bounds):
        forest.add(*columns(shuffled[start:stop]))
        forest.components()  # looking changes nothing
    for made, other in zip(forest.components(), expected, strict=True):
        assert made.tolist() == other.tolist()
    assert len(forest) == len(expected[0])


def test_a_long_chain_and_a_large_star_are_one_component_each() -> None:
    n = 300_000
    chain = np.arange(n, dtype=np.uint64)
    rays = np.arange(n, 2 * n, dtype=np.uint64)
    order = np.random.default_rng(0).permutation(n - 1)
    forest = UnionFind()
    forest.add(chain[1:][order], chain[:-1][order])
    forest.add(np.full(n, 2 * n - 1, np.uint64), rays)
    members, root = forest.components()
    assert members.tolist() == list(range(2 * n))
    assert (root[:n] == 0).all()
    assert (root[n:] == n).all()


def test_edges_of_arrow_columns_and_of_views_are_taken() -> None:
    edges = pa.array([1, 2, 2, 9], pa.uint64()).to_numpy()
    members, root = connected_components(edges[::2], edges[1::2])
    assert (members.tolist(), root.tolist()) == ([1, 2, 9], [1, 1, 1])
    with pytest.raises(ValueError, match="2 sources, but 1 destinations"):
        UnionFind().add(edges[:2], edges[:1])


rows = st.lists(
    st.tuples(
        st.integers(0, 3),  # cluster
        st.none() | st.sampled_from([0.0, -0.0, 1.5, -2.0, math.nan, math.inf]),
        st.sampled_from(["", "a", "b", "é", "\U0001f600", "\uffee"]),
        st.sampled_from([0, 1, 2**64 - 1]),
    ),
    max_size=20,
)


def order_of(value: float | None, ascending: bool) -> tuple[int, float]:
    if value is None:
        return (2, 0.0)
    if math.isnan(value):
        return (1, 0.0)
    return (0, value if ascending else -value)


@given(rows, st.booleans(), st.permutations(range(20)))
def test_the_best_of_each_cluster_survives(
    table: list[tuple[int, float | None, str, int]], ascending: bool, places: list[int]
) -> None:
    position = places[: len(table)]
    rank = pa.table(
        {
            "quality": pa.array([row[1] for row in table], pa.float64()),
            "id": pa.array([row[2] for row in table], pa.string()),
            "hash": pa.array([row[3] for row in table], pa.uint64()),
            "position": pa.array(position, pa.uint64()),
        }
    )
    cluster = np.array([row[0] for row in table], np.uint64)
    best: dict[int, int] = {}
    for at, row in enumerate(table):
        key = (order_of(row[1], ascending), row[2].encode(), row[3], position[at])
        other = best.setdefault(row[0], at)
        if key < (
            order_of(table[other][1], ascending),
            table[other][2].encode(),
            table[other][3],
            position[other],
        ):
            best[row[0]] = at
    keep = Keep("best", "quality", ascending)
    assert keepers(cluster, rank, keep).tolist() == [best[row[0]] for row in table]
    assert survivors(cluster, rank, keep).tolist() == [best[row[0]] == at for at, row in enumerate(table)]


def test_the_first_of_a_cluster_is_that_of_least_position() -> None:
    rank = pa.record_batch({"position": pa.array([2**63, 5, 1, 7], pa.uint64())})
    assert survivors(np.array([4, 4, 0, 4], np.uint64), rank, Keep()).tolist() == [False, True, True, False]


def test_the_longest_of_a_cluster_survives_and_ties_fall_to_the_id() -> None:
    rank = pa.table(
        {
            "length": pa.array([9, 10, 10, None], pa.int64()),
            "id": ["a", "c", "b", "0"],
            "hash": pa.array([0, 0, 1, 0], pa.uint64()),
            "position": pa.array([0, 1, 2, 3], pa.uint64()),
        }
    )
    cluster = np.zeros(4, np.uint64)
    assert keepers(cluster, rank, Keep("longest")).tolist() == [2, 2, 2, 2]
    chunked = pa.concat_tables([rank.slice(0, 1), rank.slice(1)])
    assert keepers(cluster, chunked, Keep("longest")).tolist() == [2, 2, 2, 2]


def test_dates_and_strings_can_be_the_best_too() -> None:
    rank = pa.table(
        {
            "date": ["2019-01-01", "2024-05-01", None],
            "id": ["a", "b", "c"],
            "hash": pa.array([0, 0, 0], pa.uint64()),
            "position": pa.array([0, 1, 2], pa.uint64()),
        }
    )
    cluster = np.zeros(3, np.uint64)
    assert keepers(cluster, rank, Keep("best", "date"))[0] == 1
    assert keepers(cluster, rank, Keep("best", "date", ascending=True))[0] == 0
    assert keepers(cluster[:0], rank.slice(0, 0), Keep("best", "date")).tolist() == []


def test_what_keep_needs_is_said() -> None:
    assert Keep("best", "quality").columns == ("quality", "id", "hash", "position")
    assert Keep("longest").columns == ("length", "id", "hash", "position")
    assert Keep().columns == ("position",)
    for wrong in ({"kind": "best"}, {"kind": "last"}, {"kind": "first", "column": "a"}, {"ascending": True}):
        with pytest.raises(ValueError, match="keep"):
            Keep(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 clusters, but 0 rows"):
        keepers(np.zeros(1, np.uint64), pa.table({"position": pa.array([], pa.uint64())}), Keep())
