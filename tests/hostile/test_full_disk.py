"""A disk that fills while a job runs: a clear end, nothing lost, and the same output once there is room."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import corpus
import pyarrow as pa
import pytest
from thresher.pipeline.commit import PartOutput, read_entry
from thresher.pipeline.disk import DiskFull, FreeSpace
from thresher.pipeline.driver import Driver
from thresher.pipeline.exchange import Spool
from thresher.pipeline.stage import Committed, Engine, Input, PartRef, Stage, TaskFailed, TaskId
from thresher.pipeline.store import RunLock, put_new
from thresher.schemas.progress import Silent

# Runs a job on a disk that is too small, then makes room, then runs it again; copies the output out.
SMALL_DISK = r"""
mount -t tmpfs -o size="$1" tmpfs "$2" || exit 99
"$3" -m thresher run "$4" --quiet; first=$?
find "$2" -name manifest.json | grep -q . && exit 98
mount -o remount,size=256m "$2" || exit 99
"$3" -m thresher run "$4" --quiet; second=$?
echo "$first $second $(find "$2" -name '.unfinished-*' | wc -l)"
cp -r "$2/out" "$5"
"""


MOUNTING = ["unshare", "--map-root-user", "--mount", "sh", "-c"]


def job(source: Path, folder: Path, **run: Any) -> dict[str, Any]:
    made = corpus.job(str(source), folder / "out", part="20KB", **run)
    made["run"] |= {"work": str(folder / "work"), "workers": 2}
    return made


def digests(output: Path) -> dict[str, str]:
    files = [path for path in output.rglob("*") if path.is_file() and path.name != "job.yaml"]
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    ("kilobytes", "allowed"),
    [
        pytest.param(100, 0, marks=pytest.mark.slow),
        pytest.param(400, 100, marks=pytest.mark.slow),
        pytest.param(800, 0, marks=pytest.mark.slow),
    ],
)
def test_a_run_on_a_full_disk_ends_with_2_and_goes_on_when_there_is_room(
    kilobytes: int, allowed: int, tmp_path: Path
) -> None:
    records = [record | {"url": None} for record in corpus.rows(900)]
    source = corpus.write(tmp_path / "in.jsonl", records)
    disk, calm = tmp_path / "disk", tmp_path / "calm"
    disk.mkdir()
    file = tmp_path / "job.json"
    # The same place both times, so that nothing in the output can tell them apart.
    file.write_text(json.dumps(job(source, disk, min_free=1, max_failed_parts=allowed)))
    command = [sys.executable, "-m", "thresher", "run", str(file), "--quiet"]
    subprocess.run(command, check=True, timeout=120)
    (disk / "out").rename(calm)
    subprocess.run(["rm", "-r", str(disk / "work")], check=True)
    done = subprocess.run(
        [*MOUNTING, SMALL_DISK, "sh", f"{kilobytes}k", disk, sys.executable, file, tmp_path / "copied"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout.split()) == (0, ["2", "0", "0"]), done.stderr
    told = ("No space left on device", "is full", "0 B of its disk are free")
    assert any(words in done.stderr for words in told), done.stderr
    assert "make room and run again to go on" in done.stderr
    assert "Traceback" not in done.stderr
    assert digests(tmp_path / "copied") == digests(calm)


class Failing(Engine):
    """Gives up every task for the reason that it is told."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def run(self, stage: Stage, todo: list[TaskId]) -> Iterator[Committed]:  # type: ignore[override]
        yield from ()
        raise TaskFailed(stage.name, dict.fromkeys(todo, self._reason), True)

    def close(self) -> None: ...


def test_a_full_disk_is_never_among_the_parts_that_may_fail(tmp_path: Path) -> None:
    parts = {"records": Input((PartRef(0, label="a.jsonl"), PartRef(1, label="b.jsonl")))}
    for reason, error in ((os.strerror(28), DiskFull), ("ValueError: odd", None)):
        lock = RunLock(tmp_path)
        driver = Driver(tmp_path, Failing(f"OSError: {reason}"), lock, Silent(), most_failed=5)
        if error is not None:
            with pytest.raises(error, match="make room and run again"):
                driver.run("read", parts, may_fail=True)
        else:
            driver.run("read", parts, may_fail=True)
            assert sorted(driver.failed) == [0, 1]
        lock.close()


def test_a_stage_does_not_begin_where_less_is_free_than_asked_for(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    told = rf"{tmp_path}: .* free, less than run.min_free \(1000\.0 TB\)"
    driver = Driver(tmp_path, Failing(""), lock, Silent(), disk=FreeSpace([tmp_path], 10**15))
    with pytest.raises(DiskFull, match=told):
        driver.run("read", {"records": Input(())})
    assert not (tmp_path / "stages").exists()
    lock.close()


class Full:
    """Stands for `os.fsync` and the like on a disk without room."""

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise OSError(28, os.strerror(28))


def test_a_commit_that_finds_the_disk_full_leaves_no_entry_and_nothing_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = pa.record_batch({"position": pa.array([1, 2], pa.uint64())})
    out = PartOutput(tmp_path, 0, "run")
    out.emit("records", batch)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", Full())
        with pytest.raises(OSError, match="No space left"):
            out.commit(2, 0)
        out.abandon()
    assert read_entry(tmp_path, 0) is None
    assert not list(tmp_path.glob(".unfinished-*"))
    again = PartOutput(tmp_path, 0, "run")
    again.emit("records", batch)
    assert again.commit(2, 0) == read_entry(tmp_path, 0)


def test_what_cannot_be_put_is_not_there_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", Full())
        with pytest.raises(OSError, match="No space left"):
            put_new(tmp_path / "entry.json", b"{}", "run")
    assert list(tmp_path.iterdir()) == []
    assert put_new(tmp_path / "entry.json", b"{}", "run")


def test_a_spool_that_cannot_be_ended_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "a.chunks", "key", 2, "run")
    spool.add(pa.record_batch({"key": pa.array([1, 2], pa.uint64())}))
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", Full())
        with pytest.raises(OSError, match="No space left"):
            spool.close()
        spool.abandon()
    assert list(tmp_path.iterdir()) == []


def parts(path: str, kind: str, bytes_: int) -> PartRef:
    from thresher.pipeline.stage import OperatorRef

    described: Mapping[str, Any] = {"split": {"path": path, "format": kind}}
    return PartRef(0, reader=OperatorRef("x:Y", json.dumps({"slices": [described]})), bytes=bytes_)


def test_an_input_that_may_not_fit_is_told_before_it_is_read(tmp_path: Path) -> None:
    disk = FreeSpace([tmp_path], 1)
    small, huge = parts("a.jsonl", "jsonl", 1000), parts("b.jsonl.gz", "jsonl", 10**15)
    assert disk.doubt([small]) is None
    told = disk.doubt([small, huge])
    assert told is not None
    assert "takes about 3500.0 TB" in told
    assert "7000.0 TB" in str(disk.doubt([huge], shuffled=True))


def test_a_run_does_not_start_where_less_is_free_than_the_job_asks_for(tmp_path: Path) -> None:
    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(10))
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job(source, tmp_path, min_free="1000000TB")))
    command = [sys.executable, "-m", "thresher", "run", str(file), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "less than run.min_free" in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()
