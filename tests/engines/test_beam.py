"""The Beam engine: what is its own, beside what every engine must do."""

from __future__ import annotations

import errno
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import beam_operators
import operators
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from beam_services import BeamServices, beam_services, serve_on_loopback
from conformance import bare, numbers, records, run
from inline_engine import InlineEngine
from s3_server import Bucket, s3, s3_server  # noqa: F401
from thresher.pipeline.commit import read_entry
from thresher.pipeline.disk import says_full
from thresher.pipeline.probe import probe
from thresher.pipeline.stage import (
    EngineError,
    Input,
    OperatorRef,
    Probe,
    Stage,
    TaskFailed,
)
from thresher.pipeline.storage import Place, place
from thresher.schemas.engines import Beam

pytest.importorskip("apache_beam", reason="engine beam needs apache-beam")
from thresher.pipeline.engines import beam as engine_module
from thresher.pipeline.engines.beam import BeamEngine
from thresher.pipeline.engines.beam_chunks import Incoming, Outgoing, schema_chunk
from thresher.pipeline.engines.beam_signs import Signs

pytestmark = pytest.mark.timeout(120)
HERE = Path(__file__).parent
EMIT = OperatorRef.of(operators.Emit)
POISON = OperatorRef.of(operators.Fail, part=1)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BeamServices]:
    with beam_services(tmp_path_factory.mktemp("services"), (HERE,)) as services:
        yield services


@pytest.fixture(params=["in process", "portable"])
def engine(request: pytest.FixtureRequest) -> Iterator[BeamEngine]:
    if request.param == "portable":
        options = request.getfixturevalue("services").options
        engine = BeamEngine(Beam(runner="PortableRunner", options=options), 2, "run")
    else:
        engine = BeamEngine(Beam(), 2, "run")
    yield engine
    engine.close()


@pytest.fixture
def in_process() -> Iterator[BeamEngine]:
    engine = BeamEngine(Beam(), 2, "run")
    yield engine
    engine.close()


def exchange(directory: str, *more: OperatorRef, partitions: int = 4) -> Stage:
    """Two inputs, of which one has empty parts, to partitions that commit rows as they come."""
    inputs = {
        "left": Input(records([230, 64, 0, 301]), more, "key"),
        "right": Input(records([0, 0, 17], first=1), (), "key"),
    }
    return Stage("exchange", directory, inputs, partitions, OperatorRef.of(operators.AsTheyCome))


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name[0].isdigit()]


def test_a_part_that_fails_for_a_while_is_tried_again_and_sends_nothing_twice(
    engine: BeamEngine, tmp_path: Path
) -> None:
    fails = OperatorRef.of(beam_operators.FailAtFirst, part=3, marks=str(tmp_path / "marks"), times=2)
    found = run(engine, exchange(str(tmp_path / "s"), fails))
    assert len(list((tmp_path / "marks").iterdir())) == 2
    assert bare(found) == bare(run(InlineEngine(1, "reference"), exchange(str(tmp_path / "reference"))))
    assert names(tmp_path / "s") == []


def test_a_part_that_fails_three_times_is_given_up(in_process: BeamEngine, tmp_path: Path) -> None:
    fails = OperatorRef.of(beam_operators.FailAtFirst, part=1, marks=str(tmp_path / "marks"), times=3)
    stage = Stage("map", str(tmp_path / "s"), {"in": Input(records([5, 5, 5]), (fails, EMIT))})
    with pytest.raises(TaskFailed, match=r"stage map: part 1: OSError: .* the network was away$"):
        run(in_process, stage)
    assert len(list((tmp_path / "marks").iterdir())) == 3
    assert read_entry(tmp_path / "s", 2) is not None
    assert names(tmp_path / "s") == []


def test_a_disk_so_full_that_no_failure_can_be_told_is_told_as_such(
    in_process: BeamEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*of_task: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Signs, "give_up", refuse)
    stage = Stage("map", str(tmp_path / "s"), {"in": Input(records([5, 5]), (POISON, EMIT))})
    with pytest.raises(TaskFailed) as failure:
        run(in_process, stage)
    assert says_full(failure.value.failures)


def test_an_exchange_in_which_one_input_has_no_parts_at_all_is_refused(
    in_process: BeamEngine, tmp_path: Path
) -> None:
    inputs = {"left": Input(records([3]), (), "key"), "right": Input((), (), "key")}
    stage = Stage("e", str(tmp_path / "s"), inputs, 2, OperatorRef.of(operators.AsTheyCome))
    with pytest.raises(TaskFailed, match="input right has no parts") as failure:
        run(in_process, stage)
    assert sorted(failure.value.failures) == [0, 1]


def test_a_part_may_send_many_chunks_to_a_partition(
    in_process: BeamEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(InlineEngine(1, "reference"), exchange(str(tmp_path / "reference")))
    monkeypatch.setattr("thresher.pipeline.exchange.BUFFER_BYTES", 3000)
    monkeypatch.setattr("thresher.pipeline.exchange.CHUNK_BYTES", 400)
    assert bare(run(in_process, exchange(str(tmp_path / "s")))) == bare(expected)


def test_chunks_that_arrive_in_any_order_and_twice_are_read_in_their_own(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("key", pa.uint64(), nullable=False)])
    sent: list[bytes] = []
    for source in (0, 1):
        for part in (0, 3, 12):
            outgoing = Outgoing()
            for number in range(20):
                batch = pa.record_batch([pa.array([source, part, number], pa.uint64())], schema=schema)
                outgoing.add(number % 2, batch.serialize())
            sent += [chunk for partition, chunk in outgoing.chunks(source, part, frozenset([1]))]
            outgoing.close()
        sent.append(schema_chunk(source, 0, schema))
    assert len(sent) == 62
    random.Random(3).shuffle(sent)
    incoming = Incoming()
    for chunk in sent + sent[:30]:
        incoming.add(chunk)
    for source in (0, 1):
        arrived = incoming.arrived(source)
        rows = [tuple(chunk.column("key").to_pylist()) for chunk in arrived.chunks]
        assert rows == [(source, part, number) for part in (0, 3, 12) for number in range(1, 20, 2)]
        assert arrived.schema.field("key").nullable
    incoming.close()


def test_commits_are_told_while_the_pipeline_runs(in_process: BeamEngine, tmp_path: Path) -> None:
    maps = (OperatorRef.of(beam_operators.Slow, seconds=1.0, quick=1), EMIT)
    stage = Stage("map", str(tmp_path / "s"), {"in": Input(records([5] * 4), maps)})
    commits = in_process.run(stage, stage.tasks)
    assert next(commits).task == 0
    assert read_entry(tmp_path / "s", 3) is None
    assert sorted(committed.task for committed in commits) == [1, 2, 3]


def test_a_worker_shows_that_it_reaches_the_work_directory_before_its_first_task(
    services: BeamServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def elsewhere(directory: Place, run: str) -> Iterator[Probe]:
        with probe(directory, run) as asked:
            yield Probe(f"{asked.path}-of-another-machine", asked.content)

    monkeypatch.setattr(engine_module, "probe", elsewhere)
    engine = BeamEngine(Beam(runner="PortableRunner", options=services.options), 2, "run")
    stage = Stage("map", str(tmp_path / "s"), {"in": Input(records([5]), (EMIT,))})
    with pytest.raises(EngineError, match=r"^PortableRunner: a worker on \S+ .* cannot reach run\.work: "):
        run(engine, stage)
    assert names(tmp_path / "s") == []
    assert list((tmp_path / "s").iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (Beam(runner="DirectRunner"), "write in-process in place of DirectRunner"),
        (Beam(runner="SwiftRunner"), "Unexpected pipeline runner: SwiftRunner"),
        (Beam(runner="PortableRunner"), "You must specify a --job_endpoint"),
        (
            Beam(runner="PortableRunner", options=["--job_endpoint=127.0.0.1:9", "--job_server_timeout=1"]),
            "PortableRunner: no job service answers",
        ),
        (Beam(runner="PortableRunner", options=["--job_server_timeout=soon"]), "--job_server_timeout"),
    ],
)
def test_a_runner_that_cannot_be_used_is_refused_with_the_reason(
    settings: Beam, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EngineError, match=told), probe(tmp_path, "run") as asked:
        BeamEngine(settings, 1, "run").check(asked)
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_options_reach_the_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from grpc import _server

    monkeypatch.setattr(_server._Server, "add_insecure_port", _server._Server.add_insecure_port)
    monkeypatch.setattr(socket, "getfqdn", socket.getfqdn)
    serve_on_loopback()
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    engine = BeamEngine(Beam(options=options), 2, "run")
    with probe(tmp_path, "run") as asked:
        engine.check(asked)
    maps = (OperatorRef.of(beam_operators.Pid),)
    commits = run(engine, Stage("map", str(tmp_path / "s"), {"in": Input(records([5] * 4), maps)}))
    pids = {pq.read_table(c.streams["pid"].path).column("pid")[0].as_py() for c in commits.values()}
    assert os.getpid() not in pids


def test_nothing_is_printed(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from conformance import map_only, run\n"
        "from thresher.pipeline.engines.beam import BeamEngine\n"
        "from thresher.schemas.engines import Beam\n"
        "engine = BeamEngine(Beam(), 1, 'run')\n"
        "run(engine, map_only(sys.argv[2], {}))\n"
        "engine.close()\n"
    )
    command = [sys.executable, "-c", program, str(HERE), str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert done.stdout + done.stderr == b""


def test_work_may_be_in_a_store(in_process: BeamEngine, s3: Bucket, tmp_path: Path) -> None:  # noqa: F811
    expected = run(InlineEngine(1, "reference"), exchange(str(tmp_path / "reference")))
    assert bare(run(in_process, exchange("s3://data/work/s"))) == bare(expected)
    assert {name[0] for name in s3.objects("work/s/")} == {"0"}


@pytest.mark.slow
def test_workers_elsewhere_work_in_a_store(s3: Bucket, tmp_path: Path) -> None:  # noqa: F811
    expected = run(InlineEngine(1, "reference"), exchange(str(tmp_path / "reference")))
    with beam_services(tmp_path / "services", (HERE,)) as services:
        engine = BeamEngine(Beam(runner="PortableRunner", options=services.options), 2, "run")
        with probe(place("s3://data/work"), "run") as asked:
            engine.check(asked)
        assert bare(run(engine, exchange("s3://data/work/s"))) == bare(expected)
    assert {name[0] for name in s3.objects("work/s/")} == {"0"}


def test_many_partitions_without_rows_commit_too(in_process: BeamEngine, tmp_path: Path) -> None:
    inputs = {"in": Input(numbers(2, 50, 3), (), "key")}
    stage = Stage("e", str(tmp_path / "s"), inputs, 64, OperatorRef.of(operators.SumByKey))
    commits = run(in_process, stage)
    assert len(commits) == 64
    assert sum(c.streams["sums-in"].rows > 0 for c in commits.values()) == 3
