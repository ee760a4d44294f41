"""Beam with real kills: what is committed stays, nothing hangs, and the rerun ends with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import beam_operators
import corpus
import operators
import pytest
import thresher
import yaml
from beam_services import BeamServices, beam_services
from conformance import bare, records, run
from inline_engine import InlineEngine, inline_tasks
from test_whole_jobs import output_digest, split_input
from thresher.pipeline.stage import EngineError, Input, OperatorRef, Stage
from thresher.schemas.engines import Beam

pytest.importorskip("apache_beam", reason="engine beam needs apache-beam")
from thresher.pipeline.engines.beam import BeamEngine

pytestmark = pytest.mark.timeout(240)
HERE = Path(__file__).parent
EMIT = OperatorRef.of(operators.Emit)
SIZES = [20, 5, 30, 10, 5, 25, 10, 15]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[BeamServices]:
    with beam_services(tmp_path / "services", (HERE,)) as services:
        yield services


def portable(services: BeamServices, silence: int | None) -> BeamEngine:
    settings = Beam(runner="PortableRunner", options=services.options, silence=silence)
    return BeamEngine(settings, 2, "run")


def slow_map(directory: Path, seconds: float = 0.6) -> Stage:
    maps = (OperatorRef.of(beam_operators.Slow, seconds=seconds, quick=1), EMIT)
    return Stage("map", str(directory), {"in": Input(records(SIZES), maps)})


def slow_reduce(directory: Path, seconds: float = 0.6) -> Stage:
    inputs = {"in": Input(records(SIZES), (), "key")}
    reduce = OperatorRef.of(beam_operators.SlowReduce, seconds=seconds, marks=str(directory / "marks"))
    return Stage("reduce", str(directory), inputs, 8, reduce)


def commits(directory: Path) -> int:
    return len([path for path in directory.glob("**/*.json") if path.stem.isdigit()])


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def expected(make: Callable[..., Stage], folder: Path) -> object:
    return bare(run(InlineEngine(1, "reference"), make(folder / "reference", seconds=0)))


@pytest.mark.parametrize(
    ("make", "silence"),
    [
        pytest.param(slow_map, 12, marks=pytest.mark.slow),
        pytest.param(slow_map, None, marks=pytest.mark.slow),
        pytest.param(slow_reduce, None, marks=pytest.mark.slow),
    ],
)
def test_killed_workers_end_in_an_error_within_a_minute_and_the_rerun_goes_on(
    services: BeamServices, tmp_path: Path, make: Callable[..., Stage], silence: int | None
) -> None:
    engine, stage = portable(services, silence), make(tmp_path / "s")
    killed: list[float] = []

    def kill() -> None:
        wait_for(lambda: commits(tmp_path / "s") >= 2)
        assert services.kill_workers() == 1
        killed.append(time.monotonic())

    killer = threading.Thread(target=kill)
    killer.start()
    done = {}
    told = rf"^PortableRunner: no sign of a worker for {silence or 45} seconds; .* goes on"
    with pytest.raises(EngineError, match=told):
        done.update((committed.task, committed) for committed in engine.run(stage, stage.tasks))
    ended = time.monotonic()
    killer.join()
    assert ended - killed[0] < 60
    assert 2 <= len(done) < 8
    assert commits(tmp_path / "s") == len(done)
    services.start_workers()
    rest = run(engine, stage, [task for task in stage.tasks if task not in done])
    assert bare(done | rest) == expected(make, tmp_path)


@pytest.mark.slow
def test_a_long_task_is_not_taken_for_silence(services: BeamServices, tmp_path: Path) -> None:
    maps = (OperatorRef.of(beam_operators.Slow, seconds=18.0), EMIT)
    stage = Stage("map", str(tmp_path / "s"), {"in": Input(records([5]), maps)})
    assert sorted(run(portable(services, 12), stage)) == [0]
    assert not list((tmp_path / "s").glob(".unfinished*"))


def test_a_killed_job_service_is_noticed_at_once(services: BeamServices, tmp_path: Path) -> None:
    stage = slow_map(tmp_path / "s")
    told = portable(services, None).run(stage, stage.tasks)
    next(told)
    services.kill_job_service()
    killed = time.monotonic()
    with pytest.raises(EngineError, match=r"^PortableRunner: "):
        list(told)
    assert time.monotonic() - killed < 20


def test_workers_that_are_gone_before_the_run_are_noticed_by_the_check(
    services: BeamServices, tmp_path: Path
) -> None:
    from thresher.pipeline.probe import probe

    services.kill_workers()
    with probe(tmp_path / "work", "run") as asked, pytest.raises(EngineError, match=r"^PortableRunner: "):
        portable(services, 20).check(asked)


@pytest.mark.slow
def test_workers_of_a_driver_that_goes_away_begin_no_more_tasks(
    services: BeamServices, tmp_path: Path
) -> None:
    stage = slow_map(tmp_path / "s")
    told = portable(services, None).run(stage, stage.tasks)
    next(told)
    told.close()  # type: ignore[attr-defined]
    at_once = commits(tmp_path / "s")
    time.sleep(3)
    assert commits(tmp_path / "s") <= at_once + 1 < 8
    rest = run(portable(services, None), stage)
    assert bare(rest) == expected(slow_map, tmp_path)


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    job = corpus.job(split_input(corpus.rows(200), tmp_path / "in", 8), tmp_path / "out")
    job["run"]["work"] = str(tmp_path / "work")
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def start(job: Path, *settings: str) -> subprocess.Popen[bytes]:
    more = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "thresher", "run", str(job), "--quiet", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def undisturbed(job: Path, tmp_path: Path, *settings: str) -> dict[str, str]:
    process = start(job, *settings)
    _, error = process.communicate(timeout=200)
    assert process.returncode == 0, error.decode()
    return output_digest(tmp_path / "out")


def reference(job: Path, tmp_path: Path) -> dict[str, str]:
    """What the job writes when nothing goes wrong, in directories of the same names."""
    with inline_tasks():
        thresher.run(thresher.load(job))
    (tmp_path / "work").rename(tmp_path / "work-before")
    return output_digest((tmp_path / "out").rename(tmp_path / "out-before"))


@pytest.mark.slow
def test_a_run_that_is_interrupted_and_then_killed_goes_on(job_file: Path, tmp_path: Path) -> None:
    digest = reference(job_file, tmp_path)
    process = start(job_file, "run.engine=beam")
    wait_for(lambda: commits(tmp_path / "work") >= 3, process)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error.decode()
    assert b"Traceback" not in error
    process = start(job_file, "run.engine=beam")
    wait_for(lambda: commits(tmp_path / "work") >= 15, process)
    process.kill()
    process.wait()
    assert undisturbed(job_file, tmp_path, "run.engine=beam") == digest
    assert not list((tmp_path / "work").rglob(".unfinished-*"))


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 5, 8, 12, 20, 30, 40])
def test_ctrl_c_ends_at_once_wherever_it_comes(job_file: Path, tmp_path: Path, after: int) -> None:
    process = start(job_file, "run.engine=beam")
    wait_for(lambda: commits(tmp_path / "work") >= after, process)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=15)
    assert process.returncode == 130, error.decode()
    assert b"Traceback" not in error


@pytest.mark.slow
def test_a_killed_driver_of_a_portable_pipeline_leaves_one_that_goes_on(
    services: BeamServices, job_file: Path, tmp_path: Path
) -> None:
    digest = reference(job_file, tmp_path)
    options = yaml.safe_dump(services.options, default_flow_style=True, width=10**6).strip()
    settings = ("run.engine=beam", "run.beam.runner=PortableRunner", f"run.beam.options={options}")
    process = start(job_file, *settings)
    wait_for(lambda: commits(tmp_path / "work") >= 4, process)
    process.kill()
    process.wait()
    assert undisturbed(job_file, tmp_path, *settings) == digest
