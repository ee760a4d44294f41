"""Where parts are kept: written once under a unique name, made real by an entry only the first creates.

A place is a folder of this machine or one behind a URL. Locally a file is written beside its place, flushed
to the disk and linked or renamed. A store moves nothing: a file is written to the scratch folder of the
process and put whole under its final name, and an entry by a put that the store refuses where there is one.
"""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow.parquet as pq
import xxhash

from .scratch import scratch
from .storage import Place, RemotePath, place

# Names of unfinished files start with it and with the run that writes them.
UNFINISHED = ".unfinished-"

_BLOCK = 8 << 20
_END_BYTES = 256 << 10  # of a remote file that are read at once
_AT_ONCE = 32


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
    sync_directory(path.parent)
    return True


def publish(temporary: Path, path: Place) -> None:
    """Moves a finished file to its final name, replacing what was there."""
    settle(temporary, path)
    if isinstance(path, Path):
        sync_directory(path.parent)


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


class PartFile(io.RawIOBase):
    """A file of a store that nobody replaces, read by ranges, each as it is asked for.

    Its end, where the index of a Parquet or a spool file is, comes first and in one piece: of a small file
    that is all. Raises FileNotFoundError, and StorageError where the store does not give it.
    """

    def __init__(self, path: RemotePath) -> None:
        super().__init__()
        self._path = path
        self._end = path.read_end(_END_BYTES)
        self.size = len(self._end) if len(self._end) < _END_BYTES else path.size()
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Exactly `size` bytes, fewer only at the end of the file."""
        start = min(self._position, self.size)
        stop = self.size if size is None or size < 0 else min(self.size, start + size)
        self._position = stop
        behind = start - (self.size - len(self._end))
        if behind >= 0 or start == stop:
            return self._end[behind : behind + stop - start] if start < stop else b""
        return self._path.read_range(start, stop)

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def open_parquet(path: str) -> pq.ParquetFile:
    """A Parquet file of a place. Of a remote one just the ranges that are read travel."""
    where = place(path)
    if isinstance(where, RemotePath):
        return pq.ParquetFile(PartFile(where), pre_buffer=True)
    return pq.ParquetFile(where)


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


def remove_all(paths: Iterable[Place]) -> None:
    """Removes many files; in a store the answers are not waited for one by one."""
    with ThreadPoolExecutor(_AT_ONCE, "thresher-remove") as pool:
        for _ in pool.map(remove, paths):
            pass


def size_of(path: Place) -> int | None:
    """The bytes of a file; None where there is none."""
    try:
        return path.size() if isinstance(path, RemotePath) else path.stat().st_size
    except FileNotFoundError:
        return None


def bring(source: Place, path: Path, run: str) -> None:
    """Puts a file of any place into a local folder, whole or not at all: linked, where that is possible.

    That the disk knows its name is for the caller to wait for.
    """
    temporary = unfinished(path.parent, run, path.name)
    try:
        if isinstance(source, RemotePath):
            source.fetch(temporary)
            _sync(temporary)
        else:
            try:
                os.link(source, temporary)
            except OSError:  # another file system
                shutil.copyfile(source, temporary)
                _sync(temporary)
        settle(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def is_same(path: Path, source: Place | bytes) -> bool:
    """Whether a local file is there with the content of another file, or with this one."""
    try:
        if isinstance(source, bytes):
            return path.read_bytes() == source
        if isinstance(source, RemotePath):
            return path.is_file() and source.holds(path)
        if path.samefile(source):
            return True
        if path.stat().st_size != source.stat().st_size:
            return False
        with path.open("rb") as ours, source.open("rb") as theirs:
            while block := ours.read(_BLOCK):
                if theirs.read(_BLOCK) != block:
                    return False
        return True
    except FileNotFoundError:
        return False


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Waits until the disk knows the names in a folder."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone(lock: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Lets one process at a time pass; `waiting` is called where another one is ahead.

    The kernel frees the lock of a process that is killed. The file is gone when the last one has passed.
    """
    while True:
        file = lock.open("a")
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            # Who was ahead has removed the file: somebody else may hold its successor.
            if _is_at(file, lock):
                break
        except BaseException:
            file.close()
            raise
        file.close()
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


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
        # Other runs remove folders meanwhile, which ends a `rglob`.
        for folder, _, names in os.walk(root):
            for name in names:
                run = name.removeprefix(UNFINISHED).split("-", 1)[0]
                if name.startswith(UNFINISHED) and dead.setdefault(run, self._is_dead(run)):
                    Path(folder, name).unlink(missing_ok=True)
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
