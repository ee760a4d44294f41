"""Files that only one process needs, and for a while: in a folder of its own, gone when the process is."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.util import Finalize
from pathlib import Path
from typing import IO, Final

_PREFIX: Final = "thresher-scratch-"
_LOCK: Final = "alive"

_mine: tuple[int, Path, IO[str]] | None = None  # the process that made it, the folder, its lock
_users = 0
_changing = threading.RLock()


def scratch() -> Path:
    """The folder of this process, under the system's folder for temporary files (TMPDIR).

    The first call removes the folders of processes that were killed: their locks are free. The folder goes
    when the process ends by itself.
    """
    global _mine
    with _changing:
        if _mine is None or _mine[0] != os.getpid():
            parent = Path(tempfile.gettempdir())
            _sweep(parent)
            _mine = (os.getpid(), *_make(parent))
            # Unlike atexit's, called in the workers of multiprocessing too.
            Finalize(None, close, exitpriority=0)
        return _mine[1]


@contextmanager
def in_use() -> Iterator[None]:
    """For what runs in this process: when nothing does any more, its folder is removed, and those that
    killed workers have left."""
    global _users
    with _changing:
        _users += 1
    try:
        yield
    finally:
        with _changing:
            _users -= 1
            if not _users:
                close()
                _sweep(Path(tempfile.gettempdir()))


def close() -> None:
    """Removes the folder of this process; a later call of `scratch` makes another."""
    global _mine
    with _changing:
        if _mine is not None and _mine[0] == os.getpid():
            _, folder, lock = _mine
            _mine = None
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()


def _make(parent: Path) -> tuple[Path, IO[str]]:
    # Locked before it has its name: who finds it free may take the process for dead and remove it.
    hidden = parent / f".{_PREFIX}{uuid.uuid4().hex}"
    hidden.mkdir(mode=0o700)
    lock = (hidden / _LOCK).open("x")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return hidden.rename(parent / hidden.name[1:]), lock


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            with (folder / _LOCK).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # alive, another user's, or being removed by somebody else
            continue
        shutil.rmtree(folder, ignore_errors=True)
