"""Ray with several nodes, work in a store, and real kills: of tasks, actors, nodes and drivers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import conformance
import corpus
import operators
import pytest
import ray_operators
import yaml
from conformance import Commits, bare, run
from engine_settings import store
from ray_cluster import RayCluster, RayNode, can_hide, ray_cluster
from test_whole_jobs import output_digest, split_input
from thresher.pipeline.engines.local import LocalEngine
from thresher.pipeline.engines.ray import RayEngine
from thresher.pipeline.stage import EngineError, Input, OperatorRef, Resources, Stage, TaskFailed
from thresher.schemas.engines import Ray

ray = pytest.importorskip("ray", reason="engine ray needs ray")
pytestmark = [pytest.mark.timeout(150), pytest.mark.slow]

NODES = 2


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with store() as url:
        yield url


@pytest.fixture(scope="module")
def nodes(url: str) -> Iterator[RayCluster]:
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    with ray_cluster(NODES, environment=environment) as cluster:
        yield cluster


@pytest.fixture
def cluster(nodes: RayCluster) -> RayCluster:
    """With all its nodes: one takes the place of each that an earlier test has killed."""
    for _ in range(NODES - sum(node.is_alive for node in nodes.nodes)):
        nodes.add_node()
    return nodes


@pytest.fixture
def engine(cluster: RayCluster) -> Iterator[RayEngine]:
    engine = RayEngine(Ray(address=cluster.address), 2, "run")
    yield engine
    engine.close()


@pytest.fixture
def work(url: str) -> str:
    """A folder in the store where nobody has committed anything."""
    return f"{url}/{uuid4().hex}"


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


@pytest.fixture
def expect(tmp_path: Path) -> Iterator[Callable[[Stage], dict[int, Any]]]:
    """What the local engine commits for a stage."""
    local = LocalEngine(1, "local")
    yield lambda stage: bare(run(local, replace(stage, directory=str(tmp_path / "local"))))
    local.close()


EMIT = OperatorRef.of(operators.Emit)


def killing(marks: Path, times: int, part: int = 2) -> OperatorRef:
    return OperatorRef.of(operators.KillOnce, part=part, directory=str(marks), times=times)


def slow(marks: Path, seconds: float = 0.6) -> OperatorRef:
    return OperatorRef.of(ray_operators.Slow, seconds=seconds, directory=str(marks))


def map_stage(work: str, *maps: OperatorRef, parts: int = 6) -> Stage:
    return Stage("map", f"{work}/map", {"in": Input(conformance.records([50] * parts), (*maps, EMIT))})


def model_stage(work: str, loads: Path, *maps: OperatorRef, parts: int = 8) -> Stage:
    model = OperatorRef.of(operators.Model, loads=str(loads), weight=3)
    source = Input(conformance.records([50] * parts), (model, *maps, EMIT))
    return Stage("score", f"{work}/score", {"in": source}, resources=Resources(actors=(1, 2)))


def exchange(work: str, reduce: OperatorRef, *maps: OperatorRef) -> Stage:
    inputs = {
        "left": Input(conformance.records([300, 0, 80, 60]), maps, "key"),
        "right": Input(conformance.records([90, 120], first=1), (), "key"),
    }
    return Stage("match", f"{work}/match", inputs, 8, reduce)


def test_a_part_that_always_kills_its_process_is_given_up_and_all_else_commits(
    engine: RayEngine, work: str, marks: Path, expect: Callable[[Stage], Any]
) -> None:
    stage = map_stage(work, killing(marks, times=99))
    done: Commits = {}
    with pytest.raises(TaskFailed, match="worker process died") as failure:
        done.update((committed.task, committed) for committed in engine.run(stage, stage.tasks))
    assert set(failure.value.failures) == {2}
    expected = expect(map_stage(work))
    del expected[2]
    assert bare(done) == expected


def test_a_part_that_always_kills_its_actor_is_given_up_and_the_part_behind_it_is_not(
    engine: RayEngine, work: str, marks: Path, tmp_path: Path
) -> None:
    stage = model_stage(work, tmp_path / "loads", killing(marks, times=99), parts=4)
    done: Commits = {}
    with pytest.raises(TaskFailed, match="worker process died") as failure:
        done.update((committed.task, committed) for committed in engine.run(stage, stage.tasks))
    assert set(failure.value.failures) == {2}
    assert set(done) == {0, 1, 3}


def test_several_inputs_meet_through_the_store(
    engine: RayEngine, work: str, cluster: RayCluster, expect: Callable[[Stage], Any]
) -> None:
    reduce = OperatorRef.of(operators.AsTheyCome)
    assert bare(run(engine, exchange(work, reduce))) == expect(exchange(work, reduce))
    assert not [p for node in cluster.nodes for p in node.directory.rglob("*.parquet")], "nothing stays there"


@contextmanager
def killing_a_node(cluster: RayCluster, marks: Path, begun: int) -> Iterator[list[RayNode]]:
    """Kills a node that is at work as soon as `begun` tasks have begun; the list says which."""
    killed: list[RayNode] = []

    def work() -> None:
        deadline = time.monotonic() + 60
        while len(list(marks.glob("*-began"))) < begun and time.monotonic() < deadline:
            time.sleep(0.02)
        node, _ = cluster.wait_for_process()
        node.kill()
        killed.append(node)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield killed
    finally:
        thread.join()


def test_a_node_that_is_lost_in_map_is_not_noticed_in_the_commits(
    engine: RayEngine, cluster: RayCluster, work: str, marks: Path, expect: Callable[[Stage], Any]
) -> None:
    with killing_a_node(cluster, marks, begun=3) as killed:
        commits = run(engine, map_stage(work, slow(marks), parts=10))
    assert len(killed) == 1
    assert bare(commits) == expect(map_stage(work, parts=10))


def test_a_node_that_is_lost_in_scoring_is_not_noticed_in_the_commits(
    engine: RayEngine,
    cluster: RayCluster,
    work: str,
    marks: Path,
    tmp_path: Path,
    expect: Callable[[Stage], Any],
) -> None:
    with killing_a_node(cluster, marks, begun=3) as killed:
        commits = run(engine, model_stage(work, tmp_path / "loads", slow(marks), parts=10))
    assert len(killed) == 1
    assert bare(commits) == expect(model_stage(work, tmp_path / "other", parts=10))


def test_a_node_that_is_lost_while_it_sends_or_reduces_is_not_noticed_in_the_commits(
    engine: RayEngine, cluster: RayCluster, work: str, marks: Path, expect: Callable[[Stage], Any]
) -> None:
    plain = OperatorRef.of(operators.AsTheyCome)
    reduce = OperatorRef.of(ray_operators.SlowReduce, seconds=0.6, directory=str(marks))
    with killing_a_node(cluster, marks, begun=3) as killed:
        commits = run(engine, exchange(work, reduce))
    assert len(killed) == 1
    assert bare(commits) == expect(exchange(work, plain))
    cluster.add_node()
    for mark in marks.iterdir():
        mark.unlink()
    with killing_a_node(cluster, marks, begun=2) as killed:
        commits = run(engine, exchange(f"{work}/again", plain, slow(marks)))
    assert len(killed) == 1
    assert bare(commits) == expect(exchange(f"{work}/again", plain))


@pytest.mark.skipif(not can_hide(), reason="this machine gives no mount namespaces")
def test_a_machine_that_joins_later_without_the_work_directory_commits_nothing(
    engine: RayEngine, cluster: RayCluster, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden"
    (hidden / "stages").mkdir(parents=True)
    for node in cluster.nodes:
        node.kill()
    poor = cluster.add_node(hide=[hidden])
    stage = replace(map_stage("none", parts=2), directory=str(hidden / "stages" / "map"))
    try:
        with pytest.raises(TaskFailed, match=r"cannot reach run\.work"):
            run(engine, stage)
    finally:
        poor.kill()


@pytest.mark.parametrize("actors", [None, (1, 1)], ids=["tasks", "actors"])
def test_a_part_for_which_memory_is_short_is_given_up_with_what_to_do(
    marks: Path, tmp_path: Path, actors: tuple[int, int] | None
) -> None:
    # With this threshold the machine is always short of memory.
    with ray_cluster(1, settings={"memory_usage_threshold": 0.001, "memory_monitor_refresh_ms": 100}) as poor:
        engine = RayEngine(Ray(address=poor.address), 1, "run")
        stage = map_stage(str(tmp_path), slow(marks, 20), parts=1)
        try:
            # An actor may not live long enough to be given a part.
            with pytest.raises((TaskFailed, EngineError), match=r"short of memory.*resources: {memory"):
                run(engine, replace(stage, resources=Resources(actors=actors)))
        finally:
            engine.close()


@pytest.fixture(scope="module")
def job_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    job = corpus.job(split_input(corpus.rows(400), folder / "in", 16), folder / "out")
    job["run"] |= {"work": str(folder / "work"), "engine": "ray"}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return folder / "job.yaml"


@pytest.fixture(scope="module")
def undisturbed(job_file: Path) -> dict[str, str]:
    """What the local engine writes, in a work directory of the same name."""
    done = start(job_file, os.environ, "--set", "run.engine=local")
    _, error = done.communicate(timeout=100)
    assert done.returncode == 0, error
    digest = output_digest(job_file.parent / "out")
    clear(job_file)
    return digest


def clear(job_file: Path) -> None:
    for name in ("out", "work"):
        shutil.rmtree(job_file.parent / name, ignore_errors=True)


def start(job: Path, environment: Mapping[str, str], *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "thresher", "run", str(job), "--quiet", *more]
    return subprocess.Popen(
        command,
        env=dict(environment),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def entries(job: Path) -> dict[str, int]:
    """The commits of a job so far, and when each was made."""
    found = (job.parent / "work").glob("stages/*/*.json")
    return {str(path): path.stat().st_mtime_ns for path in found if path.stem.isdigit()}


def end_after(process: subprocess.Popen[str], job: Path, commits: int, end: Callable[[], None]) -> str:
    """Waits for so many commits and ends the driver; what it printed."""
    deadline = time.monotonic() + 90
    while len(entries(job)) < commits:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    end()
    out, error = process.communicate(timeout=30)
    return out + error


def finish(job: Path, environment: Mapping[str, str]) -> None:
    process = start(job, environment)
    out, error = process.communicate(timeout=120)
    assert (process.returncode, out, error) == (0, "", "")


def test_a_driver_that_is_killed_leaves_a_run_that_goes_on(
    cluster: RayCluster, job_file: Path, undisturbed: dict[str, str]
) -> None:
    clear(job_file)
    process = start(job_file, cluster.environment)
    end_after(process, job_file, 20, process.kill)
    before = entries(job_file)
    finish(job_file, cluster.environment)
    after = entries(job_file)
    assert {path: after[path] for path in before} == before, "what was committed is not done again"
    assert output_digest(job_file.parent / "out") == undisturbed


@pytest.mark.parametrize("own", [False, True], ids=["of a running cluster", "with a cluster of its own"])
def test_ctrl_c_ends_with_130_and_leaves_a_run_that_goes_on(
    cluster: RayCluster, job_file: Path, undisturbed: dict[str, str], own: bool
) -> None:
    clear(job_file)
    environment = {k: v for k, v in cluster.environment.items() if not own or k != "RAY_ADDRESS"}
    process = start(job_file, environment)
    # A terminal sends it to the whole group.
    told = end_after(process, job_file, 10, lambda: os.killpg(process.pid, signal.SIGINT))
    assert process.returncode == 130, told
    assert told == "interrupted; the same command goes on from here\n"
    finish(job_file, environment)
    assert output_digest(job_file.parent / "out") == undisturbed
