"""Where parts are kept: written once under a unique name, made real by an entry only the first creates."""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path
from typing import IO

import xxhash

# Names of unfinished files start with it and with the run that writes them.
UNFINISHED = ".unfinished-"


class HashedFile:
    """A file being written, with the xxh3-128 of its bytes so far; has what pyarrow asks of a sink."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("xb")
        self._hash = xxhash.xxh3_128()
        self.path = path
        self.bytes = 0

    def write(self, data: bytes | memoryview) -> int:
        self._hash.update(data)
        self.bytes += len(memoryview(data))
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def tell(self) -> int:
        return self.bytes

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        """Flushes to the disk; idempotent."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    @property
    def checksum(self) -> str:
        return self._hash.hexdigest()


def unfinished(directory: Path, run: str, name: str) -> Path:
    """A new name for a file that nobody else writes; `run` is the id of the run that does."""
    directory.mkdir(parents=True, exist_ok=True)
    return directory / f"{UNFINISHED}{run}-{uuid.uuid4().hex}-{name}"


def put_new(path: Path, data: bytes, run: str) -> bool:
    """Creates `path` with `data`, whole or not at all; False where it exists already."""
    temporary = unfinished(path.parent, run, path.name)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)
    return True


def publish(temporary: Path, path: Path) -> None:
    """Moves a finished file to its final name, replacing what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temporary, path)
    # Where both were names of one file already, renaming has left both.
    temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RunLock:
    """Marks a run as alive, so that the leftovers of dead ones can be told from the work of others.

    The lock lives as long as the process: the kernel frees it when the process is killed.
    """

    def __init__(self, work: Path) -> None:
        self.run = uuid.uuid4().hex[:12]
        self._directory = work / "runs"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._path = self._directory / f"{self.run}.lock"
        # Locked before it has its name: who finds it free may take the run for dead and remove it.
        temporary = self._path.with_suffix(".new")
        self._file = temporary.open("x")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        temporary.rename(self._path)

    def sweep(self, root: Path) -> int:
        """Removes the unfinished files of runs that are no longer alive; returns how many."""
        dead: dict[str, bool] = {}
        removed = 0
        for path in root.rglob(f"{UNFINISHED}*"):
            run = path.name.removeprefix(UNFINISHED).split("-", 1)[0]
            if dead.setdefault(run, self._is_dead(run)):
                path.unlink(missing_ok=True)
                removed += 1
        for lock in self._directory.glob("*.lock"):
            if self._is_dead(lock.stem):
                lock.unlink(missing_ok=True)
        return removed

    def others(self) -> bool:
        """Whether another run is alive in the same work directory."""
        return any(
            lock.stem != self.run and not self._is_dead(lock.stem) for lock in self._directory.glob("*.lock")
        )

    def _is_dead(self, run: str) -> bool:
        if run == self.run:
            return False
        try:
            with (self._directory / f"{run}.lock").open("r") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """The run is over."""
        self._path.unlink(missing_ok=True)
        self._file.close()
