"""A run that is killed while it selects goes on where it ended, and nothing can be told from its output."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import yaml
from test_kills import commits, reference, start, undisturbed, wait_for
from test_selection import STEPS, mixed


@pytest.mark.slow
@pytest.mark.parametrize("after", [15, 35])
def test_a_driver_killed_while_it_selects_leaves_a_run_that_goes_on(tmp_path: Path, after: int) -> None:
    job = {
        "name": "killed",
        "input": mixed(tmp_path / "in"),
        "steps": STEPS,
        "output": {"path": str(tmp_path / "out")},
        "run": {"workers": 2, "part": "12KB", "work": str(tmp_path / "work")},
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    expected = reference(path, tmp_path)
    process = start(path)
    wait_for(lambda: commits(tmp_path) >= after, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    psutil.wait_procs(workers, timeout=10)
    assert undisturbed(path, tmp_path) == expected
    assert not list((tmp_path / "work").rglob(".unfinished-*"))
