"""Whole jobs do what a plain interpreter of their steps does, however input and stages are cut."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import corpus
import pyarrow.parquet as pq
import pytest
import reference
import thresher
from generated_inputs import BASES, PAGES, Source
from generated_jobs import Job, jobs
from hypothesis import HealthCheck, given, settings
from inline_engine import inline_tasks
from reference import Fate, NoProportion, NoValue, Record, World
from thresher.pipeline.selection import SelectionError
from thresher.pipeline.stage import TaskFailed

tokenizers = pytest.importorskip("tokenizers", reason="needs the package tokenizers")

BASE = {"id", "text", "url", "source", "date", "lang", "lang_score", "meta"}


def write_tokenizer(path: Path) -> None:
    """One whose tokens are the words between white space."""
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"unknown": 0}, unk_token="unknown"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save(str(path))


def run(folder: Path, sources: list[Source], steps: list[dict[str, Any]], job: Job, name: str) -> Any:
    spec = {
        "name": "compared",
        "input": [source.spec(folder / "in") for source in sources],
        "steps": steps,
        "output": {"path": str(folder / name), "shard": "2KB", "card": False},
        "run": {"workers": 2, "seed": 5, "directory": str(folder), "part": job.part},
    }
    return thresher.run(thresher.load(spec, allow_code=True), allow_code=True)


@contextmanager
def partitions_of(bytes_: int | None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if bytes_ is not None:
            patch.setattr("thresher.pipeline.driver.PARTITION_BYTES", bytes_)
        yield


def at_home(folder: Path, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps with the files that they name."""
    made = []
    for step in steps:
        step = dict(step)
        if "decontaminate" in step:
            path = folder / "eval" / f"{step['decontaminate']['against']}.jsonl"
            step["decontaminate"] = step["decontaminate"] | {"against": str(path)}
        for method, options in step.get("dedup", {}).items():
            if "against" in options:
                step["dedup"] = {method: options | {"against": str(folder / f"out-{options['against']}")}}
        made.append(step)
    return made


def prepare(folder: Path, job: Job) -> tuple[list[list[Record]], World]:
    """Writes and runs all that the job needs: what its inputs hold, and what its steps refer to."""
    (folder / "marks.py").write_text(reference.MARKS)
    write_tokenizer(folder / "tokenizer.json")
    for name, items in job.sets.items():
        corpus.write(folder / "eval" / f"{name}.jsonl", items)
    older = {}
    steps = [step for source in job.sources for step in source.steps] + job.steps
    for name, documents in job.older.items():
        earlier = Source(f"earlier-{name}", "jsonl", documents, [len(documents) // 2], [])
        older[name] = earlier.write(folder / "in")
        (step,) = [step for step in steps if step["name"] == name]
        ((method, options),) = step["dedup"].items()
        saving = {key: value for key, value in options.items() if key != "against"} | {"save_keys": True}
        run(folder, [earlier], [{"dedup": {method: saving}}], job, f"out-{name}")
    return [source.write(folder / "in") for source in job.sources], World(older, job.sets)


def outcome(
    folder: Path, job: Job, inputs: list[list[Record]]
) -> tuple[list[dict[str, Any]], dict[int, tuple[str, Fate]]]:
    """The records that a run keeps, in its order, and the ledger by place in the input: id and fate."""
    sources = [replace(source, steps=at_home(folder, source.steps)) for source in job.sources]
    result = run(folder, sources, at_home(folder, job.steps), job, "out")
    rows = [row for s in result.shards for row in pq.read_table(folder / "out" / s.path).to_pylist()]
    ledger = pq.read_table(folder / "out" / "ledger").to_pylist()
    records = [record for some in inputs for record in some]
    places = {record["source"]: place for place, record in enumerate(records)}
    ledger.sort(key=lambda row: row["position"])
    fates = {
        places[row["source"]]: (row["id"], (row["step"], row["verdict"], row["reason"], row["value"]))
        for row in ledger
    }
    assert list(fates) == sorted(fates)
    assert len(fates) == len(ledger) == result.totals["in"] - result.totals["kept"]
    assert result.totals["in"] == len(records)
    return rows, fates


def same_value(found: Any, expected: Any) -> bool:
    if expected is ...:
        return True
    if isinstance(expected, float):
        return found is not None and (float(found) == expected or (found == "nan" and math.isnan(expected)))
    if isinstance(expected, int):
        return found is not None and Fraction(found) == expected
    return bool(found == expected)


def same_cell(found: Any, expected: Any) -> bool:
    both_nan = isinstance(found, float) and isinstance(expected, float) and found != found
    return bool(found == expected or (both_nan and math.isnan(expected)))


def compare(folder: Path, job: Job) -> None:
    with partitions_of(job.partition_bytes):
        inputs, world = prepare(folder, job)
        own = [source.steps for source in job.sources]
        try:
            expected, fates = reference.interpret(inputs, own, job.steps, seed=5, world=world)
        except NoValue:
            with pytest.raises(TaskFailed):
                outcome(folder, job, inputs)
            return
        except NoProportion:
            with pytest.raises(SelectionError):
                outcome(folder, job, inputs)
            return
        kept, ledger = outcome(folder, job, inputs)
    assert [row["source"] for row in kept] == [record["source"] for record in expected]
    for row, record in zip(kept, expected, strict=True):
        for name in ("id", "text", "url", *(set(row) - BASE)):
            assert same_cell(row[name], record.get(name)), (name, row, record)
        made = {key for key in record if key not in BASE | {"position", "input"}}
        assert made <= set(row)
    assert {place: fate[:3] for place, (_, fate) in ledger.items()} == {p: f[:3] for p, f in fates.items()}
    records = [record for some in inputs for record in some]
    for place, fate in fates.items():
        id_, found = ledger[place]
        assert same_value(found[3], fate[3]), (place, fate, found)
        assert id_ == records[place]["id"]


@pytest.fixture(scope="module")
def _inline() -> Iterator[None]:
    with inline_tasks():
        yield


def generated(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@pytest.mark.usefixtures("_inline")
@generated(80)
@given(jobs())
def test_any_job_does_what_its_steps_say_one_after_the_other(
    tmp_path_factory: pytest.TempPathFactory, job: Job
) -> None:
    compare(tmp_path_factory.mktemp("compared"), job)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("_inline")
@generated(1500)
@given(jobs())
def test_many_more_jobs_do_what_their_steps_say(tmp_path_factory: pytest.TempPathFactory, job: Job) -> None:
    compare(tmp_path_factory.mktemp("compared"), job)


NEAR = {"minhash": {"bands": 8, "rows": 3, "ngram": 2, "hash": "datasketch", "keep": "longest"}}
LONGER_JOBS: dict[str, list[dict[str, Any]]] = {
    "two dedups of different columns, with rules before, between and behind": [
        {"rule": "word_count > 2"},
        {"dedup": NEAR},
        {"rule": "mean_word_length >= 3.0 and length(url) > 11", "on_null": "keep"},
        {"dedup": {"exact": {"on": "url", "keep": {"best": "variety"}}}},
        {"rule": "word_count < 140 and variety < 0.99", "on_null": "keep"},
    ],
    "a select after a select, in groups, with a limit and a sample between": [
        {"select": {"top": 0.7, "by": "char_count", "within": "line_count", "unit": "characters"}},
        {"limit": 1500},
        {"sample": 0.8},
        {"select": {"top": 0.29, "by": "variety", "unit": "bytes"}, "on_null": "keep"},
    ],
    "three dedups in a row": [
        {"dedup": {"exact": {"normalize": "lower", "keep": "first"}}},
        {"dedup": NEAR},
        {"dedup": {"exact": {"on": "url", "keep": {"best": "word_count"}}}},
    ],
    "a budget behind a limit": [
        {"limit": 2000},
        {"dedup": {"exact": {"keep": {"best": "variety"}}}},
        {"select": {"budget": 50_000, "by": "variety", "unit": "characters"}},
    ],
    "edits, lines and near copies, with values of the text before and behind each": [
        {"signals": {"names": ["char_count"]}},
        {"edit": {"c4_lines": {"min_words": 3, "max_removed": 0.9}}},
        {"rule": "char_count > 9 and word_count > 2"},
        {"dedup": {"lines": {"keep": "first", "min_length": 4}}},
        {"rule": "word_count > 3"},
        {"dedup": NEAR},
        {"signals": {"names": ["line_count", "word_count"]}},
        {"select": {"cap": 900, "by": "char_count", "within": "url", "unit": "characters"}},
    ],
}


@pytest.mark.parametrize("name", LONGER_JOBS)
def test_a_job_over_many_batches_and_files_does_what_its_steps_say(tmp_path: Path, name: str) -> None:
    format = "parquet" if "select" in name or "edits" in name else "jsonl"
    random_ = random.Random(3)
    pages = list(PAGES)
    documents: list[Record] = [
        {
            "id": row["id"],
            "text": row["text"],
            "url": random_.choice([*pages, *[f"https://e.org/own/{n}"] * 9]),
        }
        for n, row in enumerate(corpus.rows(1800))
    ]
    documents += [{"id": f"odd{n}", "text": text, "url": None} for n, text in enumerate(BASES)]
    random_.shuffle(documents)
    score = {"score": {"marks:Variety": {}}, "as": "variety", "on_null": "keep"}
    steps = [{"name": f"step-{n}", **step} for n, step in enumerate([score, *LONGER_JOBS[name]])]
    # The first file is of two batches, and the second is shorter than one.
    compare(tmp_path, Job([Source("all", format, documents, [1300, 1500], [])], steps, {}, {}))


@pytest.mark.usefixtures("_inline")
@pytest.mark.parametrize("method", [NEAR, {"exact": {}}, {"lines": {"keep": "none"}}])
def test_inputs_that_come_to_a_dedup_by_different_steps_meet_there(
    tmp_path: Path, method: dict[str, Any]
) -> None:
    rows = corpus.rows(60)
    documents = [{"id": row["id"], "text": row["text"], "url": row["url"]} for row in rows]
    own = [{"name": "own", "rule": "word_count > 5"}]
    sources = [
        Source("measured", "jsonl", documents, [], own),
        Source("taken", "csv", documents[::2], [], []),
        Source("limited", "parquet", documents[::3], [], [{"name": "some", "limit": 9}]),
    ]
    compare(tmp_path, Job(sources, [{"name": "met", "dedup": method}], {}, {}))
