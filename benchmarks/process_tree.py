"""CPU seconds and peak memory of a command and all that it starts, also of what it leaves behind."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True)
class Usage:
    """What a command took."""

    cpu: float  # seconds, user and system, of the whole tree
    wall: float  # seconds until the last process of the tree had ended
    peak: int  # bytes, of the largest single process
    output: str


def measure(command: Sequence[str], environment: dict[str, str] | None = None) -> Usage:
    """Runs a command to its end. Linux only. Raises RuntimeError, with its output, where it fails.

    A process of our own adopts whatever the command leaves running, so that servers which outlive their
    parent are waited for and counted.
    """
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import process_tree; process_tree._adopt()"
    result = subprocess.run(
        [sys.executable, "-c", code, *command],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    if result.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}"
        )
    output, _, figures = result.stdout.rpartition("\n#usage ")
    cpu, wall, peak = figures.split()
    return Usage(float(cpu), float(wall), int(peak), output)


def _adopt() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began = time.monotonic()
    code = subprocess.call(sys.argv[1:])
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\n#usage {used.ru_utime + used.ru_stime} {time.monotonic() - began} {used.ru_maxrss * 1024}")
    sys.exit(code)


if __name__ == "__main__":
    usage = measure(sys.argv[1:])
    print(usage.output)
    print(f"{usage.cpu:.2f} CPU s, {usage.wall:.2f} s, peak {usage.peak / 1e6:.0f} MB", file=sys.stderr)
