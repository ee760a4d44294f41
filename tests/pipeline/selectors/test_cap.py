"""Caps of many groups against sorting each group by itself."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from thresher.pipeline.commit import PartOutput
from thresher.pipeline.selectors.cap import ROWS, group_hashes, prune, within_cap
from thresher.pipeline.steps.selection import KeepWithinCap

Row = tuple[int, int, int, int, str]  # key, low, rank, units, id


def table(rows: Sequence[Row]) -> pa.RecordBatch:
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * 5
    columns.append(np.arange(len(rows), dtype=np.uint64) * 3 + 5)
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, ROWS, strict=True)], schema=ROWS
    )


def sorted_groups(batch: pa.RecordBatch) -> dict[tuple[int, int], list[dict[str, Any]]]:
    groups = defaultdict(list)
    for row in batch.to_pylist():
        groups[row["key"], row["low"]].append(row)
    for members in groups.values():
        members.sort(key=lambda row: (-row["rank"], row["id"].encode(), row["position"]))
    return groups


def taken_one_by_one(batch: pa.RecordBatch, cap: int) -> tuple[set[int], int, int]:
    """The positions that fit by the definition, the groups, and the groups of which not all rows fit."""
    chosen, over = set(), 0
    groups = sorted_groups(batch)
    for members in groups.values():
        room = cap
        for row in members:
            room -= row["units"]
            if room < 0:
                over += 1
                break
            chosen.add(row["position"])
    return chosen, len(groups), over


# Keys that two groups share, as if 64 bits of their hashes agreed; ranks, units and ids that often tie.
ROW = st.tuples(
    st.sampled_from([0, 7, 2**64 - 1]),
    st.sampled_from([0, 1, 2**64 - 1]),
    st.sampled_from([0, 1, 2, 2**63, 2**64 - 1]),
    st.integers(0, 5),
    st.text(st.sampled_from("ab\0é"), max_size=3),
)
TABLES = st.lists(ROW, max_size=60).map(table)


@given(batch=TABLES, cap=st.integers(1, 25))
@settings(max_examples=300, deadline=None)
def test_each_group_keeps_what_sorting_it_would_until_the_next_row_would_exceed(
    batch: pa.RecordBatch, cap: int
) -> None:
    rows, groups, over = within_cap(batch, cap)
    positions = rows.column("position")
    assert (set(positions.to_pylist()), groups, over) == taken_one_by_one(batch, cap)
    assert len(set(positions.to_pylist())) == len(positions)


@given(batch=TABLES, cap=st.integers(1, 25), edges=st.lists(st.integers(0, 1000), max_size=4))
@settings(max_examples=300, deadline=None)
def test_pruning_any_pieces_any_number_of_times_changes_nothing(
    batch: pa.RecordBatch, cap: int, edges: list[int]
) -> None:
    bounds = [0, *sorted(edge % (len(batch) + 1) for edge in edges), len(batch)]
    pieces = [prune(batch.slice(a, b - a), cap) for a, b in itertools.pairwise(bounds)]
    some = prune(pa.concat_batches(pieces[:2]), cap)
    rest = pa.concat_batches([some, *pieces[2:]])
    assert set(within_cap(rest, cap)[0].column("position").to_pylist()) == taken_one_by_one(batch, cap)[0]
    assert within_cap(rest, cap)[1:] == within_cap(batch, cap)[1:]


def test_a_part_of_a_large_group_sends_the_rows_of_a_cap_and_one_more() -> None:
    batch = table([(1, 1, rank, 1, f"r{rank}") for rank in range(1000)])
    assert len(prune(batch, 10)) == 11
    assert len(prune(table([(1, 1, rank, 4, "r") for rank in range(1000)]), 10)) == 3


def reduced(batches: Sequence[pa.RecordBatch], cap: int, group_bytes: int, folder: Path) -> Any:
    """What the reduce side commits of batches sorted by key: positions, and the figures that it notes."""
    folder.mkdir(exist_ok=True)
    out = PartOutput(folder, 0, "run")
    KeepWithinCap("cap", cap, group_bytes).reduce({"rows": iter(batches)}, out)
    assert not list(folder.glob("*group*")), "what large groups were held in is gone"
    committed = out.commit(0, 0)
    kept = pq.read_table(committed.streams["kept"].path)
    assert kept["kept"].to_pylist() == [True] * len(kept)
    return kept["position"].to_pylist(), committed.accounts["steps"].get("cap", {}).get("figures", {})


@given(
    batch=TABLES,
    cap=st.integers(1, 25),
    chunk=st.integers(1, 20),
    group_bytes=st.sampled_from([1, 300, 1 << 20]),
)
@settings(max_examples=120, deadline=None)
def test_groups_on_disk_and_in_memory_keep_the_same(
    tmp_path_factory: pytest.TempPathFactory, batch: pa.RecordBatch, cap: int, chunk: int, group_bytes: int
) -> None:
    batch = batch.take(pa.array(np.argsort(batch.column("key").to_numpy(), kind="stable")))
    chunks = [batch.slice(start, chunk) for start in range(0, len(batch), chunk)]
    positions, figures = reduced(
        chunks or [batch], cap, group_bytes, tmp_path_factory.mktemp("reduce", numbered=True)
    )
    wanted, groups, over = taken_one_by_one(batch, cap)
    assert sorted(positions) == sorted(wanted)
    assert (figures.get("groups", 0), figures.get("groups_over_cap", 0)) == (groups, over)


def test_a_group_of_a_million_rows_is_cut_exactly_with_little_memory(tmp_path: Path) -> None:
    n, cap = 1_000_000, 600_000
    rng = np.random.default_rng(3)
    rank, units = rng.integers(0, 1000, n).astype(np.uint64), rng.integers(0, 5, n)
    ids = pa.array([f"{number:08x}" for number in rng.permutation(n)])
    position = np.arange(n, dtype=np.uint64)
    columns = [np.full(n, 9, np.uint64), np.full(n, 4, np.uint64), rank, units, ids, position]
    batch = pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=ROWS)
    chunks = [batch.slice(start, 65_536) for start in range(0, n, 65_536)]
    positions, figures = reduced(chunks, cap, 1 << 20, tmp_path / "reduce")
    order = np.lexsort((np.array(ids.to_pylist()), -rank.astype(np.int64)))
    wanted = position[order[np.cumsum(units[order]) <= cap]]
    assert sorted(positions) == sorted(wanted.tolist())
    assert figures == {"groups": 1, "groups_over_cap": 1}


def test_a_null_group_is_a_group_of_its_own_and_equal_names_have_equal_hashes() -> None:
    names = pa.array(["a", None, "", "=a", "a", None, "é"])
    upper, lower = group_hashes(names)
    pairs = list(zip(upper.to_pylist(), lower.to_pylist(), strict=True))
    assert [pairs.index(pair) for pair in pairs] == [0, 1, 2, 3, 0, 1, 6]
    assert len({half for half, _ in pairs}) == 5
    assert [len(half) for half in group_hashes(names.slice(0, 0))] == [0, 0]
