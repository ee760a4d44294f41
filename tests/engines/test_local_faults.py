"""Workers of the local engine that are killed: those that own a model, and on both sides of an exchange."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import conformance
import operators
import psutil
import pytest
import whole_job
from conformance import Commits, Make, bare, run
from engine_settings import local
from inline_engine import InlineEngine
from thresher.pipeline.engines.local import LocalEngine
from thresher.pipeline.stage import OperatorRef, Stage, TaskFailed
from thresher.schemas.progress import Silent
from whole_job import Outcome

pytestmark = pytest.mark.timeout(120)


class KillWorkers(Silent):
    """Kills every worker of this process when the first task of a stage is done, and not again."""

    def __init__(self, stage: str) -> None:
        self._stage, self.tasks, self.killed = stage, 0, 0

    def stage_started(self, name: str, tasks: int, done: int, bytes: int) -> None:
        if self._stage in name:
            self.tasks = tasks

    def task_done(self, name: str, records_in: int, records_out: int, bytes: int) -> None:
        if self._stage in name and not self.killed:
            self.killed = kill_workers()


def workers() -> Iterator[psutil.Process]:
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "forkserver" in " ".join(child.cmdline()) and not child.children():
                yield child


def kill_workers() -> int:
    found = list(workers())
    for worker in found:
        worker.kill()
    psutil.wait_procs(found, timeout=10)
    return len(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_job.make_input(tmp_path_factory.mktemp("input"))


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return whole_job.run(described(folder, tmp_path_factory.mktemp("undisturbed")))


def described(folder: Path, place: Path) -> dict[str, Any]:
    with local(2, place) as setting:
        return whole_job.job(folder, str(place / "out"), setting.new_folder(), setting)


@pytest.mark.parametrize(
    "stage", ["score-Plainness", pytest.param("dedup-exact-edges", marks=pytest.mark.slow)]
)
def test_killed_workers_are_not_noticed_in_the_output_of_a_job(
    stage: str, folder: Path, expected: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So small a job has exchanges of several partitions only if these are small.
    monkeypatch.setattr("thresher.pipeline.driver.PARTITION_BYTES", 1024)
    killer = KillWorkers(stage)
    assert whole_job.run(described(folder, tmp_path), listener=killer) == expected
    assert killer.tasks >= 8
    assert killer.killed >= 1


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """The folder in which each kill leaves a file."""
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def killing(marks: Path, part: int, times: int) -> OperatorRef:
    return OperatorRef.of(operators.KillOnce, part=part, directory=str(marks), times=times)


def with_first(stage: Stage, operator: OperatorRef) -> Stage:
    """The stage with one more operator before those of its only input."""
    ((name, source),) = stage.inputs.items()
    return replace(stage, inputs={name: replace(source, maps=(operator, *source.maps))})


def prepared(stages: Sequence[Make], folder: Path) -> tuple[Stage, Stage]:
    """The last stage twice, in two directories, over what those before it have committed."""
    commits: Commits = {}
    for number, make in enumerate(stages[:-1]):
        commits = run(InlineEngine(1, "before"), make(str(folder / str(number)), commits))
    return stages[-1](str(folder / "a"), commits), stages[-1](str(folder / "b"), commits)


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    engine = LocalEngine(2, "run")
    yield engine
    engine.close()


def test_a_worker_that_dies_with_its_model_is_replaced_by_one_that_loads_it(
    engine: LocalEngine, marks: Path, tmp_path: Path
) -> None:
    loads = tmp_path / "loads"
    plain, deadly = prepared((conformance.before_the_model, conformance.model(str(loads))), tmp_path)
    expected = run(InlineEngine(1, "plain"), plain)
    before = set(loads.iterdir())
    assert bare(run(engine, with_first(deadly, killing(marks, 4, times=2)))) == bare(expected)
    assert len(list(marks.iterdir())) == 2
    pids = {path.name.partition("-")[0] for path in set(loads.iterdir()) - before}
    assert len(pids) >= 3
    assert not list(workers()), "the workers of a stage that owns a model end with it"


def test_a_part_that_always_kills_the_worker_with_the_model_is_given_up(
    engine: LocalEngine, marks: Path, tmp_path: Path
) -> None:
    stages = (conformance.before_the_model, conformance.model(str(tmp_path / "loads")))
    plain, deadly = prepared(stages, tmp_path)
    expected = bare(run(InlineEngine(1, "plain"), plain))
    done: Commits = {}
    deadly = with_first(deadly, killing(marks, 1, times=99))
    with pytest.raises(TaskFailed, match="worker process died") as failure:
        done.update((committed.task, committed) for committed in engine.run(deadly, deadly.tasks))
    assert set(failure.value.failures) == {1}
    assert bare(done) == {task: entry for task, entry in expected.items() if task != 1}


def test_a_worker_killed_while_it_sends_leaves_no_row_out_and_none_twice(
    engine: LocalEngine, marks: Path, tmp_path: Path
) -> None:
    plain, deadly = prepared((conformance.exchange,), tmp_path)
    expected = run(InlineEngine(1, "plain"), plain)
    assert bare(run(engine, with_first(deadly, killing(marks, 3, times=2)))) == bare(expected)
    assert len(list(marks.iterdir())) == 2


def test_a_worker_killed_while_it_reduces_is_not_noticed(
    engine: LocalEngine, marks: Path, tmp_path: Path
) -> None:
    plain, deadly = prepared((conformance.exchange,), tmp_path)
    expected = run(InlineEngine(1, "plain"), plain)
    reduce = OperatorRef.of(operators.KillInReduce, key=operators.SPREAD, directory=str(marks), times=2)
    assert bare(run(engine, replace(deadly, reduce=reduce))) == bare(expected)
    assert len(list(marks.iterdir())) == 2
    left = [path.name for path in Path(deadly.directory).glob("0*.parquet")]
    assert len(left) == len(expected), "what was half written is not under a name that counts"
