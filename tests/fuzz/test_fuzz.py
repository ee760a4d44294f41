"""Runs each target on its seeds and, where atheris is installed, on what that makes of them for seconds."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from .targets import SEEDS, TARGETS

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_of_a_target_and_their_halves_show_no_bug(name: str) -> None:
    for seed in SEEDS[name]:
        for data in (b"", seed, seed[: len(seed) // 2], seed[::-1], seed * 3, seed.replace(b"a", b"\xff")):
            TARGETS[name](data)


def fuzz(name: str, seconds: int, folder: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed")
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py"), name, f"-max_total_time={seconds}", "-seed=1"],
        capture_output=True,
        cwd=folder,
        timeout=seconds + 120,
        check=False,
    )
    found = [
        path.read_bytes() for pattern in ("crash-*", "timeout-*", "oom-*") for path in folder.glob(pattern)
    ]
    assert (done.returncode, found) == (0, []), done.stdout.decode(errors="replace")[-3000:]
    runs = [line for line in done.stderr.decode(errors="replace").splitlines() if line.startswith("Done ")]
    assert runs, done.stderr.decode(errors="replace")[-1000:]
    assert int(runs[0].split()[1]) > 10


@pytest.mark.parametrize("name", TARGETS)
def test_some_seconds_of_fuzzing_find_no_bug(name: str, tmp_path: Path) -> None:
    fuzz(name, 3, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_half_a_minute_of_fuzzing_finds_no_bug(name: str, tmp_path: Path) -> None:
    fuzz(name, 30, tmp_path)
