"""Even samples of trees of clusters, against a division record by record and the code of the paper."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from thresher.pipeline.selectors import HierarchicalSelector, prefix
from thresher.pipeline.selectors.groups import NullScoreError
from thresher.pipeline.selectors.hierarchical import join, share_out, split

Path = tuple[str, ...]
NAMES = st.sampled_from(["0", "1", "2", "a/b", "a", "\\", "b\\/"])
TREES = st.integers(1, 3).flatmap(
    lambda depth: st.dictionaries(st.tuples(*[NAMES] * depth), st.integers(0, 9), min_size=1, max_size=25)
)


def best_cut(sizes: Sequence[int], target: int) -> int:
    """The x of the paper: the largest with a sum of min(x, size) within the target."""
    return max(x for x in range(max(sizes) + 1) if sum(min(x, size) for size in sizes) <= target)


def one_by_one(sizes: dict[Path, int], budget: int, seed: int, step: str) -> dict[Path, int]:
    """Gives a record to each child in turn, in the order of their draws, until the budget is spent."""
    children: dict[str, dict[Path, int]] = defaultdict(dict)
    for path, size in sizes.items():
        children[path[0]][path[1:]] = size
    return _in_turn(children, (), budget, seed, step)


def _in_turn(
    children: dict[str, dict[Path, int]], above: Path, budget: int, seed: int, step: str
) -> dict[Path, int]:
    def draw(name: str) -> int:
        path = "/".join(part.replace("\\", "\\\\").replace("/", "\\/") for part in (*above, name))
        return xxhash.xxh3_64_intdigest(f"{seed}\0{step}\0{path}".encode())

    room = {name: sum(below.values()) for name, below in children.items()}
    given = dict.fromkeys(children, 0)
    while budget > 0 and any(given[name] < room[name] for name in given):
        for name in sorted(children, key=draw):
            if given[name] < room[name] and budget > 0:
                given[name] += 1
                budget -= 1
    found: dict[Path, int] = {}
    for name, below in children.items():
        path = (*above, name)
        if () in below:
            found[path] = given[name]
            continue
        deeper: dict[str, dict[Path, int]] = defaultdict(dict)
        for rest, size in below.items():
            deeper[rest[0]][rest[1:]] = size
        found |= _in_turn(deeper, path, given[name], seed, step)
    return found


@given(sizes=TREES, budget=st.integers(0, 90), seed=st.integers(-1, 3))
@settings(max_examples=300, deadline=None)
def test_a_budget_is_divided_as_if_each_cluster_gave_one_record_in_turn(
    sizes: dict[Path, int], budget: int, seed: int
) -> None:
    shares = share_out(sizes, budget, seed, "even")
    assert shares == one_by_one(sizes, budget, seed, "even")
    assert sum(shares.values()) == min(budget, sum(sizes.values()))


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12), target=st.integers(0, 200))
@settings(max_examples=300, deadline=None)
def test_on_one_level_each_gives_the_papers_cut_or_one_more(sizes: list[int], target: int) -> None:
    shares = share_out({(str(n),): size for n, size in enumerate(sizes)}, target, 0, "even")
    given_ = [shares[(str(n),)] for n in range(len(sizes))]
    if sum(sizes) <= target:
        assert given_ == sizes
        return
    cut = best_cut(sizes, target)
    rest = target - sum(min(cut, size) for size in sizes)
    more = [n for n in range(len(sizes)) if given_[n] == min(cut, sizes[n]) + 1]
    assert len(more) == rest
    assert all(sizes[n] > cut for n in more)
    assert sum(given_) == target


def test_the_example_of_three_levels() -> None:
    sizes = {("a", "x"): 100, ("a", "y"): 2, ("b", "x"): 3, ("c", "x"): 50, ("c", "y"): 50, ("c", "z"): 1}
    assert share_out(sizes, 33, 0, "s") == {
        ("a", "x"): 13,
        ("a", "y"): 2,
        ("b", "x"): 3,
        ("c", "x"): 7,
        ("c", "y"): 7,
        ("c", "z"): 1,
    }


@given(st.lists(st.tuples(NAMES, NAMES), max_size=20))
def test_a_path_gives_its_clusters_back(paths: list[Path]) -> None:
    columns = [pa.array([path[level] for path in paths], pa.string()) for level in (0, 1)]
    assert [split(path) for path in join(columns).to_pylist()] == paths


RECORDS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, None]),
        st.sampled_from(["x", "y", "a/b", None]),
        st.sampled_from([None, 0.1, 0.5, 0.5, 0.9, float("nan")]),
    ),
    max_size=50,
)


def batch_of(records: list[tuple[Any, Any, Any]]) -> pa.RecordBatch:
    count = len(records)
    top, low, score = zip(*records, strict=True) if records else ((), (), ())
    return pa.record_batch(
        {
            "id": pa.array([f"r{number % 7}" for number in range(count)], pa.string()),
            "position": pa.array(np.arange(count, dtype=np.uint64) + (3 << 32)),
            "cluster_2": pa.array(top, pa.int32()),
            "cluster": pa.array(low, pa.string()),
            "near": pa.array(score, pa.float32()),
        }
    )


def sampled(
    rows: list[dict[str, Any]], budget: int, on_null: str, seed: int
) -> tuple[set[int], dict[int, str]]:
    """Positions that stay, and why the others do not: all records of a cluster sorted, the first taken."""
    members: dict[Path, list[dict[str, Any]]] = defaultdict(list)
    kept, lost = set(), {}
    for row in rows:
        unscored = row["near"] is None or row["near"] != row["near"]
        lacking = row["cluster_2"] is None or row["cluster"] is None
        if (lacking or unscored) and on_null == "keep":
            kept.add(row["position"])
        elif lacking or unscored:
            lost[row["position"]] = "no_cluster" if lacking else "null_score"
        if not lacking:
            members[str(row["cluster_2"]), row["cluster"]] += [] if unscored else [row]
    shares = one_by_one({path: len(group) for path, group in members.items()}, budget, seed, "even")
    for path, group in members.items():
        group.sort(key=lambda row: (-row["near"], row["id"], row["position"]))
        kept |= {row["position"] for row in group[: shares[path]]}
        lost |= {row["position"]: "over_share" for row in group[shares[path] :]}
    return kept, lost


@given(
    records=RECORDS,
    amount=st.one_of(
        st.tuples(st.just("budget"), st.integers(0, 60)), st.tuples(st.just("top"), st.just(0.29))
    ),
    on_null=st.sampled_from(["drop", "keep"]),
    seed=st.integers(0, 2),
    edges=st.lists(st.integers(0, 1000), max_size=4),
    backwards=st.booleans(),
    collect_rows=st.sampled_from([1, 3, 1000]),
)
@settings(max_examples=150, deadline=None)
def test_the_best_of_each_cluster_stay_however_the_corpus_is_cut(
    decide: Any,
    records: list[tuple[Any, Any, Any]],
    amount: tuple[str, Any],
    on_null: Any,
    seed: int,
    edges: list[int],
    backwards: bool,
    collect_rows: int,
) -> None:
    selector = HierarchicalSelector(
        "near",
        ["cluster_2", "cluster"],
        seed=seed,
        step="even",
        on_null=on_null,
        **{amount[0]: amount[1]},
    )
    batch = batch_of(records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "COLLECT_ROWS", collect_rows)
        _, rows = decide(selector, batch, edges, backwards)
    positions = batch["position"].to_pylist()
    budget = amount[1] if amount[0] == "budget" else len(records) * 29 // 100
    kept, lost = sampled(batch.to_pylist(), budget, on_null, seed)
    assert {position for position, row in zip(positions, rows, strict=True) if row["keep"]} == kept
    assert {p: row["reason"] for p, row in zip(positions, rows, strict=True) if not row["keep"]} == lost
    told = [str(row["near"]) for row in batch.to_pylist() if row["near"] in (0.5, None)]
    shown = [row["value"] for row in rows]
    assert [v for v in shown if v in ("0.5", None)] == [None if v == "None" else v for v in told]


def test_a_missing_cluster_or_score_fails_where_the_job_says_so(decide: Any) -> None:
    selector = HierarchicalSelector("near", ["cluster_2", "cluster"], budget=1, step="even", on_null="fail")
    with pytest.raises(
        NullScoreError, match="step even: record r1 has no cluster_2 or no cluster, and on_null"
    ):
        decide(selector, batch_of([(1, "x", 0.5), (1, None, 0.5)]))
    with pytest.raises(NullScoreError, match="step even: record r0 has no near, and on_null is fail"):
        decide(selector, batch_of([(1, "x", None)]))


def test_arguments_without_meaning_are_refused() -> None:
    with pytest.raises(ValueError, match="within names no column"):
        HierarchicalSelector("near", [], budget=1)
    with pytest.raises(ValueError, match="give either top"):
        HierarchicalSelector("near", ["cluster"])
    with pytest.raises(ValueError, match="column near holds float; group by"):
        HierarchicalSelector("near", ["near"], budget=1).update(
            prefix.empty_state(), batch_of([(1, "x", 0.5)]), None
        )
