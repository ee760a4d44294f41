"""Real kills in a job whose dedups take every way there is: nothing can be told from its output."""

from __future__ import annotations

from pathlib import Path

import corpus
import psutil
import pytest
import yaml
from test_dedup_clusters import near_copies
from test_kills import commits, reference, start, undisturbed, wait_for
from test_whole_jobs import split_input


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    earlier = corpus.job(split_input(near_copies(12), tmp_path / "earlier", 2), tmp_path / "before")
    earlier["steps"] = [{"dedup": {"minhash": {"bands": 28, "rows": 4, "save_keys": True}}}]
    earlier["run"]["work"] = str(tmp_path / "work")
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(earlier))
    undisturbed(path, tmp_path.with_name("nowhere"))
    (tmp_path / "work").rename(tmp_path / "work-earlier")
    job = corpus.job(split_input(near_copies(45), tmp_path / "in", 6), tmp_path / "out")
    minhash = {"bands": 28, "rows": 4, "cluster_memory": 1}
    job["steps"] = [
        {"dedup": {"exact": {"cluster_memory": 1, "save_keys": True}}},
        {"dedup": {"lines": {"keep": "first"}}},
        {"dedup": {"minhash": {**minhash, "against": str(tmp_path / "before")}}},
        {"dedup": {"minhash": {**minhash, "verify": 0.7}}},
    ]
    job["run"]["work"] = str(tmp_path / "work")
    path.write_text(yaml.safe_dump(job))
    return path


@pytest.mark.parametrize(
    "after", [pytest.param(12, marks=pytest.mark.slow), 30, pytest.param(55, marks=pytest.mark.slow)]
)
def test_a_killed_run_goes_on_in_the_middle_of_any_dedup(job_file: Path, tmp_path: Path, after: int) -> None:
    expected = reference(job_file, tmp_path)
    assert any(name.startswith("keys/dedup-exact/") for name in expected)
    process = start(job_file)
    wait_for(lambda: commits(tmp_path) >= after, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    psutil.wait_procs(workers, timeout=10)
    assert undisturbed(job_file, tmp_path) == expected
    assert not list((tmp_path / "work").rglob(".unfinished-*"))
