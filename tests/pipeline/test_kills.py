"""Real kills: the run goes on where it ended, and nothing can be told from its output."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import corpus
import psutil
import pytest
import yaml
from test_whole_jobs import output_digest, split_input


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    job = corpus.job(split_input(corpus.rows(400), tmp_path / "in", 16), tmp_path / "out")
    job["run"]["work"] = str(tmp_path / "work")
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def start(job: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "thresher", "run", str(job), "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def commits(tmp_path: Path) -> int:
    return len([path for path in (tmp_path / "work").glob("stages/*/*.json") if path.stem.isdigit()])


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, f"the run ended too early: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def undisturbed(job: Path, tmp_path: Path) -> dict[str, str]:
    process = start(job)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error.decode()
    return output_digest(tmp_path / "out")


def reference(job: Path, tmp_path: Path) -> dict[str, str]:
    """What the job writes when nothing goes wrong, in a work directory of the same name."""
    digest = undisturbed(job, tmp_path)
    (tmp_path / "work").rename(tmp_path / "work-before")
    (tmp_path / "out").rename(tmp_path / "out-before")
    return digest


@pytest.mark.parametrize(
    "after", [pytest.param(3, marks=pytest.mark.slow), 20, pytest.param(40, marks=pytest.mark.slow)]
)
def test_a_killed_driver_leaves_a_run_that_goes_on(job_file: Path, tmp_path: Path, after: int) -> None:
    expected = reference(job_file, tmp_path)
    process = start(job_file)
    wait_for(lambda: commits(tmp_path) >= after, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive, "workers outlive the driver"
    before = commits(tmp_path)
    assert before >= after
    assert undisturbed(job_file, tmp_path) == expected
    assert not list((tmp_path / "work").rglob(".unfinished-*"))


def test_a_killed_worker_is_not_noticed_in_the_output(job_file: Path, tmp_path: Path) -> None:
    expected = reference(job_file, tmp_path)
    process = start(job_file)
    wait_for(lambda: commits(tmp_path) >= 5, process)
    killed = 0
    for child in psutil.Process(process.pid).children(recursive=True):
        if "forkserver" in " ".join(child.cmdline()) and child.children() == []:
            child.kill()
            killed += 1
            break
    _, error = process.communicate(timeout=120)
    assert killed == 1
    assert process.returncode == 0, error.decode()
    assert output_digest(tmp_path / "out") == expected


def test_ctrl_c_ends_with_130_and_leaves_a_run_that_goes_on(job_file: Path, tmp_path: Path) -> None:
    expected = reference(job_file, tmp_path)
    process = start(job_file)
    wait_for(lambda: commits(tmp_path) >= 10, process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error.decode()
    assert b"Traceback" not in error
    assert undisturbed(job_file, tmp_path) == expected


@pytest.mark.slow
def test_the_totals_of_a_resumed_run_are_those_of_an_undisturbed_one(job_file: Path, tmp_path: Path) -> None:
    reference(job_file, tmp_path)
    totals = json.loads((tmp_path / "out-before" / "manifest.json").read_text())["totals"]
    process = start(job_file)
    wait_for(lambda: commits(tmp_path) >= 12, process)
    process.kill()
    process.wait()
    undisturbed(job_file, tmp_path)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["totals"] == totals


@pytest.mark.slow
def test_a_job_of_every_kind_of_step_survives_kills_at_any_time(tmp_path: Path) -> None:
    kill_at_random(tmp_path, 0, 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_a_job_of_every_kind_of_step_survives_more_kills(tmp_path: Path, seed: int) -> None:
    kill_at_random(tmp_path, seed, 6)


def kill_at_random(tmp_path: Path, seed: int, kills: int) -> None:
    """Kills a run again and again, its driver and at times a worker first; the last one is left alone."""
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(corpus.full_job(tmp_path)))
    expected = reference(path, tmp_path)
    whole = len([p for p in (tmp_path / "work-before").glob("stages/*/*.json") if p.stem.isdigit()])
    assert whole > 100
    random_ = random.Random(seed)
    for after in sorted(random_.sample(range(1, whole - 5), kills)):
        process = start(path)
        wait_for(lambda after=after: commits(tmp_path) >= after, process)  # type: ignore[misc]
        time.sleep(random_.random() / 20)
        workers: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):  # what is to be killed may be through
            workers = psutil.Process(process.pid).children(recursive=True)
            if workers and random_.random() < 0.5:
                some = [worker for worker in workers if not worker.children()]
                random_.choice(some or workers).kill()
        process.kill()
        process.wait()
        psutil.wait_procs(workers, timeout=10)
    assert undisturbed(path, tmp_path) == expected
    assert not list((tmp_path / "work").rglob(".unfinished-*"))
