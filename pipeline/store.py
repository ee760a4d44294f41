"""Where parts are kept: written once under a unique name, made real by an entry only the first creates.

A place is a folder of this machine or one behind a URL. Locally a file is written beside its place, flushed
to the disk and linked or renamed. A store moves nothing: a file is written to the scratch folder of the
process and put whole under its final name, and an entry by a put that the store refuses where there is one.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow.parquet as pq
import xxhash

from .scratch import scratch
from .sources.files import is_remote, open_file
from .storage import Place, RemotePath, place

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


def unfinished(directory: Place, run: str, name: str) -> Path:
    """A new name for a file that nobody else writes; `run` is the id of the run that does."""
    folder = scratch() if isinstance(directory, RemotePath) else directory
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{UNFINISHED}{run}-{uuid.uuid4().hex}-{name}"


def put_new(path: Place, data: bytes, run: str) -> bool:
    """Creates `path` with `data`, whole or not at all; False where it exists already.

    In a store also True where it exists with just this content: an answer may have been lost.
    """
    if isinstance(path, RemotePath):
        return path.create(data, strict=True)
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


def publish(temporary: Path, path: Place) -> None:
    """Moves a finished file to its final name, replacing what was there."""
    settle(temporary, path)
    if isinstance(path, Path):
        _sync_directory(path.parent)


def settle(temporary: Path, path: Place) -> None:
    """The same without waiting for the disk to know the name: for what an entry will speak of."""
    if isinstance(path, RemotePath):
        path.put(temporary)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, path)
    # Where both were names of one file already, renaming has left both.
    temporary.unlink(missing_ok=True)


def write_whole(path: Place, data: bytes, run: str) -> None:
    """Writes a small file, whole or not at all, replacing what was there."""
    if isinstance(path, RemotePath):
        path.write_bytes(data)
        return
    temporary = unfinished(path.parent, run, path.name)
    with temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    publish(temporary, path)


def remove(path: Place) -> None:
    """Removes a file; that there is none is no failure."""
    if isinstance(path, RemotePath):
        path.remove()
    else:
        path.unlink(missing_ok=True)


def open_parquet(path: str) -> pq.ParquetFile:
    """A Parquet file of a place. Of a remote one just the ranges that are read travel."""
    if is_remote(path):
        return pq.ParquetFile(open_file(path, ahead=False), pre_buffer=True)
    return pq.ParquetFile(path)


@contextmanager
def at_hand(path: str) -> Iterator[Path]:
    """The file as a local one: itself, or a copy in the scratch folder for as long as the context is open."""
    where = place(path)
    if isinstance(where, Path):
        yield where
        return
    copy = scratch() / f"{uuid.uuid4().hex}-{where.name}"
    try:
        where.fetch(copy)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def size_of(path: Place) -> int | None:
    """The bytes of a file; None where there is none."""
    try:
        return path.size() if isinstance(path, RemotePath) else path.stat().st_size
    except FileNotFoundError:
        return None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RunLock:
    """Marks a run as alive, so that the leftovers of dead ones can be told from the work of others.

    The lock lives as long as the process: the kernel frees it when the process is killed. In a store there is
    no such lock, and no leftovers either: there a run has nothing but its id.
    """

    def __init__(self, work: Place, *, cleaning: bool = False) -> None:
        self.run = ("clean" if cleaning else "") + uuid.uuid4().hex[:12]
        self._file: IO[str] | None = None
        if isinstance(work, RemotePath):
            return
        self._directory = work / "runs"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._path = self._directory / f"{self.run}.lock"
        # Locked before it has its name: who finds it free may take the run for dead and remove it.
        temporary = self._path.with_suffix(".new")
        self._file = temporary.open("x")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        temporary.rename(self._path)

    def sweep(self, root: Place) -> int:
        """Removes the unfinished files of runs that are no longer alive; returns how many."""
        if self._file is None or isinstance(root, RemotePath):
            return 0
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

    def others(self) -> list[str]:
        """The ids of the runs that are alive in the same work directory; of `clean` they begin so."""
        if self._file is None:
            return []
        names = (lock.stem for lock in self._directory.glob("*.lock"))
        return [name for name in names if name != self.run and not self._is_dead(name)]

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
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
