"""Several inputs in one job, each with steps of its own before the common ones."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import corpus
import pyarrow.parquet as pq
import pytest
import thresher
from thresher.jobs.problems import JobFileError


def shards(out: Path) -> list[dict[str, Any]]:
    manifest = json.loads((out / "manifest.json").read_text())
    return [row for shard in manifest["shards"] for row in pq.read_table(out / shard["path"]).to_pylist()]


def sources(folder: Path) -> tuple[Path, Path]:
    """A crawl with copies of its own and of the books, and books."""
    books = [{"id": f"b{n}", "text": corpus.document(1000 + n)} for n in range(40)]
    crawl = [{"id": f"c{n}", "text": corpus.document(n % 30), "n": n} for n in range(50)]
    crawl += [{"id": f"x{n}", "text": books[n]["text"]} for n in range(10)]
    return corpus.write(folder / "crawl.jsonl", crawl), corpus.write(folder / "books.jsonl", books)


def job(folder: Path, **more: Any) -> dict[str, Any]:
    crawl, books = sources(folder)
    return {
        "name": "two",
        "input": [
            {"name": "crawl", "path": str(crawl), "steps": [{"dedup": {"exact": {"keep": "first"}}}]},
            {"name": "books", "path": str(books), "steps": [{"sample": "50%"}]},
        ],
        "steps": [{"dedup": {"exact": {"keep": "first"}}}],
        "output": {"path": str(folder / "out")},
        "run": {"workers": 2, "part": "5KB"},
    } | more


def test_own_steps_see_the_records_of_their_input_alone_and_common_steps_see_all(tmp_path: Path) -> None:
    result = thresher.run(thresher.load(job(tmp_path)))
    steps = {step["step"]: step for step in result.totals["steps"]}
    assert list(steps) == [
        "input:crawl",
        "crawl.dedup:exact",
        "input:books",
        "books.sample",
        "dedup:exact",
    ]
    assert steps["input:crawl"]["in"] == 60
    assert steps["input:books"]["in"] == 40
    assert steps["crawl.dedup:exact"]["duplicates"] == 20
    sampled = {f"b{n}" for n in range(40)} & {row["id"] for row in shards(tmp_path / "out")} | duplicates(
        tmp_path / "out", "dedup:exact"
    )
    assert steps["books.sample"]["kept"] == len(sampled)
    # The crawl comes first, so that of a text in both the crawl's copy stays.
    assert duplicates(tmp_path / "out", "dedup:exact") == {name for name in sampled if int(name[1:]) < 10}
    assert result.totals["in"] == 100
    assert result.totals["kept"] == len(shards(tmp_path / "out"))


def duplicates(out: Path, step: str) -> set[str]:
    rows = pq.read_table(out / "ledger").to_pylist()
    return {row["id"] for row in rows if row["verdict"] == "duplicate" and row["step"] == step}


def test_a_column_that_only_one_input_makes_is_null_for_the_others(tmp_path: Path) -> None:
    described = job(tmp_path)
    described["input"][0]["steps"] = [{"language": {"keep": ["en"], "min_score": 0.0}}]
    described["steps"] = []
    thresher.run(thresher.load(described))
    rows = shards(tmp_path / "out")
    found = Counter((row["id"][0] == "b", row["lang"]) for row in rows)
    assert set(found) <= {(True, None), (False, "en")}
    assert found[True, None] > 0


def test_a_common_step_cannot_read_what_one_input_does_not_have(tmp_path: Path) -> None:
    described = job(tmp_path)
    described["input"][0]["steps"] = [{"language": {"keep": ["en"]}}]
    described["steps"] = [{"rule": "lang_score > 0.9"}]
    with pytest.raises(JobFileError, match="makes it for the records of input books"):
        thresher.load(described)


def test_a_rule_can_ask_for_the_input_of_a_record(tmp_path: Path) -> None:
    described = job(tmp_path)
    described["steps"] = [{"rule": 'input == "books"'}]
    thresher.run(thresher.load(described))
    assert {row["id"][0] for row in shards(tmp_path / "out")} == {"b"}


def test_inputs_without_names_are_numbered_and_names_are_unique(tmp_path: Path) -> None:
    described = job(tmp_path)
    for source in described["input"]:
        del source["name"]
    assert [source.name for source in thresher.load(described).input] == ["input_1", "input_2"]
    described["input"][0]["name"] = described["input"][1]["name"] = "same"
    with pytest.raises(JobFileError, match='two inputs have the name "same"'):
        thresher.load(described)


def test_the_output_does_not_depend_on_how_the_inputs_are_cut(tmp_path: Path) -> None:
    outputs = []
    for name, part, workers in (("a", "3KB", 2), ("b", "1MB", 1)):
        described = job(tmp_path / name)
        described["run"] = {"workers": workers, "part": part}
        thresher.run(thresher.load(described))
        outputs.append(shards(tmp_path / name / "out"))
    kept = [[(row["id"], row["text"]) for row in rows] for rows in outputs]
    assert kept[0] == kept[1]


def test_a_quick_look_takes_its_records_from_every_input(tmp_path: Path) -> None:
    described = job(tmp_path)
    result = thresher.run(thresher.load(described), limit=11)
    steps = {step["step"]: step for step in result.totals["steps"]}
    assert (steps["input:crawl"]["in"], steps["input:books"]["in"]) == (6, 5)
