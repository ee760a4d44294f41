"""The kernel cache: what a second process finds, and what makes a new entry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from thresher.filters import kernels

CALLEE = """
from thresher.filters.kernels import kernel
@kernel("int64(int64)")
def inner(x):
    return x + {constant}
"""
CALLER = """
from thresher.filters.kernels import kernel
import callee
from callee import inner
@kernel("int64(int64)")
def outer(x):
    return inner(x) * 10
print(outer(1), sum(outer.stats.cache_hits.values()), sum(inner.stats.cache_hits.values()))
"""


def run(directory: Path, cache: Path) -> list[int]:
    """Value of outer(1), cache hits of outer, cache hits of inner, in a new process."""
    command = [sys.executable, "-B", "-c", "import caller"]
    environment = {**os.environ, "THRESHER_CACHE": str(cache), "PYTHONPATH": str(directory)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=directory)
    return [int(word) for word in done.stdout.split()]


def test_a_second_process_loads_kernels_instead_of_compiling_them(tmp_path: Path) -> None:
    (tmp_path / "callee.py").write_text(CALLEE.format(constant=1))
    (tmp_path / "caller.py").write_text(CALLER)
    assert run(tmp_path, tmp_path / "cache") == [20, 0, 0]
    assert run(tmp_path, tmp_path / "cache") == [20, 1, 1]


def test_a_change_in_a_called_kernel_of_another_file_is_seen(tmp_path: Path) -> None:
    (tmp_path / "callee.py").write_text(CALLEE.format(constant=1))
    (tmp_path / "caller.py").write_text(CALLER)
    run(tmp_path, tmp_path / "cache")
    (tmp_path / "callee.py").write_text(CALLEE.format(constant=2))
    assert run(tmp_path, tmp_path / "cache")[0] == 30


def test_kernels_work_where_the_cache_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "callee.py").write_text(CALLEE.format(constant=1))
    (tmp_path / "caller.py").write_text(CALLER)
    (tmp_path / "cache").write_text("a file where a directory is needed")
    assert run(tmp_path, tmp_path / "cache") == [20, 0, 0]


def test_sources_stay_without_cache_files(tmp_path: Path) -> None:
    (tmp_path / "callee.py").write_text(CALLEE.format(constant=1))
    (tmp_path / "caller.py").write_text(CALLER)
    run(tmp_path, tmp_path / "cache")
    assert not list(tmp_path.glob("__pycache__/*.nbi"))
    assert list((tmp_path / "cache").rglob("*.nbi"))


def test_processes_that_start_together_all_get_the_right_answer(tmp_path: Path) -> None:
    (tmp_path / "callee.py").write_text(CALLEE.format(constant=1))
    (tmp_path / "caller.py").write_text(CALLER)
    environment = {**os.environ, "THRESHER_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    started = [
        subprocess.Popen(
            [sys.executable, "-B", "-c", "import caller"], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    answers = [process.communicate()[0].split()[0] for process in started]
    assert answers == ["20", "20", "20"]
    assert run(tmp_path, tmp_path / "cache") == [20, 1, 1]


def test_the_environment_chooses_the_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path))
    assert kernels.cache_directory() == tmp_path / "numba"


def test_a_process_that_imports_kernels_leaves_them_compiled_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "callee.py").write_text(CALLEE.format(constant=1))
    (tmp_path / "caller.py").write_text(CALLER)
    environment = {**os.environ, "THRESHER_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-B", "-c", "import caller"], env=environment, check=True, capture_output=True
    )
    assert run(tmp_path, tmp_path / "cache") == [20, 1, 1]
