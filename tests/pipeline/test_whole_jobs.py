"""Whole text jobs: the accounts, the identity of the output, and what a plain definition would keep."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import corpus
import pyarrow.parquet as pq
import pytest
import thresher


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    return corpus.rows(300)


def output_digest(out: Path) -> dict[str, str]:
    """SHA-256 of every file of an output."""
    files = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def split_input(records: list[dict[str, Any]], folder: Path, files: int) -> str:
    size = -(-len(records) // files)
    for number in range(files):
        corpus.write(folder / f"part-{number:02d}.jsonl", records[number * size : (number + 1) * size])
    return str(folder / "*.jsonl")


def shards(out: Path) -> list[dict[str, Any]]:
    manifest = json.loads((out / "manifest.json").read_text())
    return [row for shard in manifest["shards"] for row in pq.read_table(out / shard["path"]).to_pylist()]


def test_every_line_is_in_the_accounts_and_every_lost_record_in_the_ledger(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    good = [json.dumps({"id": f"g{n}", "text": corpus.document(n)}) for n in range(2)]
    source.write_text(
        "\n".join([good[0], '{"text": "broken', "", '{"id": "x", "body": "no text"}', good[1]]) + "\n"
    )
    result = thresher.run(thresher.load(corpus.job(str(source), tmp_path / "out") | {"steps": []}))
    assert result.totals["in"] == 5
    assert result.totals["kept"] == 2
    assert result.totals["errors"] == {"empty_line": 1, "invalid_json": 1, "missing_text": 1}
    ledger = pq.read_table(tmp_path / "out" / "ledger").to_pylist()
    assert sorted(row["reason"] for row in ledger) == ["empty_line", "invalid_json", "missing_text"]
    assert {row["verdict"] for row in ledger} == {"error"}
    assert [row["id"] for row in shards(tmp_path / "out")] == ["g0", "g1"] or {
        row["id"] for row in shards(tmp_path / "out")
    } == {"g0", "g1"}


def test_the_accounts_of_a_job_add_up_and_the_ledger_holds_exactly_the_rest(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    out = tmp_path / "out"
    result = thresher.run(thresher.load(corpus.job(split_input(records, tmp_path / "in", 3), out)))
    totals = result.totals
    dropped = sum(sum(reasons.values()) for reasons in totals["dropped"].values())
    duplicates = sum(totals["duplicates"].values())
    assert totals["in"] == len(records)
    assert totals["in"] == totals["kept"] + dropped + duplicates + sum(totals["errors"].values())
    kept = [row["id"] for row in shards(out)]
    lost = pq.read_table(out / "ledger").column("id").to_pylist()
    assert Counter(kept) + Counter(lost) == Counter(record["id"] for record in records)
    assert len(kept) == totals["kept"] == totals["written"]
    for step in totals["steps"]:
        gone = sum(step["dropped"].values()) + step["duplicates"] + sum(step["errors"].values())
        assert step["in"] + step["added"] == step["kept"] + gone
    for before, after in zip(totals["steps"], totals["steps"][1:], strict=False):
        assert before["kept"] == after["in"]


def test_copies_go_and_each_leaves_the_id_of_the_record_that_stands_for_it(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    out = tmp_path / "out"
    job = corpus.job(split_input(records, tmp_path / "in", 2), out)
    job["steps"] = [{"dedup": "exact"}, {"dedup": {"minhash": {"bands": 32, "rows": 4, "keep": "longest"}}}]
    thresher.run(thresher.load(job))
    kept = {row["id"]: row["text"] for row in shards(out)}
    texts = {record["id"]: record["text"] for record in records}
    assert len(set(kept.values())) == len(kept)
    ledger = pq.read_table(out / "ledger").to_pylist()
    assert {row["verdict"] for row in ledger} == {"duplicate"}
    for row in ledger:
        if row["step"] == "dedup:exact":
            assert texts[row["value"]] == texts[row["id"]]
            assert row["value"] < row["id"]  # equal length: the least id survives
        else:
            assert len(texts[row["value"]]) >= len(texts[row["id"]])
    exact_groups = Counter(texts.values())
    assert sum(row["step"] == "dedup:exact" for row in ledger) == sum(n - 1 for n in exact_groups.values())
    # Every near copy differs from its base in one word of about 120: all are found with 32 bands of 4.
    near = {id_ for id_ in texts if id_.startswith("n")}
    for id_ in near & set(kept):
        assert id_.replace("n", "d") not in kept


def test_select_keeps_the_longest_until_the_next_would_exceed(tmp_path: Path) -> None:
    records = [{"id": f"r{n:03d}", "text": " ".join(["word"] * (n + 1))} for n in range(100)]
    job = corpus.job(str(corpus.write(tmp_path / "in.jsonl", records)), tmp_path / "out")
    job["steps"] = [{"select": {"top": "10%", "by": "word_count", "unit": "characters"}}]
    thresher.run(thresher.load(job))
    budget, expected = sum(len(r["text"]) for r in records) // 10, []
    for record in reversed(records):
        if budget < len(record["text"]):
            break
        budget -= len(record["text"])
        expected.append(record["id"])
    assert sorted(row["id"] for row in shards(tmp_path / "out")) == sorted(expected)


@pytest.mark.parametrize("shuffle", ["none", "parts", "global"])
def test_one_and_two_workers_write_the_same_bytes(
    tmp_path: Path, records: list[dict[str, Any]], shuffle: str
) -> None:
    source = split_input(records, tmp_path / "in", 4)
    digests = []
    for workers in (1, 2):
        out = tmp_path / "out"
        job = corpus.job(source, out, workers=workers)
        job["output"]["shuffle"] = shuffle
        job["run"]["work"] = str(tmp_path / f"work-{workers}")
        thresher.run(thresher.load(job))
        (out / "job.yaml").unlink()  # names the work directory
        digests.append(output_digest(out))
    assert digests[0] == digests[1]
    assert len([name for name in digests[0] if name.startswith("shard-")]) > 1


def test_the_input_cut_into_other_files_keeps_the_same_records(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    kept = []
    for files in (1, 3, 7):
        out = tmp_path / f"out-{files}"
        thresher.run(thresher.load(corpus.job(split_input(records, tmp_path / f"in-{files}", files), out)))
        kept.append({row["id"]: row["text"] for row in shards(out)})
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) > 30


def test_a_second_run_finds_everything_done(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    class Watch:
        started: list[tuple[str, int, int]] = []  # noqa: RUF012

        def stage_started(self, name: str, tasks: int, done: int, bytes: int) -> None:
            self.started.append((name, tasks, done))

        def task_done(self, name: str, records_in: int, records_out: int, bytes: int) -> None: ...
        def stage_finished(self, name: str) -> None: ...
        def note(self, message: str) -> None: ...

    job = thresher.load(corpus.job(split_input(records, tmp_path / "in", 2), tmp_path / "out"))
    thresher.run(job)
    before = output_digest(tmp_path / "out")
    watch = Watch()
    thresher.run(job, listener=watch)
    assert output_digest(tmp_path / "out") == before
    assert all(tasks == done for _, tasks, done in watch.started)
    assert len(watch.started) > 10


def test_repeated_ids_are_counted(tmp_path: Path) -> None:
    records = [{"id": "same", "text": corpus.document(n)} for n in range(3)]
    records += [{"id": "own", "text": corpus.document(9)}]
    job = corpus.job(split_input(records, tmp_path / "in", 2), tmp_path / "out") | {"steps": []}
    assert thresher.run(thresher.load(job)).totals["repeated_ids"] == 2


@pytest.mark.parametrize("share", ["full", "sampled", "counts"])
def test_the_ledger_holds_as_much_as_the_job_says(
    tmp_path: Path, records: list[dict[str, Any]], share: str
) -> None:
    job = corpus.job(split_input(records, tmp_path / "in", 1), tmp_path / "out", ledger=share)
    result = thresher.run(thresher.load(job))
    rows = pq.read_table(tmp_path / "out" / "ledger").num_rows
    lost = result.totals["in"] - result.totals["kept"]
    assert {"full": rows == lost, "sampled": rows < lost / 4, "counts": rows == 0}[share]


def test_a_file_that_changes_after_the_start_is_refused(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    from thresher.pipeline.ingest import JobRefused

    source = corpus.write(tmp_path / "in.jsonl", records[:20])
    job = thresher.load(corpus.job(str(source), tmp_path / "out"))
    thresher.run(job)
    corpus.write(source, records[:30])
    with pytest.raises(JobRefused, match=r"in\.jsonl has changed"):
        thresher.run(job)


def test_a_quick_look_reads_so_many_records_and_leaves_the_output_alone(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    job = thresher.load(corpus.job(split_input(records, tmp_path / "in", 3), tmp_path / "out"))
    result = thresher.run(job, limit=150)
    assert result.totals["in"] == 150
    assert Path(result.output) == tmp_path / "out" / "limit-150"
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_threshold_over_signals_drops_with_the_value_that_decided(tmp_path: Path) -> None:
    records = [{"id": "long", "text": corpus.document(1)}, {"id": "short", "text": "only four words here"}]
    job = corpus.job(str(corpus.write(tmp_path / "in.jsonl", records)), tmp_path / "out")
    job["steps"] = [{"filter": {"gopher_quality": {"min_words": 10}}}]
    thresher.run(thresher.load(job))
    (row,) = pq.read_table(tmp_path / "out" / "ledger").to_pylist()
    assert (row["id"], row["step"], row["verdict"]) == ("short", "filter:gopher_quality", "dropped")
    assert (row["reason"], row["value"]) == ("too_few_words", "4")
