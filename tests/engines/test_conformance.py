"""One suite for every engine: the same stages, the same rows, the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import conformance
import operators
import pytest
from conformance import CASES, Case, Commits, Make, bare, run, run_case
from engine_settings import SETTINGS, Setting
from inline_engine import InlineEngine
from logical_hash import hashes, read_streams
from thresher.pipeline.exchange import chunks_of
from thresher.pipeline.probe import probe
from thresher.pipeline.stage import Engine, EngineError, Input, OperatorRef, Probe, Stage, TaskFailed
from thresher.pipeline.storage import place

pytestmark = pytest.mark.timeout(120)

Reference = Callable[[Case], list[Commits]]


@pytest.fixture(scope="module")
def engine(setting: Setting) -> Iterator[Engine]:
    engine = setting.open("conformance")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """What the tasks of a case commit when they run one after the other in this process."""
    known: dict[str, list[Commits]] = {}

    def find(case: Case) -> list[Commits]:
        if case.name not in known:
            folder = tmp_path_factory.mktemp("reference")
            known[case.name] = run_case(InlineEngine(1, "reference"), case, str(folder))
        return known[case.name]

    return find


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_reference_commits_what_a_plain_definition_says(case: Case, reference: Reference) -> None:
    assert hashes(read_streams(reference(case)[-1])) == hashes(case.expected())


@pytest.mark.parametrize("name", ["one input with exchange", "several chunks of a part"])
def test_chunks_in_another_order_do_not_pass(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case,) = (case for case in CASES if case.name == name)
    monkeypatch.setattr(
        "thresher.pipeline.task.chunks_of", lambda readers, task: chunks_of(readers[::-1], task)
    )
    commits = run_case(InlineEngine(1, "careless"), case, str(tmp_path))
    assert hashes(read_streams(commits[-1])) != hashes(case.expected())


def each(setting: str, cases: tuple[Case, ...]) -> Iterator[Any]:
    for case in cases:
        marks = [pytest.mark.slow] if setting in SLOW and case.name not in QUICK else []
        yield pytest.param(setting, case, id=f"{setting}, {case}", marks=marks)


# Settings in which every stage takes long; of these some cases stand for all where time is short.
SLOW = {"local in a store", "beam portable", "ray with nodes"}
QUICK = {"map only over committed parts", "several co-grouped inputs"}


@pytest.mark.parametrize(
    ("setting", "case"),
    [param for setting in SETTINGS for param in each(setting, CASES)],
    indirect=["setting"],
    scope="module",
)
def test_every_engine_commits_the_same(
    engine: Engine, setting: Setting, case: Case, reference: Reference
) -> None:
    commits = run_case(engine, case, setting.new_folder())
    assert hashes(read_streams(commits[-1])) == hashes(case.expected())
    assert [bare(stage) for stage in commits] == [bare(stage) for stage in reference(case)]


quick_settings = pytest.mark.parametrize(
    "setting",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in SETTINGS],
    indirect=True,
    scope="module",
)


@quick_settings
def test_a_model_is_loaded_once_for_each_worker_and_forgets_the_part_before(
    engine: Engine, setting: Setting, reference: Reference, tmp_path: Path
) -> None:
    case = conformance.model_case(str(tmp_path / "loads"))
    commits = run_case(engine, case, setting.new_folder())
    loads = len(list((tmp_path / "loads").iterdir()))
    assert hashes(read_streams(commits[-1])) == hashes(case.expected())
    assert 1 <= loads <= setting.most_loads
    assert [bare(stage) for stage in commits] == [bare(stage) for stage in reference(case)]


@quick_settings
@pytest.mark.parametrize("number", range(4))
def test_what_fails_is_named_and_all_else_is_committed(
    engine: Engine, setting: Setting, number: int, tmp_path: Path
) -> None:
    case = conformance.failing_cases(str(tmp_path / "loads"))[number]
    *before, last = case.stages
    folder, commits = setting.new_folder(), {}
    for place_, make in enumerate(before):
        commits = run(engine, make(f"{folder}/{place_}", commits))
    stage, done = last(f"{folder}/last", commits), {}
    with pytest.raises(TaskFailed) as failure:
        done.update((committed.task, committed) for committed in engine.run(stage, stage.tasks))
    assert failure.value.of_parts == case.of_parts
    assert set(failure.value.failures) == set(case.fails)
    for task, why in case.fails.items():
        assert why in failure.value.failures[task]
    assert hashes(read_streams(done)) == hashes(case.expected())


@quick_settings
@pytest.mark.parametrize("make", [conformance.map_only, conformance.co_grouped])
def test_a_stage_can_be_done_bit_by_bit_and_again(
    engine: Engine, setting: Setting, make: Make, tmp_path: Path
) -> None:
    whole = bare(run(InlineEngine(1, "reference"), make(str(tmp_path), {})))
    stage = make(setting.new_folder(), {})
    first = run(engine, stage, [2])
    rest = run(engine, stage, [task for task in stage.tasks if task != 2])
    assert bare(first | rest) == whole
    # All is committed, as by a driver that was faster: what counts is what is there.
    assert run(engine, stage) == first | rest


@quick_settings
def test_a_stage_without_tasks_is_over_at_once(engine: Engine, setting: Setting) -> None:
    maps = (OperatorRef.of(operators.Emit),)
    assert run(engine, Stage("nothing", setting.new_folder(), {"in": Input((), maps)})) == {}
    assert run(engine, conformance.exchange(setting.new_folder(), {}), []) == {}


@quick_settings
def test_workers_that_do_not_read_the_probe_are_found(engine: Engine, setting: Setting) -> None:
    with probe(place(setting.new_folder()), "run") as asked:
        engine.check(asked)
        with pytest.raises(EngineError, match=r"cannot reach run\.work: .* is another file"):
            engine.check(Probe(asked.path, "what nobody wrote"))
    with pytest.raises(EngineError, match=r"cannot reach run\.work: .* is not there"):
        engine.check(asked)
