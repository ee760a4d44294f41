"""`clean` removes what it is asked to and nothing else: after each level a run gives the same output."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import corpus
import pytest
import thresher
from test_whole_jobs import output_digest
from thresher.jobs import why, work
from thresher.jobs.cleaning import Keep, NotCleanableError, check_cleanable, clean
from thresher.jobs.places import find
from thresher.schemas.progress import Silent

pytestmark = pytest.mark.slow


class Watch(Silent):
    """Counts the tasks that ran, and those that an earlier run had done."""

    def __init__(self) -> None:
        self.ran = self.found = 0

    def stage_started(self, name: str, tasks: int, done: int, bytes: int) -> None:
        self.ran, self.found = self.ran + tasks - done, self.found + done


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Any]:
    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(60))
    return corpus.job(str(source), tmp_path / "out", part="20KB", workers=1)


def run(job: dict[str, Any], limit: int | None = None) -> Watch:
    watch = Watch()
    thresher.run(thresher.load(job), limit=limit, listener=watch)
    return watch


def variant(job: dict[str, Any]) -> dict[str, Any]:
    steps = [{"filter": {"gopher_quality": {"min_words": 30}}}, *job["steps"][1:]]
    return {**job, "steps": steps}


def names(directory: Path) -> set[str]:
    return {stage.path.name for stage in work.all_stages(directory)}


def test_parts_that_a_run_could_read_stay_and_nothing_runs_again(
    made: dict[str, Any], tmp_path: Path
) -> None:
    run(made)
    before, directory = output_digest(tmp_path / "out"), Path(made["run"]["work"])
    kept = names(directory)
    stage = sorted((directory / "stages").iterdir())[0]
    (stage / "spool").mkdir(exist_ok=True)
    waste = [
        stage / ".unfinished-0123456789ab-x-00000.records.parquet",
        stage / "00007.records.0123456789ab.parquet",
        stage / "spool" / "records-00000.chunks",
        directory / ".unfinished-0123456789ab-x-sources.json",
    ]
    for path in waste:
        path.write_bytes(b"x" * 1000)
    assert check_cleanable(directory, "parts") == clean(directory, "parts") == 4000
    assert not any(path.exists() for path in waste)
    assert names(directory) == kept
    assert clean(directory, "parts") == 0
    watch = run(made)
    assert (watch.ran, output_digest(tmp_path / "out")) == (0, before)


def test_the_stages_of_the_last_run_stay_and_those_of_older_variants_go(made: dict[str, Any]) -> None:
    directory = Path(made["run"]["work"])
    run(made)
    first = names(directory)
    other = variant(made)
    run(other)
    second = names(directory) - first
    assert clean(directory, "last") > 0
    assert second <= names(directory)
    assert not names(directory) & {name for name in first if name[:2] == "00"}
    assert run(other).ran == 0


def test_a_run_that_was_stopped_leaves_what_it_and_the_last_finished_one_need(
    made: dict[str, Any],
) -> None:
    directory = Path(made["run"]["work"])
    run(made)

    class Stop(Silent):
        def stage_finished(self, name: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        thresher.run(thresher.load(variant(made)), listener=Stop())
    before = names(directory)
    clean(directory, "last")
    assert names(directory) == before
    assert run(variant(made)).found > 0
    assert run(made).ran == 0


def test_signals_can_stay_so_that_why_still_tells_them(made: dict[str, Any], tmp_path: Path) -> None:
    run(made)
    run(made, limit=20)
    before, directory = output_digest(tmp_path / "out"), Path(made["run"]["work"])
    found = find(str(tmp_path / "out"))
    told = why.why(found, "s00000")["fates"][0]
    assert told["signals"]["word_count"] == 2
    size = work.size_of(directory)
    assert clean(directory, "signals") > size / 3
    assert not (directory / "limit-20").exists()
    assert not list(directory.rglob("*records*.parquet"))
    assert why.why(found, "s00000")["fates"][0] == told
    watch = run(made)
    assert watch.ran > 0
    assert output_digest(tmp_path / "out") == before


def test_nothing_stays_where_nothing_is_to_be_kept(made: dict[str, Any], tmp_path: Path) -> None:
    run(made)
    before, directory = output_digest(tmp_path / "out"), Path(made["run"]["work"])
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    assert clean(directory) > 0
    assert not directory.exists()
    assert output_digest(tmp_path / "out") == before == output_digest(tmp_path / "copy")
    assert (run(made).found, output_digest(tmp_path / "out")) == (0, before)


def test_a_shard_that_the_output_holds_too_frees_nothing(made: dict[str, Any], tmp_path: Path) -> None:
    run(made)
    directory = Path(made["run"]["work"])
    shared = [path for path in directory.rglob("*") if path.is_file() and path.stat().st_nlink > 1]
    assert shared, "the shards are not linked here"
    expected = work.size_of(directory) - sum(path.stat().st_size for path in shared)
    assert clean(directory) == expected


@pytest.mark.parametrize("keep", ["parts", "last", "signals", "nothing"])
def test_a_run_that_is_alive_is_left_alone(keep: Keep, made: dict[str, Any]) -> None:
    run(made)
    directory = Path(made["run"]["work"])
    everything = sorted(directory.rglob("*"))
    with (directory / "runs" / "abc.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(NotCleanableError, match="a run is using"):
            clean(directory, keep)
    (directory / "runs" / "abc.lock").unlink()
    assert sorted(directory.rglob("*")) == everything


@pytest.mark.parametrize("keep", ["parts", "last", "signals", "nothing"])
def test_an_output_or_a_stranger_s_file_inside_is_not_touched(
    keep: Keep, made: dict[str, Any], tmp_path: Path
) -> None:
    run(made)
    directory = Path(made["run"]["work"])
    inside = directory / "limit-9"
    shutil.move(tmp_path / "out", inside)
    with pytest.raises(NotCleanableError, match="does not look like"):
        clean(directory, keep)
    assert (inside / "manifest.json").exists()
    with pytest.raises(NotCleanableError, match="is inside"):
        clean(directory, keep, inside)
    link = tmp_path / "link"
    os.symlink(directory, link)
    with pytest.raises(NotCleanableError, match="is inside"):
        clean(directory, keep, link / "limit-9")
