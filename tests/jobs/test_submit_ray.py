"""Jobs on a real Ray cluster: what travels to it, how they end, and what is told where they cannot start."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest

pytest.importorskip("ray", reason="needs ray[default]")

import thresher
from thresher.jobs.cluster_jobs import Address, Cluster, exit_status
from thresher.jobs.submit import Submission, prepare

pytestmark = pytest.mark.timeout(240)

_spec = importlib.util.spec_from_file_location("ray_head", Path(__file__).with_name("ray_head.py"))
assert _spec is not None
assert _spec.loader is not None
_ray_head = importlib.util.module_from_spec(_spec)
sys.modules["ray_head"] = _ray_head
_spec.loader.exec_module(_ray_head)

REPOSITORY = str(Path(thresher.__file__).parent)
JOB = """\
name: small
input: docs/*.jsonl
steps:
  - dedup: exact
output: {path: OUT}
"""


class Proxy:
    """Passes connections on to a server, until they are cut."""

    def __init__(self, url: str) -> None:
        self._target = (str(urlsplit(url).hostname), int(urlsplit(url).port or 0))
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.cuts = 0

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)
                self.cuts += 1

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._server.accept()
                there = socket.create_connection(self._target)
                self._open += [here, there]
                for source, target in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while block := source.recv(1 << 16):
                target.sendall(block)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def head() -> Iterator[_ray_head.RayHead]:
    with _ray_head.ray_head() as started:
        yield started


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "docs").mkdir(parents=True)
    texts = [f"The text of number {number % 17} is a text that has some words." for number in range(20)]
    rows = [json.dumps({"id": f"d{number}", "text": text}) for number, text in enumerate(texts)]
    (folder / "docs" / "a.jsonl").write_text("\n".join(rows))
    (folder / ".venv").mkdir()
    (folder / ".venv" / "large.bin").write_bytes(bytes(1000))
    (folder / "job.yaml").write_text(JOB.replace("OUT", str(tmp_path / "shared" / "out")))
    return folder / "job.yaml"


@pytest.fixture
def cluster(head: _ray_head.RayHead, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)
    return Cluster(Address.of(head.dashboard))


def type_in(head: _ray_head.RayHead, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "thresher", *arguments, "--to", head.dashboard],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "RAY_AUTH_TOKEN": head.token, **environment},
    )


def records_of(output: Path) -> list[tuple[str, str]]:
    table = pq.read_table(sorted(output.glob("shard-*.parquet")))
    return list(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))


@pytest.mark.parametrize("engine", [pytest.param("local", marks=pytest.mark.slow), "ray"])
def test_a_submitted_job_leaves_on_the_cluster_what_it_leaves_here(
    head: _ray_head.RayHead, job: Path, tmp_path: Path, engine: str
) -> None:
    if importlib.util.find_spec(f"thresher.pipeline.engines.{engine}") is None:
        pytest.skip(f"no engine {engine}")
    here = thresher.run(thresher.load(job, [f"output.path={tmp_path / 'here'}", "run.workers=1"]))
    sets = () if engine == "ray" else ("--set", "run.engine=local", "--set", "run.workers=1")
    # What the environment says of other clusters does not lead a job there.
    done = type_in(
        head, "submit", str(job), "--with", str(job.parent / "docs"), "--wait", *sets,
        RAY_ADDRESS="http://127.0.0.1:1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(records_of(Path(here.output))) == 17
    assert records_of(tmp_path / "shared" / "out") == records_of(Path(here.output))
    assert "20 in = 17 kept" in done.stdout
    assert str(tmp_path / "shared" / "out") in done.stderr.splitlines()[0]
    assert head.token not in done.stdout + done.stderr


def test_the_driver_and_the_workers_use_the_thresher_that_travelled_and_find_what_was_named(
    cluster: Cluster, job: Path, tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    submission = Submission(job, more=[job.parent / "docs"], environment={"COLOUR": "green"})
    prepared = prepare(submission, tmp_path / "scratch")
    program = """
import json, os, ray, thresher
from importlib.metadata import version
def found():
    names = sorted(os.path.join(f, n)[2:] for f, _, ns in os.walk(".") for n in ns)
    return names, thresher.__file__, version("thresher"), os.environ["COLOUR"]
ray.init(log_to_driver=False)
print("FOUND" + json.dumps([found(), ray.get(ray.remote(found).remote())]))
"""
    submitted = cluster.submit(["python", "-c", program], prepared.runtime_environment, "what is there")
    printed: list[str] = []
    status = cluster.follow(submitted, printed.append)
    assert status["state"] == "SUCCEEDED", "".join(printed)
    assert "".join(printed) == cluster.log(submitted)
    (line,) = [line for line in "".join(printed).splitlines() if line.startswith("FOUND")]
    for names, file, version, colour in json.loads(line[len("FOUND") :]):
        assert names == ["docs/a.jsonl", "job.yaml"]
        assert "py_modules_files" in file
        assert not file.startswith(REPOSITORY)
        assert (version, colour) == (thresher.__version__, "green")


@pytest.mark.slow
def test_a_job_that_is_wrong_there_ends_with_its_own_exit_status(head: _ray_head.RayHead, job: Path) -> None:
    gone = "/nowhere/on/this/machine.jsonl"
    done = type_in(head, "submit", str(job), "--set", f"input={gone}", "--set", "run.engine=local", "--wait")
    assert done.returncode == 2
    assert f"{gone}: no file matches" in done.stdout
    assert "FAILED, exit status 2" in done.stderr


@pytest.mark.slow
def test_every_exit_status_comes_back(cluster: Cluster) -> None:
    expected = {"exit 3": 3, "exit 4": 4, "kill -9 $$": 137, "true": 0}
    submitted = {code: cluster.submit(["sh", "-c", code], {}, "ends") for code in expected}
    found = {code: exit_status(cluster.follow(job, lambda _: None)) for code, job in submitted.items()}
    assert found == expected


@pytest.mark.slow
def test_a_python_that_lacks_what_thresher_needs_is_told_with_all_that_is_missing(
    head: _ray_head.RayHead, job: Path, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    done = type_in(
        head, "submit", str(job), "--with", str(job.parent / "docs"), "--wait", "--python",
        str(tmp_path / "bare" / "bin" / "python"),
    )  # fmt: skip
    assert done.returncode == 2, done.stdout
    assert "the cluster lacks what thresher needs" in done.stdout
    assert "  numba>=0.60\n" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.slow
def test_a_stopped_job_is_interrupted_so_that_it_can_tidy_up(
    head: _ray_head.RayHead, cluster: Cluster, job: Path, tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    prepared = prepare(Submission(job, more=[job.parent / "docs"]), tmp_path / "scratch")
    program = (
        "import time\nprint('at work')\ntry: time.sleep(100)\nexcept KeyboardInterrupt: print('tidied up')"
    )
    submitted = cluster.submit(["python", "-c", program], prepared.runtime_environment, "long")
    deadline = time.monotonic() + 60
    while "at work\n" not in cluster.log(submitted):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    waiting = subprocess.Popen(
        [sys.executable, "-m", "thresher", "jobs", "logs", submitted, "--follow", "--to", head.dashboard],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_AUTH_TOKEN": head.token},
    )
    assert waiting.stdout is not None
    assert any(line == "at work\n" for line in waiting.stdout)
    waiting.send_signal(signal.SIGINT)
    _, told = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert (
        told.strip() == f"{submitted} goes on; thresher jobs stop {submitted} --to {head.dashboard} ends it"
    )
    assert "RUNNING" in type_in(head, "jobs", "status", submitted).stdout
    assert type_in(head, "jobs", "stop", submitted).stdout == f"{submitted} was told to stop\n"
    followed = type_in(head, "jobs", "logs", submitted, "--follow")
    assert followed.returncode == 130
    assert "tidied up" in followed.stdout
    assert "does not run" in type_in(head, "jobs", "stop", submitted).stdout
    listed = json.loads(type_in(head, "jobs", "status", "--json").stdout)
    assert [one["state"] for one in listed if one["job"] == submitted] == ["STOPPED"]


@pytest.mark.slow
def test_a_log_whose_connection_breaks_is_shown_once_and_to_its_end(
    head: _ray_head.RayHead, cluster: Cluster
) -> None:
    program = "import time\nfor n in range(15): print('line', n, flush=True); time.sleep(0.3)"
    submitted = cluster.submit(["python", "-c", program], {}, "counts")
    printed: list[str] = []
    with Proxy(head.dashboard) as proxy:
        through = Cluster(Address.of(proxy.url))

        def show(text: str) -> None:
            printed.append(text)
            if "line 5\n" in text:
                proxy.cut()

        status = through.follow(submitted, show)
        assert proxy.cuts > 0
    assert status["state"] == "SUCCEEDED"
    assert "".join(printed) == cluster.log(submitted)
    assert "line 14\n" in printed[-1]


def test_a_wrong_token_and_none_are_told_apart_and_never_shown(
    head: _ray_head.RayHead, tmp_path: Path
) -> None:
    wrong = type_in(head, "jobs", "status", RAY_AUTH_TOKEN="not-this-one")
    assert wrong.returncode == 2
    assert "refuses access: the token that was sent is not the cluster's" in wrong.stderr
    assert "not-this-one" not in wrong.stderr
    none = type_in(head, "jobs", "status", RAY_AUTH_TOKEN="", HOME=str(tmp_path))
    assert none.returncode == 2
    assert "refuses access: no token was found to send" in none.stderr
    (tmp_path / "token").write_text(head.token + "\n")
    told = type_in(
        head, "jobs", "status", "--token-file", str(tmp_path / "token"), RAY_AUTH_TOKEN="not-this-one"
    )
    assert told.returncode == 0, told.stderr
    sent = type_in(
        head, "jobs", "status", "--header", f"Authorization=Bearer {head.token}", RAY_AUTH_TOKEN=""
    )
    assert sent.returncode == 0, sent.stderr


@pytest.mark.parametrize("command", [("status",), ("logs",), ("logs", "--follow"), ("stop",)])
def test_an_unknown_job_is_told_with_where_to_look(head: _ray_head.RayHead, command: tuple[str, ...]) -> None:
    done = type_in(head, "jobs", *command, "raysubmit_never")
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: there is no job raysubmit_never on {head.dashboard}; ")
