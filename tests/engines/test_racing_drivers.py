"""Two drivers on one work directory: real processes, some of them killed; one correct output in the end."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import corpus
import psutil
import pytest
import yaml
from inline_engine import inline_tasks
from s3_server import Bucket, s3, s3_server
from test_remote_output import files
from test_whole_jobs import split_input

__all__ = ["s3", "s3_server"]

Look = Callable[[], dict[str, bytes]]


def job(source: str, out: str, work: str) -> dict[str, Any]:
    return {
        "name": "race",
        "input": [{"path": source}],
        "steps": [
            {"filter": {"gopher_quality": {"min_words": 60}}},
            {"dedup": "exact"},
            {"select": {"top": "60%", "by": "word_count"}},
        ],
        "output": {"path": out, "shard": "5KB"},
        "run": {"part": "20KB", "workers": 1, "work": work},
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return split_input(corpus.rows(60), tmp_path_factory.mktemp("source"), 4)


@pytest.fixture(scope="module")
def expected(source: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one undisturbed run leaves, without the job, which names its output."""
    import thresher

    folder = tmp_path_factory.mktemp("undisturbed")
    with inline_tasks():
        thresher.run(thresher.load(job(source, str(folder / "out"), str(folder / "work"))))
    return without_job(files(folder / "out"))


def without_job(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in found.items() if name != "job.yaml"}


@dataclass
class Race:
    """A job that several processes run, and where its output is seen."""

    file: Path
    look: Look
    temporary: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "thresher", "run", str(self.file), "--quiet"]
        environment = {**os.environ, "TMPDIR": str(self.temporary)}
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
        )
        self.processes.append(process)
        return process


@pytest.fixture(params=["local", pytest.param("remote", marks=pytest.mark.slow)])
def race(request: pytest.FixtureRequest, source: str, tmp_path: Path) -> Iterator[Race]:
    """Both with a local work directory and output, and with both in a store."""
    look: Look
    if request.param == "local":
        out, work = str(tmp_path / "out"), str(tmp_path / "work")

        def look() -> dict[str, bytes]:
            return seen(tmp_path / "out")

    else:
        out, work = "s3://data/out", "s3://data/work"
        bucket: Bucket = request.getfixturevalue("s3")

        def look() -> dict[str, bytes]:
            return bucket.objects("out/")

    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job(source, out, work)))
    with tempfile.TemporaryDirectory() as temporary:  # short, as the name of a socket in it has to be
        made = Race(file, look, Path(temporary))
        yield made
        for process in made.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


def seen(folder: Path) -> dict[str, bytes]:
    """The files of a folder that others change meanwhile."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        with suppress(FileNotFoundError, IsADirectoryError):
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


class Watch:
    """Looks at an output again and again: whenever there is a manifest, all that it names must be there, and
    it stays."""

    def __init__(self, look: Look) -> None:
        self._look, self._over = look, threading.Event()
        self.wholes = 0
        self.spoilt: list[str] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        last = False
        while not last:
            last = self._over.wait(0.02)  # one look when all is over
            before, found, after = self._seen(), self._seen(), self._seen()
            if before is None or found is None or after is None:
                continue
            if "manifest.json" not in before:
                self.spoilt += ["manifest.json"] * (self.wholes > 0)
                continue
            self.wholes += 1
            if after.get("manifest.json") != before["manifest.json"]:
                self.spoilt.append("manifest.json")
            manifest = json.loads(before["manifest.json"])
            self.spoilt += [name for name in manifest["files"] if name not in found]
            for shard in manifest["shards"]:
                data = found.get(shard["path"], b"")
                if hashlib.sha256(data).hexdigest() != shard["sha256"]:
                    self.spoilt.append(shard["path"])

    def _seen(self) -> dict[str, bytes] | None:
        """None where something that was listed was gone when it was read."""
        with suppress(Exception):
            return self._look()
        return None

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()


def ended(process: subprocess.Popen[bytes]) -> int:
    _, error = process.communicate(timeout=150)
    assert b"Traceback" not in error, error.decode()
    assert process.returncode in (0, -9), error.decode()
    return process.returncode


def check(race: Race, expected: dict[str, bytes]) -> None:
    found = race.look()
    assert without_job(found) == expected
    assert "job.yaml" in found


@pytest.mark.timeout(300)
def test_two_drivers_at_once_end_with_one_correct_output(race: Race, expected: dict[str, bytes]) -> None:
    watch = Watch(race.look)
    with watch.watching():
        drivers = [race.start(), race.start()]
        assert [ended(driver) for driver in drivers] == [0, 0]
    check(race, expected)
    assert (watch.spoilt, watch.wholes > 0) == ([], True)


def kill_one(race: Race, expected: dict[str, bytes], after: float) -> None:
    """Kills the first of two drivers; the other one goes on and ends well, without being started again."""
    watch = Watch(race.look)
    with watch.watching():
        first, second = race.start(), race.start()
        began = time.monotonic()
        while time.monotonic() < began + after and first.poll() is None:
            time.sleep(0.01)
        workers: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            workers = psutil.Process(first.pid).children(recursive=True)
        first.kill()
        ended(first)
        assert ended(second) == 0
    psutil.wait_procs(workers, timeout=10)
    check(race, expected)
    assert (watch.spoilt, watch.wholes > 0) == ([], True)


@pytest.mark.timeout(300)
def test_when_one_of_two_drivers_is_killed_the_other_ends_with_the_correct_output(
    race: Race, expected: dict[str, bytes]
) -> None:
    kill_one(race, expected, 4 + 4 * random.random())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(6))
def test_when_one_of_two_drivers_is_killed_at_any_time_the_other_goes_on(
    race: Race, expected: dict[str, bytes], seed: int
) -> None:
    kill_one(race, expected, 1 + 15 * random.Random(seed).random())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_driver_that_is_killed_while_it_publishes_leaves_its_turn_to_the_other(
    source: str, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """The first holds the lock of the output when it is killed, with half of the files in their places."""
    out = tmp_path / "out"
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job(source, str(out), str(tmp_path / "work"))))
    halting = tmp_path / "halting.py"
    halting.write_text(HALTING)
    command = [sys.executable, str(halting), str(file), str(tmp_path / "halted")]
    first = subprocess.Popen(command, stderr=subprocess.PIPE)
    race = Race(file, lambda: seen(out), Path(tempfile.gettempdir()), [first])
    try:
        wait_for((tmp_path / "halted").exists, first)
        assert not (out / "manifest.json").exists()
        assert (out / ".publishing").exists()
        second = race.start()
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(8)
        assert not (out / "manifest.json").exists(), "it is not its turn"
        first.kill()
        first.communicate()
        assert ended(second) == 0
    finally:
        for process in race.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    check(race, expected)


HALTING = """
import pathlib, sys, time
import thresher
from thresher.pipeline import output_directory

bring, brought = output_directory.bring, []

def bring_some(source, path, run):
    if len(brought) == 3:
        pathlib.Path(sys.argv[2]).touch()
        time.sleep(600)
    brought.append(path)
    bring(source, path, run)

output_directory.bring = bring_some
if __name__ == "__main__":
    thresher.run(thresher.load(sys.argv[1]))
"""


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
