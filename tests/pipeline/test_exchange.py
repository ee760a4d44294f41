"""The exchange against the definition: gather everything, sort by key, keep the order of equal keys."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.pipeline.exchange import Spool, SpoolReader, chunks_of, partition_of, sorted_partition

KEYS = st.lists(
    st.lists(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 7, 2**63, 2**64 - 1])), max_size=30),
    min_size=1,
    max_size=4,
)


def batch(keys: list[int], part: int) -> pa.RecordBatch:
    rows = [part * 1000 + row for row in range(len(keys))]
    return pa.RecordBatch.from_arrays([pa.array(keys, pa.uint64()), pa.array(rows)], names=["key", "row"])


def exchanged(tmp: Path, parts: list[list[int]], partitions: int, limit: int) -> list[tuple[int, int]]:
    paths = []
    for number, keys in enumerate(parts):
        paths.append(tmp / f"{partitions}-{limit}-{number}.chunks")
        paths[-1].unlink(missing_ok=True)
        spool = Spool(paths[-1], "key", partitions, "run")
        spool.add(batch(keys, number))
        spool.close()
    readers = [SpoolReader(path) for path in paths]
    rows: list[tuple[int, int]] = []
    for partition in range(partitions):
        chunks = chunks_of(readers, partition)
        for chunk in sorted_partition(chunks, readers[0].schema, "key", partition, partitions, limit):
            rows.extend(zip(chunk.column("key").to_pylist(), chunk.column("row").to_pylist(), strict=True))
    return rows


@settings(deadline=None, max_examples=60)
@given(KEYS, st.sampled_from([1, 2, 8]), st.sampled_from([1, 200, 1 << 20]))
def test_partitions_in_order_are_one_stable_sort_by_key(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], partitions: int, limit: int
) -> None:
    rows = [(key, number * 1000 + row) for number, keys in enumerate(parts) for row, key in enumerate(keys)]
    expected = sorted(rows, key=lambda pair: pair[0])
    assert exchanged(tmp_path_factory.mktemp("spool"), parts, partitions, limit) == expected


def test_a_key_that_holds_more_than_memory_allows_is_streamed_in_order(tmp_path: Path) -> None:
    parts = [[5] * 5000, [3, 5, 9] * 1000]
    rows = exchanged(tmp_path, parts, 1, limit=1000)
    assert [row for key, row in rows if key == 5] == [*range(5000), *range(1001, 4000, 3)]


def test_more_parts_than_a_process_may_have_files_open_are_exchanged(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(list(Path("/proc/self/fd").iterdir()))
    parts = [[number, 2**64 - 1 - number] for number in range(100)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 50, hard))
    try:
        rows = exchanged(tmp_path, parts, 4, limit=1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [key for key, _ in rows] == sorted(key for keys in parts for key in keys)


def test_a_partition_is_the_top_bits_of_the_key() -> None:
    keys = np.array([0, 2**61, 2**62, 2**63, 2**64 - 1], np.uint64)
    assert partition_of(keys, 4).tolist() == [0, 0, 1, 2, 3]
    assert partition_of(keys, 1).tolist() == [0, 0, 0, 0, 0]


def test_a_spool_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.chunks"
    spool = Spool(path, "key", 2, "run")
    spool.add(batch([1, 2], 0))
    assert not path.exists()
    spool.close()
    assert path.exists()
    assert list(tmp_path.iterdir()) == [path]
