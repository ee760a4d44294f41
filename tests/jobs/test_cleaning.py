"""What `clean` takes for a work directory, and what it leaves alone."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import pytest
from thresher.jobs import cleaning, work
from thresher.jobs.places import find


def test_clean_removes_the_work_directory_alone(finished_job: Path) -> None:
    run = find(str(finished_job))
    (run.work / "outside").symlink_to(finished_job.parent / "precious")
    precious = finished_job.parent / "precious"
    precious.write_text("keep me")
    with pytest.raises(cleaning.NotCleanableError, match="does not look like"):
        cleaning.clean(run.work)
    (run.work / "outside").unlink()
    (run.work / "stages" / "link").symlink_to(precious)
    expected = work.size_of(run.work)
    assert cleaning.clean(run.work) == expected > 0
    assert not run.work.exists()
    assert precious.read_text() == "keep me"
    assert (run.output / "shard-00000.parquet").exists()


def test_clean_refuses_what_is_not_a_work_directory(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "stages").mkdir(parents=True)
    (home / "thesis.txt").write_text("years of work")
    (home / "runs").mkdir()
    with pytest.raises(cleaning.NotCleanableError):
        cleaning.clean(home)
    assert (home / "thesis.txt").exists()
    with pytest.raises(cleaning.NotCleanableError, match="nothing to clean"):
        cleaning.clean(tmp_path / "nowhere")
    link = tmp_path / "link"
    (home / "thesis.txt").unlink()
    link.symlink_to(home)
    with pytest.raises(cleaning.NotCleanableError):
        cleaning.clean(link)


def test_clean_refuses_a_run_that_goes_on(finished_job: Path) -> None:
    run: Any = find(str(finished_job))
    with (run.work / "runs" / "abc.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(cleaning.NotCleanableError, match="a run is using"):
            cleaning.clean(run.work)


def test_the_probe_of_a_run_that_was_killed_is_cleaned_away_with_the_rest(finished_job: Path) -> None:
    run: Any = find(str(finished_job))
    probe = run.work / "probe-0123456789ab-01234567"
    probe.write_text("x" * 100)
    assert cleaning.clean(run.work, "parts") == 100
    assert not probe.exists()
    probe.write_text("x" * 100)
    cleaning.clean(run.work)
    assert not run.work.exists()


@pytest.mark.parametrize("keep", ["parts", "last", "signals", "nothing"])
def test_a_quick_look_that_is_a_link_to_elsewhere_is_not_followed(
    finished_job: Path, keep: cleaning.Keep
) -> None:
    run: Any = find(str(finished_job))
    elsewhere = finished_job.parent / "elsewhere"
    (elsewhere / "stages").mkdir(parents=True)
    (elsewhere / "stages" / ".unfinished-x").write_text("x")
    (run.work / "limit-5").symlink_to(elsewhere)
    with pytest.raises(cleaning.NotCleanableError, match="does not look like"):
        cleaning.clean(run.work, keep)
    assert (elsewhere / "stages" / ".unfinished-x").exists()
