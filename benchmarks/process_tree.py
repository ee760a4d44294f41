"""CPU seconds and peak memory of a command and all that it starts, also of what it leaves behind."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
TICKS = os.sysconf("SC_CLK_TCK")
SAMPLES = 0.2  # seconds between two looks at the memory


@dataclass(frozen=True)
class Usage:
    """What a command took."""

    cpu: float  # seconds, user and system, of the whole tree
    wall: float  # seconds until the last process of the tree had ended
    peak: int  # bytes, of the largest single process
    tree: int  # bytes of the whole tree at its largest, as sampled; 0 where it was not
    output: str


def measure(
    command: Sequence[str], environment: dict[str, str] | None = None, *, sampled: bool = False
) -> Usage:
    """Runs a command to its end. Linux only. Raises RuntimeError, with its output, where it fails.

    A process of our own adopts whatever the command leaves running, so that servers which outlive their
    parent are waited for and counted. With `sampled` it looks at the memory of the tree as it goes.
    """
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import process_tree; process_tree._adopt({sampled})"
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
    return Usage(**json.loads(figures), output=output)


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process has started and that are still there, and theirs."""
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = tasks.read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from descendants(child)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, of the children that it has waited for, and of its descendants."""
    ticks = 0
    for process in (pid, *descendants(pid)):
        try:
            stat = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            continue
        # The second field is a name in parentheses, which may hold spaces.
        ticks += sum(map(int, stat.rpartition(")")[2].split()[11:15]))
    return ticks / TICKS


def memory(pids: Iterator[int]) -> int:
    """Bytes of some processes; what they share is counted once (proportional set size)."""
    kilobytes = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes * 1024


class _Watch(threading.Thread):
    """Looks at the memory of all descendants of this process now and then."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest = 0

    def run(self) -> None:
        while True:
            self.largest = max(self.largest, memory(descendants(os.getpid())))
            time.sleep(SAMPLES)


def _adopt(sampled: bool) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    watch = _Watch()
    if sampled:
        watch.start()
    began = time.monotonic()
    code = subprocess.call(sys.argv[1:])
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    usage = Usage(
        used.ru_utime + used.ru_stime,
        time.monotonic() - began,
        used.ru_maxrss * 1024,
        watch.largest,
        "",
    )
    print("\n#usage " + json.dumps({k: v for k, v in asdict(usage).items() if k != "output"}))
    sys.exit(code)


if __name__ == "__main__":
    usage = measure(sys.argv[1:], sampled=True)
    print(usage.output)
    print(
        f"{usage.cpu:.2f} CPU s, {usage.wall:.2f} s, peak {usage.peak / 1e6:.0f} MB in one process, "
        f"{usage.tree / 1e6:.0f} MB in all",
        file=sys.stderr,
    )
