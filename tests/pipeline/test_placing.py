"""Steps with an engine or resources of their own get passes of their own, and change nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import corpus
import pyarrow.parquet as pq
import pytest
import reference
import thresher
from generated_jobs import Job, jobs
from hypothesis import given
from hypothesis import strategies as st
from inline_engine import InlineEngine, inline_tasks
from test_against_reference import at_home, generated, partitions_of, prepare
from thresher.pipeline.planner import Phase, Plan, describe, plan
from thresher.pipeline.selection import SelectionError
from thresher.pipeline.stage import Committed, Resources, Stage, TaskFailed, TaskId

GPU = {"resources": {"gpus": 1, "actors": [1, 4]}}
SCORE = {"score": {"marks:Variety": {}}, "as": "variety", "name": "score", **GPU}
LONG = {"rule": "word_count > 1", "name": "long"}
SAMPLE = {"sample": 0.5}


def loaded(folder: Path, *steps: Any, own: list[list[Any]] | None = None) -> Any:
    """A job over one input, or over as many as have steps of their own."""
    (folder / "marks.py").write_text(reference.MARKS)
    (folder / "in.jsonl").touch()
    inputs = [{"path": str(folder / "in.jsonl"), "steps": its} for its in own or [[]]]
    described = {
        "name": "placed",
        "input": inputs,
        "steps": list(steps),
        "output": {"path": str(folder / "out")},
        "run": {"directory": str(folder)},
    }
    return thresher.load(described, allow_code=True, check=False)


def planned(folder: Path, *steps: Any, own: list[list[Any]] | None = None) -> Plan:
    return plan(loaded(folder, *steps, own=own), allow_code=True)


def operators(phase: Phase) -> list[str]:
    """Their names; of Signals the names that it computes."""
    return [
        " ".join(json.loads(ref.arguments)["names"])
        if ref.name.endswith(":Signals")
        else ref.name.partition(":")[2]
        for ref in phase.operators
    ]


def shape(phases: tuple[Phase, ...]) -> list[tuple[list[str], list[str], bool]]:
    """Of each phase its operators, its corpus steps, and whether its workers are its own."""
    return [(operators(phase), [step.name for step in phase.corpus], phase.is_apart) for phase in phases]


def test_a_model_that_comes_first_leaves_reading_the_source_to_others(tmp_path: Path) -> None:
    found = planned(tmp_path, SCORE)
    assert shape(found.all_phases) == [([], [], False), (["Score"], [], True)]
    first, second = found.all_phases
    assert [phase.name for phase in found.all_phases] == ["read", "score"]
    assert (first.reads_source, second.reads_source) == (True, False)
    assert second.resources == Resources(gpus=1, actors=(1, 4))


def test_steps_behind_a_model_are_a_pass_of_their_own(tmp_path: Path) -> None:
    found = planned(tmp_path, LONG, SCORE, {"rule": "variety > 0.5", "name": "varied"})
    assert shape(found.all_phases) == [
        (["word_count", "Rules"], [], False),
        (["Score"], [], True),
        (["Rules"], [], False),
    ]
    assert found.all_phases[2].reads == ("id", "source", "variety")


def test_steps_that_need_the_same_share_a_pass_and_others_do_not(tmp_path: Path) -> None:
    second = SCORE | {"as": "other", "name": "again"}
    assert [names for names, _, _ in shape(planned(tmp_path, SCORE, second).all_phases)] == [
        [],
        ["Score", "Score"],
    ]
    second |= {"resources": {"gpus": 2, "actors": [1, 4]}}
    assert [names for names, _, _ in shape(planned(tmp_path, SCORE, second).all_phases)] == [
        [],
        ["Score"],
        ["Score"],
    ]
    found = planned(tmp_path, SCORE, SCORE | {"as": "other", "name": "again", "on": "ray"})
    assert [(phase.on, len(phase.maps)) for phase in found.all_phases] == [(None, 0), (None, 1), ("ray", 1)]


@pytest.mark.parametrize("placed", [{}, {"on": "local"}, {"resources": {}}, {"resources": {"cpus": 1}}])
def test_what_a_job_gives_every_step_anyway_makes_no_pass(tmp_path: Path, placed: dict[str, Any]) -> None:
    found = planned(tmp_path, LONG, SAMPLE | placed)
    assert shape(found.all_phases) == [(["word_count", "Rules", "Sample"], [], False)]


def test_a_model_behind_an_edit_reads_what_the_edit_left(tmp_path: Path) -> None:
    found = planned(tmp_path, LONG, {"edit": "pii"}, SCORE)
    assert shape(found.all_phases) == [
        (["word_count", "Rules", "Refine"], [], False),
        (["Score"], [], True),
    ]
    assert "text" in found.all_phases[0].keeps
    assert "text" in found.all_phases[1].reads


@pytest.mark.parametrize(
    "step",
    [
        {"dedup": "exact"},
        {"dedup": {"minhash": {"keep": "longest"}}},
        {"select": {"budget": 3}},
        {"mix": {"caps": {"input": 3}}},
    ],
)
def test_who_owns_a_model_computes_no_keys_for_a_step_behind_it(tmp_path: Path, step: dict[str, Any]) -> None:
    found = planned(tmp_path, SCORE, step | {"name": "corpus"})
    names = [(len(phase.operators), [one.name for one in phase.corpus]) for phase in found.all_phases]
    assert names == [(0, []), (1, []), (1, ["corpus"])]
    assert found.all_phases[2].corpus[0].keys is not None
    assert [phase.is_apart for phase in found.all_phases] == [False, True, False]
    assert found.all_phases[2].name == "corpus-reads"


def test_a_step_without_keys_follows_a_model_at_once(tmp_path: Path) -> None:
    found = planned(tmp_path, SCORE, {"select": {"top": 0.5, "by": "variety"}, "name": "select"})
    assert shape(found.all_phases) == [([], [], False), (["Score"], ["select"], True)]
    assert found.all_phases[1].keeps == ("variety",)


def test_a_step_with_keys_and_resources_has_them_for_its_stages_alone(tmp_path: Path) -> None:
    large = {"resources": {"memory": "8GB"}}
    found = planned(tmp_path, LONG, {"dedup": "exact", "name": "dedup", **large})
    assert shape(found.all_phases) == [(["word_count", "Rules", "Keys"], ["dedup"], False)]
    assert found.all_phases[0].corpus[0].resources == Resources(memory=8_000_000_000)
    assert found.all_phases[0].corpus[0].on is None


def test_signals_that_a_model_and_what_follows_it_read_are_computed_before_it(tmp_path: Path) -> None:
    best = {"select": {"top": 0.5, "by": "variety", "unit": "characters"}, "name": "select"}
    found = planned(tmp_path, LONG, SCORE, LONG | {"name": "apart", **GPU, "rule": "line_count > 1"}, best)
    assert shape(found.all_phases) == [
        (["char_count line_count word_count", "Rules"], [], False),
        (["Score", "Rules"], ["select"], True),
    ]
    assert found.all_phases[1].reads == ("id", "line_count", "source", "text")


def test_signals_of_a_text_that_is_edited_between_are_those_of_the_edited_text(tmp_path: Path) -> None:
    best = {"select": {"top": 0.5, "by": "char_count"}, "name": "select"}
    found = planned(tmp_path, {"edit": "pii", **GPU}, best)
    assert shape(found.all_phases) == [([], [], False), (["Refine", "char_count"], ["select"], True)]
    lines = {"dedup": "lines", "name": "lines"}
    found = planned(tmp_path, lines, SCORE, best)
    assert shape(found.all_phases) == [
        ([], ["lines"], False),
        (["Score", "char_count"], ["select"], True),
    ]


def test_steps_of_inputs_are_placed_as_those_of_the_job(tmp_path: Path) -> None:
    trunk = SCORE | {"as": "other", "name": "again"}
    found = planned(tmp_path, trunk, own=[[SCORE], [SAMPLE]])
    scored, sampled = found.branches
    assert shape(scored.phases) == [([], [], False), (["Score"], [], True)]
    assert shape(sampled.phases) == [(["Sample"], [], False)]
    # What all inputs pass reads what their own passes have read: there is none that reads before it.
    assert shape(found.phases) == [(["Score"], [], True)]


def test_a_job_whose_common_steps_need_the_corpus_has_one_pass_for_their_keys(tmp_path: Path) -> None:
    found = planned(tmp_path, {"dedup": "exact", "name": "dedup", **GPU}, own=[[SCORE], [SAMPLE]])
    assert shape(found.phases) == [(["Keys"], ["dedup"], False)]
    assert found.phases[0].corpus[0].resources == Resources(gpus=1, actors=(1, 4))


def test_a_plan_says_where_a_stage_runs_and_what_it_needs(tmp_path: Path) -> None:
    steps = [LONG, SCORE | {"on": "ray"}, {"dedup": "exact", "resources": {"memory": "1GB"}}]
    described = describe(loaded(tmp_path, *steps), allow_code=True)
    told = [(one["stage"], one.get("on"), one.get("resources")) for one in described]
    assert told == [
        ("long", None, None),
        ("score", "ray", {"gpus": 1, "actors": [1, 4]}),
        ("dedup-exact-reads", None, None),
        ("dedup:exact", None, {"memory": 1_000_000_000}),
        ("export", None, None),
    ]
    assert json.loads(json.dumps(described)) == described


class Places(InlineEngine):
    """Notes where stages are to run, whatever engine they are for."""

    seen: list[tuple[str, str | None, Resources]]

    def run(self, stage: Stage, todo: Any) -> Iterator[Committed]:
        self.seen.append((stage.name, stage.on, stage.resources))
        yield from super().run(stage, todo)


@contextmanager
def any_engine() -> Iterator[list[tuple[str, str | None, Resources]]]:
    """Every engine that a job names is an inline one; gives the stages that they ran."""

    def opened(name: str, job: Any, run: str, kernels: Any = ()) -> Places:
        engine = Places(1, run, kernels)
        engine.seen = seen
        return engine

    seen: list[tuple[str, str | None, Resources]] = []
    with inline_tasks(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("thresher.pipeline.engines.opening.open_engine", opened)
        yield seen


def outcome(
    folder: Path, job: Job, name: str, placed: dict[str, dict[str, Any]]
) -> tuple[list[str], list[dict[str, Any]], dict[TaskId, str]] | str:
    """Checksums of the shards and the ledger, with steps placed as `placed` says; or how the run failed."""

    def steps(some: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [step | placed.get(step["name"], {}) for step in at_home(folder, some)]

    sources = [replace(source, steps=steps(source.steps)) for source in job.sources]
    spec = {
        "name": "compared",
        "input": [source.spec(folder / "in") for source in sources],
        "steps": steps(job.steps),
        "output": {"path": str(folder / name), "shard": "2KB", "card": False},
        "run": {"workers": 2, "seed": 5, "directory": str(folder), "part": job.part},
    }
    try:
        result = thresher.run(thresher.load(spec, allow_code=True, check=False), allow_code=True)
    except (TaskFailed, SelectionError) as error:
        return type(error).__name__
    shards = [hashlib.sha256((folder / name / s.path).read_bytes()).hexdigest() for s in result.shards]
    return shards, pq.read_table(folder / name / "ledger").to_pylist(), result.totals


PLACES = st.sampled_from(
    [
        {},
        {"on": "ray"},
        {"resources": {"gpus": 1}},
        {"resources": {"actors": [1, 2], "memory": "1GB"}},
        {"on": "beam", "resources": {"cpus": 2}},
        {},
    ]
)


def same_wherever(folder: Path, job: Job, data: st.DataObject) -> None:
    names = [step["name"] for steps in (job.steps, *(one.steps for one in job.sources)) for step in steps]
    placed = {name: data.draw(PLACES, label=name) for name in names}
    with any_engine() as seen, partitions_of(job.partition_bytes):
        prepare(folder, job)
        del seen[:]
        expected = outcome(folder, job, "plain", {})
        assert {(on, resources) for _, on, resources in seen} == {(None, Resources())}
        del seen[:]
        assert outcome(folder, job, "placed", placed) == expected
        if not isinstance(expected, str):
            wanted = {one.get("on") for one in placed.values()}
            assert {on for _, on, _ in seen} == {None, *wanted}


@generated(25)
@given(jobs(), st.data())
def test_where_steps_run_makes_no_difference_to_what_a_job_does(
    tmp_path_factory: pytest.TempPathFactory, job: Job, data: st.DataObject
) -> None:
    same_wherever(tmp_path_factory.mktemp("placed"), job, data)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@generated(400)
@given(jobs(), st.data())
def test_many_more_jobs_do_the_same_wherever_their_steps_run(
    tmp_path_factory: pytest.TempPathFactory, job: Job, data: st.DataObject
) -> None:
    same_wherever(tmp_path_factory.mktemp("placed"), job, data)


def test_stages_run_where_their_step_says_and_those_between_where_the_job_does(tmp_path: Path) -> None:
    corpus.write(tmp_path / "in.jsonl", corpus.rows(30))
    (tmp_path / "marks.py").write_text(reference.MARKS)
    spec = {
        "name": "placed",
        "input": str(tmp_path / "in.jsonl"),
        "steps": [LONG, SCORE | {"on": "ray"}, {"dedup": "exact", "name": "dedup", "on": "beam"}],
        "output": {"path": str(tmp_path / "out")},
        "run": {"directory": str(tmp_path)},
    }
    with any_engine() as seen:
        thresher.run(thresher.load(spec, allow_code=True, check=False), allow_code=True)
    gpu, plain = Resources(gpus=1, actors=(1, 4)), Resources()
    places = dict.fromkeys((on, resources) for _, on, resources in seen)
    assert list(places) == [(None, plain), ("ray", gpu), ("beam", plain)]
    assert {name for name, on, _ in seen if on == "ray"} == {"score"}
    assert all(name.startswith("dedup") for name, on, _ in seen if on == "beam")


def test_shards_are_cut_at_the_same_records_wherever_an_edit_runs(tmp_path: Path) -> None:
    pages = [
        {"id": f"{n}", "text": f"Page {n} tells of rivers and hills.\n" + "12 likes\n" * (n % 7)}
        for n in range(90)
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(page) + "\n" for page in pages))
    found = []
    for number, placed in enumerate(({}, {"on": "ray"}, {"resources": {"cpus": 2}})):
        spec = {
            "name": "cut",
            "input": str(tmp_path / "in.jsonl"),
            "steps": [{"rule": "word_count > 2"}, {"edit": "refinedweb_lines", **placed}],
            "output": {"path": str(tmp_path / f"out{number}"), "shard": "1KB"},
        }
        with any_engine():
            found.append([shard.sha256 for shard in thresher.run(thresher.load(spec, check=False)).shards])
    assert len(found[0]) > 3
    assert found[0] == found[1] == found[2]
