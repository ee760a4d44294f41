"""The balance step in whole jobs: what is counted, what is kept, and how often."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import corpus
import pyarrow.parquet as pq
import pytest
import thresher
from test_dedup_clusters import ledger, run_inline
from test_whole_jobs import shards, split_input
from thresher.jobs.problems import JobFileError
from thresher.pipeline.planner import describe
from thresher.schemas.contracts import AssetError

ENTRIES = ["cat", "dog", "big dog", "New York", "sky", "unseen", "it's"]
SHARES = {"cat": 0.7, "big dog": 0.3, "New York": 0.1, "sky": 0.01}


def captions(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Captions with some of the entries, and some with none."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        some = [entry for entry, share in SHARES.items() if draw.random() < share]
        text = draw.choice([", ", " and "]).join(draw.sample(some, len(some))) or draw.choice(
            ["cats", "x", ""]
        )
        made.append({"id": f"c{number:05d}", "text": f"{text}{draw.choice(['', '.', ' it'])}"})
    return made


def found(text: str) -> list[str]:
    spaced = "".join(f" {c} " if c in ",.;:?!`" else c for c in f" {text} ")
    return [entry for entry in ENTRIES if f" {entry} " in spaced]


def balance_job(folder: Path, source: str, out: str, t: int, part: str = "2KB") -> dict[str, Any]:
    file = folder / "entries.txt"
    if not file.exists():
        file.write_text("\n".join(ENTRIES) + "\n")
    job = corpus.job(source, folder / out, part=part)
    job["steps"] = [{"balance": {"entries": str(file), "t": t}}]
    job["output"]["shuffle"] = "none"
    return job


def decided(job: Mapping[str, Any]) -> dict[str, tuple[int, float]]:
    """The captions and the probability of each entry that occurs, as the run has committed them."""
    stages = Path(job["run"]["work"]) / "stages"
    files = stages.glob("*-balance-counts-*/*.counts.*.parquet")
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert len({row["entry"] for row in rows}) == len(rows)
    assert all(ENTRIES[row["number"]] == row["entry"] for row in rows)
    return {row["entry"]: (row["captions"], row["probability"]) for row in rows}


def test_captions_are_counted_for_each_entry_and_kept_with_its_probability(tmp_path: Path) -> None:
    records = captions(4000)
    source, t = split_input(records, tmp_path / "in", 4), 250
    job = balance_job(tmp_path, source, "out", t, part="40KB")
    totals = run_inline(job).totals
    counts = Counter(entry for record in records for entry in found(record["text"]))
    probability = {entry: min(1.0, t / count) for entry, count in counts.items()}
    assert decided(job) == {entry: (counts[entry], probability[entry]) for entry in counts}
    chance = {
        record["id"]: 1 - math.prod(1 - probability[entry] for entry in found(record["text"]))
        for record in records
    }
    kept = {row["id"] for row in shards(tmp_path / "out")}
    told = {row["id"]: row for row in ledger(tmp_path / "out")}
    assert kept | told.keys() == chance.keys()
    assert len(kept) + len(told) == len(records)
    for id_, row in told.items():
        assert row["verdict"] == "dropped"
        assert row["reason"] == ("balanced" if chance[id_] else "no_entry")
        assert (float(row["value"]) if chance[id_] else row["value"]) == (
            pytest.approx(chance[id_]) if chance[id_] else None
        )
    # Sums of independent draws: within five standard deviations, for all and for each set of entries.
    groups = {frozenset(found(record["text"])) for record in records}
    for group in [None, *groups]:
        members = [r["id"] for r in records if group is None or frozenset(found(r["text"])) == group]
        expected = sum(chance[id_] for id_ in members)
        deviation = math.sqrt(sum(chance[id_] * (1 - chance[id_]) for id_ in members))
        assert abs(sum(id_ in kept for id_ in members) - expected) <= 5 * deviation + 1e-9
    assert totals["dropped"]["balance"] == Counter(row["reason"] for row in told.values())
    (step,) = [step for step in totals["steps"] if step["step"] == "balance"]
    assert step["figures"] == {"entries": len(counts), "entries_over_t": sum(c > t for c in counts.values())}


def test_the_same_records_stay_however_the_corpus_and_the_entries_are_ordered(tmp_path: Path) -> None:
    records = captions(300, seed=2)
    answers = []
    for number, (files, part, partition_bytes) in enumerate(
        ((1, "1MB", None), (7, "300B", 40), (3, "2KB", 16))
    ):
        order = random.Random(number).sample(records, len(records))
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "entries.txt").write_text("\n".join(random.Random(number).sample(ENTRIES, 7)))
        source = split_input(order, folder / "in", files)
        run_inline(balance_job(folder, source, "out", 40, part), partition_bytes)
        answers.append({row["id"] for row in shards(folder / "out")})
    assert answers[0] == answers[1] == answers[2]
    assert 40 < len(answers[0]) < 200


def test_a_larger_t_keeps_all_that_a_smaller_one_does_and_a_large_one_all_that_match(tmp_path: Path) -> None:
    records = captions(200, seed=5)
    source = split_input(records, tmp_path / "in", 2)
    kept = []
    for t in (5, 20, 60, 200):
        run_inline(balance_job(tmp_path, source, f"out-{t}", t))
        kept.append({row["id"] for row in shards(tmp_path / f"out-{t}")})
    assert kept[0] < kept[1] < kept[2] < kept[3]
    assert kept[3] == {record["id"] for record in records if found(record["text"])}


def test_the_seed_and_the_name_of_the_step_draw_anew(tmp_path: Path) -> None:
    source = split_input(captions(200, seed=6), tmp_path / "in", 2)
    kept = []
    for number, (seed, name) in enumerate(((0, "one"), (1, "one"), (0, "other"))):
        job = balance_job(tmp_path, source, f"out-{number}", 20)
        job["run"]["seed"], job["steps"][0]["name"] = seed, name
        run_inline(job)
        kept.append(frozenset(row["id"] for row in shards(tmp_path / f"out-{number}")))
    assert len(set(kept)) == 3


def test_a_changed_list_of_entries_is_searched_for_anew(tmp_path: Path) -> None:
    records = [{"id": "a", "text": "a cat"}, {"id": "b", "text": "a dog"}]
    job = balance_job(tmp_path, split_input(records, tmp_path / "in", 1), "out", 5)
    job["steps"][0]["balance"]["entries"] = "list.json"
    job["run"]["directory"] = str(tmp_path)
    for entry, kept in (("cat", "a"), ("dog", "b")):
        (tmp_path / "list.json").write_text(json.dumps([entry]))
        job["output"]["path"] = str(tmp_path / f"out-{entry}")
        run_inline(job)
        assert [row["id"] for row in shards(tmp_path / f"out-{entry}")] == [kept]


def test_a_list_that_cannot_be_used_is_named_before_anything_runs(tmp_path: Path) -> None:
    source = split_input(captions(2), tmp_path / "in", 1)
    job = balance_job(tmp_path, source, "out", 5)
    (tmp_path / "entries.txt").write_text("\n \n")
    with pytest.raises(AssetError, match=r"entries\.txt: has no entry"):
        describe(thresher.load(job))
    (tmp_path / "entries.txt").unlink()
    with pytest.raises(JobFileError, match=r"steps\[0\]\.balance\.entries: .*entries\.txt"):
        thresher.load(job)


def test_what_is_left_out_of_the_list_is_told(tmp_path: Path) -> None:
    (tmp_path / "entries.txt").write_text("cat\n\ncat\nSt. John\n")
    job = balance_job(tmp_path, split_input(captions(20), tmp_path / "in", 1), "out", 5)
    notes: list[str] = []

    class Noting:
        def note(self, message: str) -> None:
            notes.append(message)

        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: None

    from inline_engine import inline_tasks

    with inline_tasks():
        thresher.run(thresher.load(job), listener=Noting())
    file = tmp_path / "entries.txt"
    assert [note for note in notes if str(file) in note] == [
        f"balance: {file}: 1 empty and 1 repeated entries are left out",
        f"balance: {file}: 1 entries can be in no caption, for a mark (one of ,.;:?!`) is spaced there",
    ]
