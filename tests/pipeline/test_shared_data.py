"""A job like the README's on real crawls: accounts, and the same bytes twice."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import thresher
from fastwarc.warc import ArchiveIterator


def job(shared_data: Path, out: Path, workers: int) -> dict[str, Any]:
    return {
        "name": "cc-english",
        "input": [
            {"path": str(shared_data / "web" / "warc" / "*.warc.gz")},
            {"path": str(shared_data / "web" / "warc" / "*.wet.gz")},
            {"path": str(shared_data / "text" / "*.jsonl.gz")},
        ],
        "steps": [
            {"extract": "resiliparse"},
            {"language": {"keep": ["en"], "min_score": 0.65}},
            {"filter": "gopher_repetition"},
            {"filter": {"gopher_quality": {"min_words": 60}}},
            {"rule": "word_count < 100000", "name": "not_a_book"},
            {"dedup": {"minhash": {"bands": 14, "rows": 8, "ngram": 5, "keep": "longest"}}},
            {"dedup": {"exact": {"on": "url"}}},
            {"select": {"top": "90%", "by": "stop_word_count", "within": "lang", "unit": "characters"}},
        ],
        "output": {"path": str(out), "shard": "20KB", "shuffle": "parts"},
        "run": {"workers": workers, "work": str(out.parent / f"{out.name}-work")},
    }


def digests(out: Path) -> dict[str, str]:
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "job.yaml"]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(out: Path) -> list[dict[str, Any]]:
    shards = json.loads((out / "manifest.json").read_text())["shards"]
    return [row for shard in shards for row in pq.read_table(out / shard["path"]).to_pylist()]


@pytest.fixture(scope="module")
def out(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shared") / "out"
    thresher.run(thresher.load(job(shared_data, out, workers=2)))
    return out


def test_every_page_and_line_of_real_crawls_is_in_the_accounts(shared_data: Path, out: Path) -> None:
    totals = json.loads((out / "manifest.json").read_text())["totals"]
    ledger = pq.read_table(out / "ledger").to_pylist()
    kept = rows(out)
    lines = 0
    for path in (shared_data / "text").glob("*.jsonl.gz"):
        with gzip.open(path) as file:
            lines += len(file.readlines())
    containers: Counter[str] = Counter()
    for path in (shared_data / "web" / "warc").glob("*.gz"):
        containers["file"] += 1
        with path.open("rb") as stream:
            containers["warc_record"] += sum(1 for _ in ArchiveIterator(stream))
    containers["file"] += len(list((shared_data / "text").glob("*.jsonl.gz")))
    assert {kind: counts["in"] for kind, counts in totals["containers"].items()} == dict(containers)
    found = totals["containers"]["warc_record"]["read"]
    assert totals["in"] == lines + found
    assert totals["in"] == len(kept) + len(ledger)
    assert totals["kept"] == totals["written"] == len(kept) > 10
    assert Counter(row["source"] for row in kept + ledger).most_common(1)[0][1] == 1
    for step in totals["steps"]:
        lost = sum(step["dropped"].values()) + step["duplicates"] + sum(step["errors"].values())
        assert step["in"] == step["kept"] + lost
        assert sum(row["step"] == step["step"] for row in ledger) == lost
    by_verdict = Counter(row["verdict"] for row in ledger)
    assert by_verdict["dropped"] == sum(sum(reasons.values()) for reasons in totals["dropped"].values())
    assert by_verdict["duplicate"] == sum(totals["duplicates"].values())
    assert by_verdict["error"] == sum(totals["errors"].values())


def test_what_is_kept_is_what_the_steps_ask_for(out: Path) -> None:
    kept = rows(out)
    assert all(row["lang"] == "en" and row["lang_score"] >= 0.65 for row in kept)
    assert all(len(row["text"].split()) >= 60 for row in kept)
    assert len({row["text"] for row in kept}) == len(kept)
    # Records of both kinds come through: pages that were extracted and lines that came with text.
    formats = Counter(row["source"].rpartition(":")[0].rsplit(".", 2)[1] for row in kept)
    assert formats["jsonl"] > 10
    assert formats["warc"] > 0
    titled = [row for row in kept if ".warc.gz" in row["source"]]
    assert any("title" in json.loads(row["meta"]) for row in titled)
    lines = [json.loads(row["meta"]) for row in kept if ".jsonl" in row["source"]]
    assert all("perplexity" in meta["metadata"] for meta in lines)


def test_a_copy_in_the_ledger_names_the_record_that_stands_for_it(out: Path) -> None:
    ledger = pq.read_table(out / "ledger").to_pylist()
    known = {row["id"] for row in [*rows(out), *ledger]}
    duplicates = [row for row in ledger if row["verdict"] == "duplicate"]
    assert duplicates
    assert all(row["value"] in known for row in duplicates)


def test_two_runs_write_the_same_bytes(shared_data: Path, out: Path, tmp_path: Path) -> None:
    again = tmp_path / "out"
    thresher.run(thresher.load(job(shared_data, again, workers=1)))
    assert digests(again) == digests(out)
    assert len(list(again.glob("shard-*.parquet"))) > 2
