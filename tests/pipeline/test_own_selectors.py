"""A selector that a person wrote beside the job: what it keeps, copies and reports, and how it fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corpus
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
import yaml
from inline_engine import inline_tasks
from thresher.jobs.problems import JobFileError
from thresher.pipeline.stage import TaskFailed
from thresher.schemas.progress import Silent
from thresher.scorers.registry import PluginError

MODULE = '''\
import pyarrow as pa
import pyarrow.compute as pc
from thresher.scorers import Again, Decision, Selector

LEAST = 0


class Middling(Selector):
    """Keeps the words that as many records have as the word in the middle: a pass for that, one for them."""

    version = 1

    def __init__(self, column="word", copies=1):
        self.inputs = (column, "char_count")
        self._column = column
        self.max_copies = copies

    inputs = ()

    def start(self, learned):
        return pa.table({"word": pa.array([], pa.string()), "records": pa.array([], pa.int64())})

    def update(self, state, batch, learned):
        assert batch.schema.names == list(self.inputs)
        rows = {"word": batch.column(self._column), "records": pa.array([1] * len(batch), pa.int64())}
        return self.merge(state, pa.table(rows), learned)

    def merge(self, a, b, learned):
        counts = pa.concat_tables([a, b]).group_by("word").aggregate([("records", "sum")])
        return counts.rename_columns(["word", "records"]).sort_by("word")

    def finish(self, state, learned):
        if learned is None:
            counts = sorted(state["records"].to_pylist())
            return Again({"middle": max(LEAST, counts[len(counts) // 2])})
        words = state.filter(pc.equal(state["records"], learned.values["middle"]))["word"]
        return Decision({"words": words.to_pylist()})

    def decide(self, batch, decision):
        keep = pc.is_in(batch.column(self._column), pa.array(decision.values["words"], pa.string()))
        often = pc.min_element_wise(batch.column("char_count").cast(pa.int64()), self.max_copies)
        columns = {
            "keep": keep,
            "copies": pc.if_else(keep, often, 0),
            "reason": pc.if_else(keep, None, "other_count"),
            "value": batch.column(self._column),
        }
        return pa.RecordBatch.from_pydict(columns)
'''
WORDS = {"a": "x", "b": "yy", "c": "yy", "d": "zzz", "e": "zzz", "f": "zzz"}
RECORDS = [{"id": id_, "text": word} for id_, word in WORDS.items()]
KEPT = ["b", "c"]  # x: 1 record, yy: 2, zzz: 3

inline = pytest.mark.usefixtures("_inline")


@pytest.fixture
def _inline() -> Iterator[None]:
    with inline_tasks():
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with records in two files, and a selector."""
    corpus.write(tmp_path / "in-0.jsonl", RECORDS[:3])
    corpus.write(tmp_path / "in-1.jsonl", RECORDS[3:])
    (tmp_path / "middling.py").write_text(MODULE)
    return tmp_path


def job(folder: Path, *before: dict[str, Any], step: Any = None, **select: Any) -> dict[str, Any]:
    described = {"with": "middling:Middling", "arguments": {"column": "text"}, **select}
    return {
        "name": "middling",
        "input": str(folder / "in-*.jsonl"),
        "steps": [*before, {"select": described, **(step or {})}],
        "output": {"path": str(folder / "out")},
        "run": {"workers": 2, "directory": str(folder), "part": 64},
    }


class Heard(Silent):
    """Notes how many tasks of each stage were done already."""

    def __init__(self) -> None:
        self.stages: list[tuple[int, int]] = []

    def stage_started(self, name: str, tasks: int, done: int, bytes: int) -> None:
        self.stages.append((tasks, done))

    @property
    def reused(self) -> bool:
        return all(tasks == done for tasks, done in self.stages)


def run(described: dict[str, Any], listener: Any = None) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The records that were kept, and the ledger."""
    result = thresher.run(thresher.load(described, allow_code=True), allow_code=True, listener=listener)
    shards = [pq.read_table(Path(result.output) / shard.path) for shard in result.shards]
    return pa.concat_tables(shards), pq.read_table(Path(result.output) / "ledger").to_pylist()


def ids(table: pa.Table) -> list[str]:
    return sorted(table.column("id").to_pylist())


def test_it_chooses_over_the_whole_corpus_and_the_ledger_has_its_reasons(folder: Path) -> None:
    kept, ledger = run(job(folder))
    assert ids(kept) == KEPT
    assert {row["id"]: (row["step"], row["verdict"], row["reason"], row["value"]) for row in ledger} == {
        id_: ("select:Middling", "dropped", "other_count", WORDS[id_]) for id_ in "adef"
    }


@inline
def test_it_sees_what_earlier_steps_have_left_and_made(folder: Path) -> None:
    before = (
        {"rule": "char_count < 3"},
        {"bucket": {"by": "char_count", "cuts": [0.3], "names": ["s", "l"]}},
    )
    kept, _ = run(job(folder, *before, arguments={"column": "bucket"}))
    # Without zzz, one record is short and two are long: two counts, of which the second is in the middle.
    assert ids(kept) == ["b", "c"]


@inline
def test_a_report_keeps_all_records_and_says_which_it_would_keep(folder: Path) -> None:
    kept, ledger = run(job(folder, action="report", step={"as": "middling"}))
    assert ledger == []
    assert kept.schema.field("middling").type == pa.bool_()
    found = dict(zip(kept.column("id").to_pylist(), kept.column("middling").to_pylist(), strict=True))
    assert found == {id_: id_ in KEPT for id_ in WORDS}


@inline
def test_records_that_it_chooses_several_times_are_written_so_often(folder: Path) -> None:
    kept, _ = run(job(folder, arguments={"column": "text", "copies": 3}))
    assert ids(kept) == ["b", "b", "c", "c"]
    assert kept.column("copies").to_pylist() == [2, 2, 2, 2]


@inline
def test_a_report_of_such_a_selector_says_how_often_and_copies_nothing(folder: Path) -> None:
    kept, _ = run(job(folder, arguments={"column": "text", "copies": 3}, action="report"))
    found = dict(zip(kept.column("id").to_pylist(), kept.column("copies").to_pylist(), strict=True))
    assert found == {id_: 2 if id_ in KEPT else 0 for id_ in WORDS}


def test_a_subset_of_datacomp_takes_no_selector_that_makes_copies(folder: Path) -> None:
    described = job(folder, arguments={"column": "text", "copies": 2})
    described["output"] |= {"format": "datacomp"}
    with pytest.raises(JobFileError, match="a subset names each record once"):
        thresher.load(described, allow_code=True)
    described["steps"][0]["select"]["arguments"] = {"column": "text"}
    with pytest.raises(JobFileError) as refused:  # that its records are no images is told of both
        thresher.load(described, allow_code=True)
    assert "names each record once" not in str(refused.value)


@inline
def test_nothing_is_computed_again_until_the_code_or_an_argument_changes(folder: Path) -> None:
    first, again, edited, asked = Heard(), Heard(), Heard(), Heard()
    kept, _ = run(job(folder), first)
    assert run(job(folder), again)[0] == kept
    (folder / "middling.py").write_text(MODULE.replace("LEAST = 0", "LEAST = 3"))
    assert ids(run(job(folder), edited)[0]) == ["d", "e", "f"]
    run(job(folder, arguments={"column": "text", "copies": 2}), asked)
    assert [heard.reused for heard in (first, again, edited, asked)] == [False, True, False, False]


@inline
def test_an_installed_selector_is_named_without_a_module_and_needs_no_permission(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import EntryPoint

    from thresher.scorers import registry

    monkeypatch.syspath_prepend(str(folder))
    (folder / "middling.py").rename(folder / "installed_middling.py")
    point = EntryPoint("middling", "installed_middling:Middling", "thresher.selectors")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    described = job(folder) | {"output": {"path": str(folder / "by-name")}}
    described["steps"][0]["select"]["with"] = "middling"
    result = thresher.run(thresher.load(described))
    assert ids(pq.read_table(Path(result.output) / result.shards[0].path)) == KEPT
    described["steps"][0]["select"]["with"] = "midling"
    with pytest.raises(JobFileError, match=r"select\.with: .*did you mean middling\?"):
        thresher.load(described)


@inline
def test_a_column_that_is_not_there_is_told_before_anything_runs(folder: Path) -> None:
    with pytest.raises(JobFileError, match=r'select\.with: unknown column "txt"'):
        thresher.load(job(folder, arguments={"column": "txt"}), allow_code=True)


BROKEN = {
    "an error of the method": (
        'counts = sorted(state["records"].to_pylist())',
        'counts = state["counts"]',
        r"step select:Middling: selector middling:Middling: finish raises KeyError: .*counts",
    ),
    "a state that is no table": (
        ').sort_by("word")',
        ").to_pylist()",
        "merge returns list; return the state, a pa.Table|update returns list; return the state, a pa.Table",
    ),
    "a decision that is none": ("return Decision(", "return dict(", "finish returns dict; return a Decision"),
    "keys of numbers": ('{"words":', "{7:", r"Decision with the key 7, .*write '7'"),
    "values of Arrow": ("words.to_pylist()}", "words}", "values that JSON cannot hold"),
    "values of NaN": ("words.to_pylist()}", "float('nan')}", "values that JSON cannot hold"),
    "a pass that learns nothing": ("words = state", "return learned; words = state", "it would never end"),
    "a column too few": ('            "value": batch.column(self._column),\n', "", "returns no column value"),
    "other rows": (
        "return pa.RecordBatch.from_pydict(columns)",
        "return pa.RecordBatch.from_pydict(columns).slice(1)",
        "decide returns a batch of length 1 for 2 records",
    ),
    "numbers that are no choice": (
        '"keep": keep,',
        '"keep": batch.column(self._column),',
        "decide returns keep that is no bool",
    ),
    "a choice that is null": ('"keep": keep,', '"keep": pc.if_else(keep, True, None),', "leaves keep null"),
    "no reason": (
        '"reason": pc.if_else(keep, None, "other_count")',
        '"reason": pa.nulls(len(batch))',
        "no reas",
    ),
    "more copies than it says": (
        "pc.if_else(keep, often, 0)",
        "pc.if_else(keep, 2, 0)",
        "2 copies of a record that is kept; .* max_copies, which is 1",
    ),
    "copies of what is dropped": (
        "pc.if_else(keep, often, 0)",
        "pc.if_else(keep, often, 1)",
        "1 copies of a record that is not kept",
    ),
}


@inline
@pytest.mark.parametrize("broken", BROKEN)
def test_a_selector_that_breaks_its_contract_is_told_what_to_return(folder: Path, broken: str) -> None:
    was, becomes, message = BROKEN[broken]
    assert was in MODULE
    (folder / "middling.py").write_text(MODULE.replace(was, becomes))
    with pytest.raises(TaskFailed, match=message):
        run(job(folder))
    assert not (folder / "out" / "manifest.json").exists()


def test_code_beside_a_job_is_refused_unless_it_is_allowed(folder: Path) -> None:
    (folder / "middling.py").write_text("raise SystemExit('this code ran')")
    with pytest.raises(JobFileError, match=r"select\.with: .*allow it with --allow-code"):
        thresher.load(job(folder))


def test_a_job_loaded_with_its_code_does_not_run_without_the_word(folder: Path) -> None:
    loaded = thresher.load(job(folder), allow_code=True)
    with pytest.raises(PluginError, match="allow it with --allow-code"):
        thresher.run(loaded)
    assert not (folder / "out" / "manifest.json").exists()


def test_the_command_line_runs_such_code_with_allow_code(folder: Path) -> None:
    described = job(folder)
    del described["run"]["directory"]
    (folder / "job.yaml").write_text(yaml.safe_dump(described))
    arguments = [sys.executable, "-m", "thresher", "run", str(folder / "job.yaml"), "--quiet", "--allow-code"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=240, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    assert ids(pq.read_table(folder / "out" / "shard-00000.parquet")) == KEPT
