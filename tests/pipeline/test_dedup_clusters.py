"""Clusters by exchanges against union-find, on graphs and in whole jobs, and the memory that they take."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
from hypothesis import given, settings
from hypothesis import strategies as st
from inline_engine import inline_tasks
from test_whole_jobs import output_digest, shards, split_input
from thresher.filters.dedup.clusters import connected_components
from thresher.filters.dedup.edges import EDGES
from thresher.filters.dedup.stars import downward, gather, large_star, mirrored, small_star, spread
from thresher.pipeline.commit import PartOutput
from thresher.pipeline.components import MEMBER_BYTES
from thresher.pipeline.steps.components import MOVED, FacingEdges, MakeStars, Members
from thresher.pipeline.steps.groups import Giant, groups

Edges = tuple[np.ndarray, np.ndarray]

few = st.integers(0, 30)
pairs = st.tuples(few, few).filter(lambda pair: pair[0] != pair[1])
random_graphs = st.lists(pairs, max_size=60)
chains = st.permutations(range(25)).map(lambda order: list(pairwise(order)))
stars = st.tuples(few, st.lists(few, max_size=30)).map(
    lambda s: [(s[0], leaf) for leaf in s[1] if leaf != s[0]]
)
cliques = st.sets(few, max_size=9).map(lambda some: [(a, b) for a in some for b in some if a != b])
graphs = st.lists(random_graphs | chains | stars | cliques, max_size=3).map(
    lambda several: [edge for edges in several for edge in edges]
)


def columns(edges: list[tuple[int, int]]) -> Edges:
    array = np.array(edges, np.uint64).reshape(-1, 2)
    return np.ascontiguousarray(array[:, 0]), np.ascontiguousarray(array[:, 1])


def converged(src: np.ndarray, dst: np.ndarray) -> tuple[Edges, int]:
    """Rounds of large-star and small-star until nothing moves; the edges and the number of rounds."""
    rounds = 0
    while True:
        rounds += 1
        moved = 0
        for rows, star in ((mirrored, large_star), (downward, small_star)):
            keys, others = rows(src, dst)
            order = np.argsort(keys, kind="stable")
            (src, dst), count = star(keys[order], others[order])
            moved += count
        if not moved:
            return (src, dst), rounds


@given(graphs)
def test_stars_have_the_components_of_the_union_find(edges: list[tuple[int, int]]) -> None:
    src, dst = columns(edges)
    (root, member), _ = converged(src, dst)
    found = {
        **dict(zip(root.tolist(), root.tolist(), strict=True)),
        **dict(zip(member.tolist(), root.tolist(), strict=True)),
    }
    members, roots = connected_components(src, dst)
    assert found == dict(zip(members.tolist(), roots.tolist(), strict=True))
    assert len(member) == len(set(member.tolist())) == len(members) - len(set(roots.tolist()))


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_keys_are_a_permutation_of_the_positions(values: list[int]) -> None:
    array = np.array(values, np.uint64)
    assert gather(spread(array)).tolist() == values
    assert len(set(spread(array).tolist())) == len(set(values))


@pytest.mark.parametrize("n", [1000, 100_000])
@pytest.mark.parametrize("shuffled", [False, True])
def test_a_chain_takes_a_number_of_rounds_that_grows_with_its_logarithm(n: int, shuffled: bool) -> None:
    names = np.arange(n, dtype=np.uint64)
    if shuffled:
        names = np.random.default_rng(3).permutation(names)
    (root, member), rounds = converged(names[1:].copy(), names[:-1].copy())
    assert set(root.tolist()) == {0}
    assert len(member) == n - 1
    assert rounds <= 1.2 * math.log2(n) + 3


sorted_rows = st.lists(st.lists(st.integers(0, 6), max_size=9), max_size=8).map(
    lambda batches: (
        np.split(
            np.sort(np.array([key for batch in batches for key in batch], np.uint64)),
            np.cumsum([len(batch) for batch in batches])[:-1],
        )
        if batches
        else []
    )
)


@given(sorted_rows, st.sampled_from([1, 40, 10**6]))
def test_groups_are_whole_and_keep_every_row_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, batches: list[np.ndarray], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("groups")
    number = iter(range(10**6))
    rows = [
        pa.RecordBatch.from_pydict({"key": pa.array(keys, pa.uint64()), "n": [next(number) for _ in keys]})
        for keys in batches
    ]
    seen: list[tuple[int, int]] = []
    ended: list[set[int]] = []
    files = iter(range(10**6))
    for group in groups(rows, lambda name: folder / f"{name}-{next(files)}", limit):
        read = [list(group.batches()), list(group.batches())] if isinstance(group, Giant) else [[group]]
        flat = [[(row["key"], row["n"]) for batch in once for row in batch.to_pylist()] for once in read]
        assert flat[0] == flat[-1]
        seen += flat[0]
        ended.append({key for key, _ in flat[0]})
        if isinstance(group, Giant):
            assert len(ended[-1]) == 1
            assert 16 * len(flat[0]) > limit
    assert seen == [(row["key"], row["n"]) for batch in rows for row in batch.to_pylist()]
    assert sum(map(len, ended)) == len(set().union(*ended))
    assert not list(folder.iterdir())


@given(graphs, st.integers(1, 5))
@settings(max_examples=30)
def test_the_reducer_makes_of_a_group_on_disk_what_it_makes_of_one_in_memory(
    tmp_path_factory: pytest.TempPathFactory, edges: list[tuple[int, int]], size: int
) -> None:
    src, dst = columns(edges)
    for large in (True, False):
        found = []
        for limit in (1, 10**9):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("thresher.pipeline.steps.components.groups", _limited(limit))
                out = PartOutput(tmp_path_factory.mktemp("out"), 0, "run")
                batch = pa.RecordBatch.from_arrays([pa.array(src), pa.array(dst)], schema=EDGES)
                rows = FacingEdges(large).apply(batch, out).sort_by("key")
                cut = [rows.slice(at, size) for at in range(0, len(rows), size)] or [rows]
                MakeStars(large).reduce({"edges": iter(cut)}, out)
                committed = out.commit(0, 0)
                table = pq.read_table(committed.streams["edges"].path)
                found.append(
                    (set(map(tuple, zip(*table.to_pydict().values(), strict=True))), committed.accounts)
                )
        assert found[0] == found[1]


def _limited(limit: int) -> Any:
    return lambda batches, new_file: groups(batches, new_file, limit)


def test_members_are_told_once_for_each_edge_and_each_root() -> None:
    batch = pa.RecordBatch.from_arrays(
        [pa.array([1, 1, 4], pa.uint64()), pa.array([2, 3, 5], pa.uint64())], schema=EDGES
    )
    rows = Members(shift=8).apply(batch, None).to_pylist()  # type: ignore[arg-type]
    assert sorted((row["key"] >> 8, row["root"]) for row in rows) == [(1, 1), (2, 1), (3, 1), (4, 4), (5, 4)]


def near_copies(count: int) -> list[dict[str, Any]]:
    """Chains of texts, each of which differs from the one before by a few words, and texts of their own."""
    made = []
    for chain in range(count):
        text = corpus.document(chain)
        for link in range(1 + chain % 9):
            made.append({"id": f"c{chain:03d}-{link}", "text": text, "quality": (chain * 7 + link * 5) % 11})
            text = corpus.edited(text, 100 * chain + link, 2)
    order = np.random.default_rng(0).permutation(len(made))
    return [made[n] for n in order]


def minhash_job(source: str, out: Path, **options: Any) -> dict[str, Any]:
    job = corpus.job(source, out)
    job["steps"] = [{"dedup": {"minhash": {"bands": 28, "rows": 4, **options}}}]
    job["output"]["shuffle"] = "none"
    return job


def ledger(out: Path) -> list[dict[str, Any]]:
    return sorted(pq.read_table(out / "ledger").to_pylist(), key=lambda row: row["position"])


def run_inline(job: dict[str, Any], partition_bytes: int | None = None) -> Any:
    with inline_tasks(), pytest.MonkeyPatch.context() as patch:
        if partition_bytes:
            patch.setattr("thresher.pipeline.driver.PARTITION_BYTES", partition_bytes)
        return thresher.run(thresher.load(job))


def stage_names(work: str) -> list[str]:
    return sorted(path.name[3:-13] for path in (Path(work) / "stages").iterdir())


@pytest.mark.parametrize("keep", ["first", "longest"])
def test_clusters_by_exchanges_in_many_partitions_are_those_of_one_process(tmp_path: Path, keep: str) -> None:
    source = split_input(near_copies(60), tmp_path / "in", 5)
    answers = []
    for name, memory, partition_bytes in (
        ("whole", "1GB", None),
        ("one", 1, None),
        ("many", 1, 16_000),
        ("more", 1, 3_000),
        ("cut", "1GB", 8_000),
    ):
        job = minhash_job(source, tmp_path / name, keep=keep, cluster_memory=memory)
        run_inline(job, partition_bytes)
        names = stage_names(job["run"]["work"])
        assert any("star" in stage for stage in names) == (memory == 1)
        answers.append((ledger(tmp_path / name), shards(tmp_path / name)))
    assert len(answers[0][0]) > 100
    assert all(answer == answers[0] for answer in answers)


def test_rounds_go_on_until_the_figures_say_that_nothing_moved(tmp_path: Path) -> None:
    job = minhash_job(split_input(near_copies(60), tmp_path / "in", 3), tmp_path / "out", cluster_memory=1)
    run_inline(job)
    moved = {}
    for path in (Path(job["run"]["work"]) / "stages").glob("*-star-*"):
        (entry,) = (json.loads(file.read_text()) for file in path.glob("0*.json"))
        moved[path.name[3:-13]] = entry["accounts"]["figures"].get(MOVED, 0)
    rounds = len(moved) // 2
    sums = [
        sum(count for name, count in moved.items() if name.endswith(f"-{number}"))
        for number in range(1, rounds + 1)
    ]
    assert sums[-1] == 0
    assert all(sums[:-1])
    assert rounds > 1


def test_a_job_over_exchanges_is_the_same_with_processes_and_after_it_was_stopped(tmp_path: Path) -> None:
    source = split_input(near_copies(40), tmp_path / "in", 4)
    job = minhash_job(source, tmp_path / "out", cluster_memory=1)
    run_inline(job)
    expected = output_digest(tmp_path / "out")
    stages = sorted((Path(job["run"]["work"]) / "stages").iterdir())
    for number, keep_entries in ((3, True), (5, False), (8, False), (len(stages) - 4, True)):
        for stage in stages[number:]:
            for entry in stage.glob("*.json"):
                if stage != stages[number] or not keep_entries or entry.name == "rollup.json":
                    entry.unlink()
        thresher.run(thresher.load(job))
        assert output_digest(tmp_path / "out") == expected


MEMORY = """
import re, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from thresher.pipeline.commit import PartOutput
from thresher.pipeline.components import MEMBER_BYTES
from thresher.pipeline.steps.components import MakeStars
from thresher.pipeline.steps.survivors import ChooseSurvivors

what, rows, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])

def batches():
    for first in range(0, rows, 1 << 16):
        n = np.arange(first, min(first + (1 << 16), rows), dtype=np.uint64)
        columns = {"key": np.zeros(len(n), np.uint64)}
        if what == "stars":
            columns["other"] = n + np.uint64(1)
        else:
            columns |= {"position": n, "id": [f"record-{i:026d}" for i in n]}
            columns |= {"length": n % np.uint64(97), "hash": n}
        yield pa.RecordBatch.from_pydict(columns)

out = PartOutput(folder, 0, "run")
if what == "stars":
    MakeStars(True).reduce({"edges": batches()}, out)
    rows_out = out.commit(0, 0).streams["edges"].rows
else:
    ChooseSurvivors("longest", None, "length", "hash", False).reduce({"members": batches()}, out)
    rows_out = out.commit(0, 0).streams["duplicates"].rows
# What getrusage tells survives fork and exec, so it may be the parent's.
print(rows_out, re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.parametrize(("what", "lost"), [("stars", 0), ("survivors", 1)])
def test_memory_does_not_grow_with_the_largest_cluster(tmp_path: Path, what: str, lost: int) -> None:
    peaks = []
    for rows in (1 << 20, 6 << 20):
        folder = tmp_path / str(rows)
        folder.mkdir()
        command = [sys.executable, "-c", MEMORY, what, str(rows), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found, peak = map(int, done.stdout.split())
        assert found == rows - lost
        peaks.append(peak / 1024)
    held = {"stars": 16, "survivors": 64}[what] * (5 << 20) / 1e6  # what five million rows more would take
    assert peaks[1] - peaks[0] < 0.4 * held, peaks
    assert peaks[1] < 600


UNION_FIND = """
import re, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from thresher.pipeline.commit import PartOutput
from thresher.pipeline.components import MEMBER_BYTES
from thresher.pipeline.steps.components import FindClusters

members, folder = int(sys.argv[1]), Path(sys.argv[2])
draw = np.random.default_rng(0)

def batches():
    for first in range(0, members, 1 << 16):
        n = np.arange(first, min(first + (1 << 16), members), dtype=np.uint64)
        yield pa.RecordBatch.from_pydict({"src": n // np.uint64(4) * np.uint64(4), "dst": n})

out = PartOutput(folder, 0, "run")
FindClusters().reduce({"edges": batches()}, out)
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
print(out.commit(0, 0).streams["members"].rows, peak)
"""


def test_a_union_find_takes_no_more_than_it_is_reckoned_to(tmp_path: Path) -> None:
    peaks = []
    for members in (1000, 4_000_000):
        folder = tmp_path / str(members)
        folder.mkdir()
        command = [sys.executable, "-c", UNION_FIND, str(members), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found, peak = map(int, done.stdout.split())
        assert found == members
        peaks.append(peak * 1024)
    assert peaks[1] - peaks[0] < MEMBER_BYTES * 4_000_000, peaks
