"""Even samples of clusters of clusters in whole jobs, against the division of all records in plain Python."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import xxhash
from test_cluster import clouds, job, run
from test_dedup_clusters import ledger
from test_whole_jobs import shards, split_input
from thresher.pipeline.selectors.hierarchical import share_out

SCORER = '''\
import json

import pyarrow as pa
from thresher.scorers import Scorer


class Given(Scorer):
    """Two clusters and a number that stand in the text."""

    version = 1
    inputs = ("text",)
    outputs = {"upper": pa.int32(), "lower": pa.int32(), "near": pa.float32()}

    def score(self, batch):
        rows = [json.loads(text) for text in batch.column("text").to_pylist()]
        columns = zip(*rows, strict=True) if rows else ((), (), ())
        return {name: pa.array(c, t) for c, (name, t) in zip(columns, self.outputs.items(), strict=True)}
'''
Row = tuple[int | None, int | None, float]


def tree(count: int, seed: int = 0) -> dict[str, Row]:
    """Records of a lopsided hierarchy: which clusters each is in, and a score that some share."""
    draw = random.Random(seed)
    found: dict[str, Row] = {}
    for number in range(count):
        upper = min(int(draw.expovariate(0.8)), 5)
        lower = 10 * upper + min(int(draw.expovariate(0.5)), 4)
        row: Row = (upper, lower, draw.randrange(20) / 4)
        found[f"r{number:03d}"] = (None, None, 0.0) if number % 17 == 5 else row
    return found


def write(rows: dict[str, Row], folder: Path, files: int = 4) -> str:
    folder.mkdir(exist_ok=True)
    (folder.parent / "tree.py").write_text(SCORER)
    records = [{"id": name, "text": json.dumps(row)} for name, row in rows.items()]
    return split_input(records, folder, files)


def tree_job(folder: Path, source: str, name: str, options: Any, part: str = "400B", **step: Any) -> Any:
    described = job(folder, source, name, part=part)
    described["steps"] = [
        {"score": {"tree:Given": {}}, "as": "c", "on_null": "keep"},
        {"hierarchical_sample": {"within": ["c_upper", "c_lower"], **options}, **step},
    ]
    return described


def even(rows: dict[str, Row], budget: int, rank: Any, step: str = "hierarchical_sample") -> set[str]:
    """The ids that stay: of each lowest cluster its share, the largest rank first."""
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, (upper, lower, _) in rows.items():
        if lower is not None:
            members[str(upper), str(lower)].append(name)
    shares = share_out({path: len(names) for path, names in members.items()}, budget, 0, step)
    return {
        name
        for path, names in members.items()
        for name in sorted(names, key=lambda name: (-rank(name), name))[: shares[path]]
    }


@pytest.mark.parametrize("by", ["c_near", None])
def test_each_cluster_gives_its_share_however_the_corpus_is_cut(tmp_path: Path, by: str | None) -> None:
    rows = tree(160)
    source = write(rows, tmp_path / "in")

    def rank(name: str) -> float:
        return rows[name][2] if by else xxhash.xxh3_64_intdigest(f"0\0hierarchical_sample\0{name}".encode())

    expected = even(rows, 60, rank)
    assert len(expected) == 60
    for name, part, partition_bytes in (("one", "1MB", None), ("many", "300B", 2000)):
        options = {"budget": 60, **({"by": by} if by else {})}
        (told,) = run(tree_job(tmp_path, source, name, options, part=part), partition_bytes)
        assert {row["id"] for row in shards(tmp_path / name)} == expected
        assert told.startswith("hierarchical_sample: 60 records of ")
        lost = {row["id"]: row["reason"] for row in ledger(tmp_path / name)}
        assert lost == {
            name: "no_cluster" if row[1] is None else "over_share"
            for name, row in rows.items()
            if name not in expected
        }


def test_a_share_is_of_all_records_and_what_has_no_cluster_may_stay(tmp_path: Path) -> None:
    rows = tree(100)
    source = write(rows, tmp_path / "in")
    without = {name for name, row in rows.items() if row[1] is None}
    options = {"top": "35%", "by": "c_near"}
    run(tree_job(tmp_path, source, "out", options, on_null="keep"))
    expected = even(rows, 35, lambda name: rows[name][2]) | without
    assert {row["id"] for row in shards(tmp_path / "out")} == expected
    assert without


def test_a_budget_beyond_the_corpus_keeps_it(tmp_path: Path) -> None:
    rows = tree(30)
    source = write(rows, tmp_path / "in")
    run(tree_job(tmp_path, source, "out", {"budget": 1000}))
    assert {row["id"] for row in shards(tmp_path / "out")} == {
        n for n, row in rows.items() if row[1] is not None
    }


def test_a_hierarchy_of_embeddings_is_sampled_evenly(tmp_path: Path) -> None:
    source = split_input(clouds(200, groups=3), tmp_path / "in", 3)
    cluster = {"cluster": {"of": "vector", "clusters": [12, 3]}}
    sample = {"within": ["cluster_2", "cluster"], "budget": 45, "by": "cluster_similarity"}
    described = job(tmp_path, source, "out", cluster, {"hierarchical_sample": sample}, part="3KB")
    run(described)
    upper = Counter(row["cluster_2"] for row in shards(tmp_path / "out"))
    run(job(tmp_path, source, "all", cluster))
    sizes = Counter(row["cluster_2"] for row in shards(tmp_path / "all"))
    assert sum(upper.values()) == 45
    assert all(count == min(15, sizes[number]) for number, count in upper.items())
