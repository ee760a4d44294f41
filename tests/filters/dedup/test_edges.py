"""Star edges against the definition of a group, with batches cut anywhere and combined in any way."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.dedup.clusters import connected_components
from thresher.filters.dedup.edges import EDGES, StarEdges, combine, key_rows

Row = tuple[int, int, int]  # key, low, position

keys = st.integers(0, 3) | st.just(2**64 - 1)
row_lists = st.lists(st.tuples(keys, st.integers(0, 2), st.integers(0, 9)), max_size=30)
cut_lists = st.lists(st.integers(0, 60), max_size=5)


def batch(rows: list[Row], with_low: bool = True) -> pa.RecordBatch:
    key, low, position = (pa.array([row[i] for row in rows], pa.uint64()) for i in range(3))
    if not with_low:
        return pa.record_batch({"key": key, "position": position})
    return pa.record_batch({"key": key, "low": low, "position": position})


def pieces(whole: pa.RecordBatch, cuts: list[int]) -> list[pa.RecordBatch]:
    bounds = sorted({0, whole.num_rows, *(cut for cut in cuts if cut < whole.num_rows)})
    return [whole.slice(a, b - a) for a, b in pairwise(bounds)] or [whole]


def by_key(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    whole = pa.Table.from_batches(batches).combine_chunks().to_batches() or batches
    order = np.argsort(whole[0].column("key").to_numpy(), kind="stable")
    return whole[0].take(pa.array(order))


def reduced(batches: list[pa.RecordBatch]) -> list[tuple[int, int]]:
    reduce = StarEdges()
    made = pa.Table.from_batches([reduce(part) for part in batches], EDGES)
    return list(zip(made.column("src").to_pylist(), made.column("dst").to_pylist(), strict=True))


def components(edges: list[tuple[int, int]]) -> dict[int, int]:
    src, dst = (np.array([edge[i] for edge in edges], np.uint64) for i in range(2))
    members, root = connected_components(src, dst)
    return dict(zip(members.tolist(), root.tolist(), strict=True))


@given(row_lists, cut_lists, st.booleans())
def test_every_row_is_joined_with_the_first_of_its_group(
    rows: list[Row], cuts: list[int], with_low: bool
) -> None:
    rows.sort(key=lambda row: row[0])
    first: dict[tuple[int, int], int] = {}
    expected = []
    for key, low, position in rows:
        head = first.setdefault((key, low if with_low else 0), position)
        if head != position:
            expected.append((head, position))
    assert reduced(pieces(batch(rows, with_low), cuts)) == expected


@given(row_lists, cut_lists, cut_lists, st.booleans(), st.integers(0, 2))
def test_combining_changes_no_component(
    rows: list[Row], chunks: list[int], cuts: list[int], with_low: bool, times: int
) -> None:
    plain = reduced([by_key([batch(rows, with_low)])])
    parts = [combine(part) for part in pieces(batch(rows, with_low), chunks)]
    for _ in range(times):
        parts = [combine(by_key(parts[:2])), *parts[2:]]
    assert components(reduced(pieces(by_key(parts), cuts))) == components(plain)


@given(row_lists, st.booleans())
def test_combined_rows_are_sorted_and_hold_one_candidate_for_each_key(
    rows: list[Row], with_low: bool
) -> None:
    made = combine(batch(rows, with_low))
    assert made.schema.names == ["key", *(["low"] if with_low else []), "position", "link"]
    key, position, link = (made.column(name).to_numpy() for name in ("key", "position", "link"))
    assert (np.sort(key) == key).all()
    assert (position == link).sum() == len({row[: 1 + with_low] for row in rows})
    finished = list(zip(position[position != link].tolist(), link[position != link].tolist(), strict=True))
    assert len(finished) == len(set(finished))


def test_the_edges_of_a_hot_key_go_to_all_partitions() -> None:
    n = 4096
    hot = pa.record_batch(
        {"key": np.full(n, 5, np.uint64), "position": np.arange(n, dtype=np.uint64) + np.uint64(7 << 32)}
    )
    made = combine(hot)
    partition = (made.column("key").to_numpy() >> np.uint64(60)).astype(np.int64)
    assert made.num_rows == n
    assert np.bincount(partition, minlength=16).max() < 1.3 * n / 16
    assert set(components(reduced([made])).values()) == {7 << 32}


def test_many_different_hashes_with_one_upper_half_are_kept_apart() -> None:
    rows = [(9, i % 100, i) for i in range(1000)]
    assert reduced(pieces(batch(rows), [1, 50, 333])) == [(i % 100, i) for i in range(100, 1000)]


def test_keys_that_are_not_sorted_are_refused() -> None:
    with pytest.raises(ValueError, match="not sorted: row 2 "):
        StarEdges()(batch([(1, 0, 0), (2, 0, 1), (1, 0, 2)]))
    reduce = StarEdges()
    reduce(batch([(2, 0, 0)]))
    with pytest.raises(ValueError, match="not sorted: row 0 "):
        reduce(batch([(1, 0, 1)]))


def test_a_document_that_meets_itself_makes_no_edge() -> None:
    assert reduced([batch([(1, 0, 4), (1, 0, 4), (1, 0, 5), (1, 0, 4)])]) == [(4, 5)]


def test_band_keys_become_one_row_for_each_band_of_each_document_that_has_them() -> None:
    bands = pa.array([[1, 2], None, [3, 1]], pa.list_(pa.uint64(), 2))
    position = pa.array([10, 11, 12], pa.uint64())
    assert key_rows(bands, position).to_pydict() == {"key": [1, 2, 3, 1], "position": [10, 10, 12, 12]}
    assert key_rows(bands.slice(1), position.slice(1)).to_pydict() == {"key": [3, 1], "position": [12, 12]}
    assert key_rows(bands.slice(1, 1), position.slice(1, 1)).num_rows == 0


def test_exact_keys_become_one_row_for_each_document_that_has_one() -> None:
    key, low = pa.array([7, None, 8], pa.uint64()), pa.array([1, None, 2], pa.uint64())
    made = key_rows(key, pa.array([0, 1, 2], pa.uint64()), low)
    assert made.to_pydict() == {"key": [7, 8], "low": [1, 2], "position": [0, 2]}
