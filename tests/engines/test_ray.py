"""The Ray engine on one node: what is in flight, actors, devices, and clusters that cannot be used."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import conformance
import operators
import pyarrow.parquet as pq
import pytest
import ray_operators
from conformance import bare, run
from ray_cluster import RayCluster, can_hide, single_node
from thresher.pipeline.engines import ray_connection, ray_room
from thresher.pipeline.engines.local import LocalEngine
from thresher.pipeline.engines.ray import RayEngine
from thresher.pipeline.probe import probe
from thresher.pipeline.stage import EngineError, Input, OperatorRef, Probe, Resources, Stage
from thresher.schemas.engines import Ray

ray = pytest.importorskip("ray", reason="engine ray needs ray")
pytestmark = pytest.mark.timeout(120)

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with single_node(cpus=2, gpus=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def connected(cluster: RayCluster) -> Iterator[None]:
    """This process is connected for as long as the module is tested, as a notebook might be."""
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def engine(connected: None) -> Iterator[RayEngine]:
    engine = RayEngine(Ray(), 2, "run")
    yield engine
    engine.close()
    assert ray.is_initialized(), "a connection that was there before is left as it is"


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def slow(marks: Path, seconds: float = 0.3) -> OperatorRef:
    return OperatorRef.of(ray_operators.Slow, seconds=seconds, directory=str(marks))


def stage_of(tmp_path: Path, parts: int, *maps: OperatorRef, resources: Resources) -> Stage:
    emit = OperatorRef.of(operators.Emit)
    source = Input(conformance.records([20] * parts), (*maps, emit))
    return Stage("slow", str(tmp_path / "stage"), {"in": source}, resources=resources)


def at_a_time(marks: Path) -> int:
    """The most parts that were worked on at any one time."""
    told = [path.read_text().split() for path in marks.glob("*-done")]
    starts = [(float(began), 1) for began, _, _ in told]
    ends = [(float(ended), -1) for _, ended, _ in told]
    now = most = 0
    for _, change in sorted(starts + ends):
        now += change
        most = max(most, now)
    return most


def processes(marks: Path) -> set[str]:
    return {path.read_text().split()[2] for path in marks.glob("*-done")}


@pytest.mark.parametrize(("window", "most"), [(3, 3), (None, 4)])
def test_no_more_tasks_are_in_flight_than_the_window_says(
    connected: None, marks: Path, tmp_path: Path, window: int | None, most: int
) -> None:
    engine = RayEngine(Ray(window=window), 2, "run")
    small = Resources(cpus=0.1)  # the two cores would take twenty of them
    # Long enough for as many worker processes to start as the window asks for.
    assert len(run(engine, stage_of(tmp_path, 14, slow(marks, 1.5), resources=small))) == 14
    assert at_a_time(marks) == most


def test_nothing_more_is_sent_while_nobody_asks_for_results(
    connected: None, marks: Path, tmp_path: Path
) -> None:
    engine = RayEngine(Ray(window=2), 2, "run")
    commits = engine.run(
        stage := stage_of(tmp_path, 12, slow(marks, 0.1), resources=Resources(0.1)), stage.tasks
    )
    next(commits)
    time.sleep(1.5)
    begun = len(list(marks.glob("*-began")))
    assert 3 <= begun <= 4, "those that were in flight, and one for each that has returned"
    assert len(list(commits)) == 11


def test_a_stage_left_in_the_middle_leaves_nothing_running(
    engine: RayEngine, marks: Path, tmp_path: Path
) -> None:
    stage = stage_of(tmp_path, 8, slow(marks, 1), resources=Resources(0.5))
    commits = engine.run(stage, stage.tasks)
    next(commits)
    before, deadline = at_work(marks), time.monotonic() + 20
    while not at_work(marks) - before:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ended = at_work(marks) - before  # those that have just begun
    engine.close()
    begun = len(list(marks.glob("*-began")))
    time.sleep(1.5)
    assert len(list(marks.glob("*-began"))) == begun
    assert ended <= at_work(marks), "what ran was ended before its time"


def at_work(marks: Path) -> set[str]:
    """The parts that have begun and are not done."""
    began, done = (
        {path.name.partition("-")[0] for path in marks.glob(f"*-{end}")} for end in ("began", "done")
    )
    return began - done


def model_stage(tmp_path: Path, parts: int, marks: Path, resources: Resources) -> Stage:
    loads = OperatorRef.of(operators.Model, loads=str(tmp_path / "loads"), weight=2)
    return stage_of(tmp_path, parts, loads, slow(marks), resources=resources)


def loads(tmp_path: Path) -> list[str]:
    """The processes that have loaded the model, one for each time."""
    return [path.name.partition("-")[0] for path in (tmp_path / "loads").iterdir()]


def test_actors_grow_to_the_most_and_not_beyond_and_load_the_model_once(
    engine: RayEngine, cluster: RayCluster, marks: Path, tmp_path: Path
) -> None:
    stage = model_stage(tmp_path, 24, marks, Resources(cpus=0.25, actors=(1, 3)))
    assert len(run(engine, stage)) == 24
    assert len(loads(tmp_path)) == 3
    assert set(loads(tmp_path)) == processes(marks)
    deadline = time.monotonic() + 10
    while any("ModelWorker" in title for title in cluster.titles()):
        assert time.monotonic() < deadline, "actors end with their stage"


@pytest.mark.slow
def test_as_many_actors_as_the_cluster_has_room_for_do_the_work(
    engine: RayEngine, marks: Path, tmp_path: Path
) -> None:
    stage = model_stage(tmp_path, 10, marks, Resources(cpus=1, actors=(4, 9)))
    assert len(run(engine, stage)) == 10
    assert len(set(loads(tmp_path))) == len(loads(tmp_path)) == 2


@pytest.mark.slow
def test_few_parts_take_few_actors(engine: RayEngine, marks: Path, tmp_path: Path) -> None:
    assert len(run(engine, model_stage(tmp_path, 1, marks, Resources(cpus=0.25, actors=(4, 9))))) == 1
    assert len(loads(tmp_path)) == 1


def test_an_actor_finds_the_next_part_without_the_driver(
    engine: RayEngine, marks: Path, tmp_path: Path
) -> None:
    stage = model_stage(tmp_path, 8, marks, Resources(cpus=0.25, actors=(1, 1)))
    commits = engine.run(stage, stage.tasks)
    next(commits)
    time.sleep(2)
    assert len(list(marks.glob("*-done"))) == 3, "the first, the one at work and the one behind it"
    assert len(list(commits)) == 7


def test_a_task_whose_process_is_killed_runs_again(engine: RayEngine, marks: Path, tmp_path: Path) -> None:
    killed = OperatorRef.of(operators.KillOnce, part=2, directory=str(marks), times=2)
    commits = run(engine, stage_of(tmp_path, 6, killed, resources=Resources()))
    assert len(list(marks.iterdir())) == 2
    assert bare(commits) == bare(expected(stage_of(tmp_path, 6, resources=Resources())))


def test_a_killed_actor_is_replaced_and_its_part_redone(
    engine: RayEngine, marks: Path, tmp_path: Path
) -> None:
    killed = OperatorRef.of(operators.KillOnce, part=1, directory=str(marks), times=1)
    model = OperatorRef.of(operators.Model, loads=str(tmp_path / "loads"), weight=2)
    one = Resources(cpus=0.5, actors=(1, 1))
    commits = run(engine, stage_of(tmp_path, 5, model, killed, resources=one))
    assert len(list(marks.iterdir())) == 1
    assert len(set(loads(tmp_path))) == len(loads(tmp_path)) == 2
    assert bare(commits) == bare(expected(stage_of(tmp_path, 5, model, resources=one)))


def expected(stage: Stage) -> conformance.Commits:
    """What the local engine commits."""
    engine = LocalEngine(1, "local")
    try:
        return run(engine, replace(stage, directory=f"{stage.directory}-local"))
    finally:
        engine.close()


@pytest.mark.skipif(not can_hide(), reason="this machine gives no mount namespaces")
def test_a_machine_without_the_work_directory_is_found_before_any_work(
    engine: RayEngine, cluster: RayCluster, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with probe(work, "run") as asked:
        engine.check(asked)
        poor = cluster.add_node(hide=[work])
        try:
            with pytest.raises(EngineError, match=r"cannot reach run\.work: .* is not there; name a folder"):
                engine.check(asked)
        finally:
            poor.kill()


def surroundings(commits: conformance.Commits) -> list[dict[str, str]]:
    return [pq.read_table(c.streams["surroundings"].path).to_pylist()[0] for c in commits.values()]


@pytest.mark.slow
def test_each_actor_has_a_device_of_its_own(engine: RayEngine, tmp_path: Path) -> None:
    maps = (OperatorRef.of(ray_operators.Surroundings),)
    stage = stage_of(tmp_path, 12, *maps, resources=Resources(cpus=0.5, gpus=1))
    seen = surroundings(run(engine, stage))
    assert {row["devices"] for row in seen} == {"0", "1"}
    assert len({(row["devices"], row["process"]) for row in seen}) == 2


@pytest.mark.parametrize(("cpus", "threads"), [(1, "1"), (2, "2")])
def test_libraries_have_as_many_threads_as_a_task_has_cores(
    engine: RayEngine, tmp_path: Path, cpus: float, threads: str
) -> None:
    maps = (OperatorRef.of(ray_operators.Surroundings),)
    seen = surroundings(run(engine, stage_of(tmp_path, 2, *maps, resources=Resources(cpus=cpus))))
    assert {(row["threads"], row["arrow"]) for row in seen} == {(threads, "1 1")}


@pytest.mark.parametrize("actors", [None, (1, 2)])
def test_what_no_machine_has_is_told(
    engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, actors: tuple[int, int] | None
) -> None:
    monkeypatch.setattr(ray_room, "ROOM_SECONDS", 1)
    stage = stage_of(tmp_path, 3, resources=Resources(cpus=1, gpus=3, actors=actors))
    with pytest.raises(EngineError, match=r"CPU 1, GPU 3\); the machines have: .*CPU 2, GPU 2\."):
        run(engine, stage)


def test_a_machine_with_another_version_of_thresher_is_found(
    engine: RayEngine, cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_of = metadata.version
    another = {"thresher": "77.7"}  # than the workers have
    monkeypatch.setattr(metadata, "version", lambda name: another.get(name) or asked_of(name))
    with probe(tmp_path, "run") as asked, pytest.raises(EngineError) as error:
        engine.check(asked)
    assert cluster.nodes[0].id[:8] in str(error.value)
    assert "the driver thresher 77.7" in str(error.value)


def test_ray_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match="pip install ray"):
        RayEngine(Ray(), 2, "run").check(Probe("none", ""))


# What these print ends in the report of a test that fails: the engine itself must print nothing.
UNUSABLE = """
import sys, time
from thresher.pipeline.engines import ray_connection
from thresher.pipeline.engines.ray import RayEngine
from thresher.pipeline.stage import EngineError, Probe
from thresher.schemas.engines import Ray
ray_connection.CONNECT_SECONDS = float(sys.argv[2])
began = time.monotonic()
try:
    RayEngine(Ray(address=sys.argv[1]), 2, "run").check(Probe("none", ""))
except EngineError as error:
    print(error, round(time.monotonic() - began), sep="|")
"""


def unusable(address: str, seconds: float) -> tuple[str, int]:
    """What a driver says of an address, and after how many seconds; it must end, and print nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", UNUSABLE, address, str(seconds)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    told, _, took = done.stdout.strip().partition("|")
    return told, int(took)


def test_an_address_where_nothing_listens_is_told_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and it does not listen
        told, took = unusable(f"127.0.0.1:{taken.getsockname()[1]}", 30)
    assert "no Ray cluster answers" in told
    assert "run.ray.address" in told
    assert took < 10


def test_an_address_where_something_else_listens_is_told_in_time() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        told, took = unusable(f"127.0.0.1:{other.getsockname()[1]}", 3)
    assert "no Ray cluster answers within 3" in told
    assert took < 20


def test_an_address_of_ray_client_is_refused_with_what_to_do() -> None:
    told, _ = unusable("ray://127.0.0.1:10001", 3)
    assert "thresher submit" in told


ALONE = """
import sys
from pathlib import Path
import psutil
from conformance import map_only, run
from thresher.pipeline.engines.ray import RayEngine
from thresher.pipeline.probe import probe
from thresher.schemas.engines import Ray

folder = Path(sys.argv[1])
engine = RayEngine(Ray(), 2, "run")
with probe(folder, "run") as asked:
    engine.check(asked)
run(engine, map_only(str(folder / "stage"), {}))
children = psutil.Process().children(recursive=True)
listening = {
    connection.laddr.ip
    for process in children
    for connection in process.net_connections("tcp")
    if connection.status == psutil.CONN_LISTEN
}
(folder / "listening").write_text(" ".join(sorted(listening)))
(folder / "processes").write_text(" ".join(str(process.pid) for process in children))
engine.close()
"""


@pytest.mark.slow
def test_a_cluster_of_its_own_is_private_quiet_and_gone_in_the_end(tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent / "pipeline")]),
        "HOME": str(tmp_path),  # where Ray keeps the token that it makes
    }
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    heard = set((tmp_path / "listening").read_text().split())
    assert heard <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    pids: Sequence[str] = (tmp_path / "processes").read_text().split()
    assert len(pids) >= 3
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "processes of the cluster outlive the run"
        time.sleep(0.1)
    assert not list(Path("/tmp").glob(f"{ray_connection._PREFIX}{os.getpid()}-*"))
    assert not list(tmp_path.glob(f"{ray_connection._PREFIX}*"))
