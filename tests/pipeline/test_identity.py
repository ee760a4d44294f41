"""One job, one output: whatever the workers, the parts and the partitions, and whatever ran before."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import corpus
import pyarrow.parquet as pq
import pytest
import thresher
from inline_engine import inline_tasks
from test_whole_jobs import output_digest, shards


def run(job: dict[str, Any], partition_bytes: int | None = None) -> dict[str, str]:
    """The digests of what a job writes, with its tasks in this process."""
    with inline_tasks(), pytest.MonkeyPatch.context() as patch:
        if partition_bytes:
            patch.setattr("thresher.pipeline.driver.PARTITION_BYTES", partition_bytes)
        thresher.run(thresher.load(job))
    return output_digest(Path(job["output"]["path"]))


def moved(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The job with another output and another work directory."""
    job = copy.deepcopy(job)
    job["output"]["path"], job["run"]["work"] = str(folder / "out"), str(folder / "work")
    return job


def data(digest: dict[str, str]) -> dict[str, str]:
    """Of an output, what must not depend on where it lies or how it ran: shards, ledger, containers."""
    return {name: value for name, value in digest.items() if name.endswith(".parquet")}


def lost(out: Path) -> list[dict[str, Any]]:
    rows = pq.read_table(out / "ledger").to_pylist()
    return sorted(({**row, "position": None} for row in rows), key=lambda row: row["source"])


def test_every_step_of_the_job_has_something_to_do(tmp_path: Path) -> None:
    run(corpus.full_job(tmp_path))
    totals = json.loads((tmp_path / "out" / "manifest.json").read_text())["totals"]
    figures = {step["step"]: step.get("figures") or {} for step in totals["steps"]}
    idle = {
        step["step"] for step in totals["steps"] if step["kept"] == step["in"] and not figures[step["step"]]
    }
    assert idle == {"input:crawl", "input:wiki", "signals"}
    assert totals["kept"] > 10
    assert {row["id"][:2] for row in shards(tmp_path / "out")} == {"p1", "p2"}


def test_one_worker_and_two_write_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for workers in (1, 2):
        job = moved(corpus.full_job(tmp_path, workers=workers), tmp_path / f"of-{workers}")
        thresher.run(thresher.load(job))
        found.append(data(output_digest(tmp_path / f"of-{workers}" / "out")))
    assert len(found[0]) > 5
    assert found[0] == found[1]


@pytest.mark.parametrize(("part", "partition_bytes"), [("3KB", 2000), ("64MB", None), ("20KB", 500)])
def test_the_size_of_parts_and_partitions_changes_no_shard_and_no_fate(
    tmp_path: Path, part: str, partition_bytes: int | None
) -> None:
    job = corpus.full_job(tmp_path)
    job["output"]["shuffle"] = "none"
    expected = run(job)
    other = moved(job, tmp_path / "other")
    other["run"]["part"] = part
    found = run(other, partition_bytes)
    assert lost(tmp_path / "out") == lost(tmp_path / "other" / "out")
    assert shards(tmp_path / "out") == shards(tmp_path / "other" / "out")
    names = {name for name in expected if name.startswith("shard-")}
    assert {name: expected[name] for name in names} == {name: found.get(name) for name in names}


CHANGES: dict[str, dict[str, Any]] = {
    "filter": {"filter": {"gopher_quality": {"min_words": 82}}},
    "edit": {"edit": {"pii": {"kinds": ["ip"]}}},
    "lines": {"dedup": {"lines": {"keep": "none"}}},
    "minhash": {"dedup": {"minhash": {"bands": 2, "rows": 8, "ngram": 3}}},
    "bucket": {"bucket": {"by": "word_count", "keep": ["tail"]}},
    "select": {"select": {"top": "30%", "within": "bucket", "by": "mean_word_length"}},
    "mix": {"mix": {"caps": {"crawl": 9}}},
}


@pytest.mark.slow
def test_thresholds_that_change_and_change_back_leave_what_a_fresh_run_leaves(tmp_path: Path) -> None:
    job = corpus.full_job(tmp_path)
    first = run(job)
    seen = [data(first)]
    for name, step in CHANGES.items():
        changed = copy.deepcopy(job)
        ((verb, _),) = step.items()
        (place,) = [
            number
            for number, one in enumerate(job["steps"])
            if verb in one and (verb != "dedup" or next(iter(one["dedup"])) in step["dedup"])
        ]
        changed["steps"][place] = step
        seen.append(data(run(changed)))
        assert seen[-1] != seen[0], name
        if name in ("edit", "lines", "bucket"):
            assert seen[-1] == data(run(moved(changed, tmp_path / name))), name
    assert run(job) == first


def test_an_input_s_own_threshold_that_changes_back_leaves_what_was_there(tmp_path: Path) -> None:
    job = corpus.full_job(tmp_path)
    first = run(job)
    changed = copy.deepcopy(job)
    changed["input"][1]["steps"] = [{"sample": "40%"}]
    other = run(changed)
    assert data(other) == data(run(moved(changed, tmp_path / "fresh")))
    assert data(other) != data(first)
    assert run(job) == first
