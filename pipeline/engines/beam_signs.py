"""What the workers and the driver of a Beam pipeline leave each other in the directory of its stage.

Runners differ in what they tell of a running pipeline, some cannot cancel one, and some wait for ever for a
worker that is gone. The names begin as those of unfinished files do, so what a killed run leaves goes with
these.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..commit import read_entry
from ..stage import Committed, TaskId
from ..storage import Place, RemotePath, place
from ..store import UNFINISHED, remove, write_whole

BEAT_SECONDS: Final = 5.0
QUESTIONS_AT_ONCE: Final = 32
_LOOKS_PER_SECOND: Final = 4.0  # into a folder of this machine
_REMOTE_LOOKS_PER_SECOND: Final = 0.5  # each asks for a list of names
_SHARE_OF_LOOKING: Final = 0.1  # of the time, where looking is slow
_READS_PER_LOOK: Final = 32


class Unfit(Exception):
    """A worker cannot do its part, and says why. Runners hand on no more of an exception than its text, which
    is therefore enclosed in marks."""

    MARKS: Final = ("<thresher:", ":thresher>")

    def __init__(self, told: str) -> None:
        super().__init__(told.join(self.MARKS))


@dataclass(frozen=True)
class Signs:
    """The names of what is left by one pipeline of a run in a directory."""

    directory: str
    run: str
    pipeline: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def prefix(self) -> str:
        return f"{UNFINISHED}{self.run}-{self.pipeline}-"

    @property
    def alive(self) -> str:
        return f"{self.prefix}alive-"

    def at(self, name: str) -> Place:
        return place(self.directory) / f"{self.prefix}{name}"

    def give_up(self, name: str, task: TaskId, reason: str) -> None:
        """Says that a task failed for good; `name`: of the input whose part it is, "" for a partition."""
        write_whole(self._failed(name, task), json.dumps(reason).encode(), self.run)

    def given_up(self, name: str, task: TaskId) -> str | None:
        """Why a task failed for good; None where nobody has said so."""
        try:
            return str(json.loads(self._failed(name, task).read_bytes()))
        except FileNotFoundError:
            return None

    def _failed(self, name: str, task: TaskId) -> Place:
        return self.at(f"failed-{task:05d}-{name}.json")

    def stop(self) -> None:
        """Asks the workers to begin no more tasks."""
        _write(self.at("stopped"), "")

    def stopped(self) -> bool:
        """Whether the driver has gone on without them."""
        return self.at("stopped").is_file()


class Heartbeat:
    """Says every few seconds that this process is at work, for as long as it is."""

    def __init__(self, signs: Signs, seconds: float = BEAT_SECONDS) -> None:
        self._path = signs.at(f"alive-{os.getpid()}-{uuid.uuid4().hex[:8]}")
        self._seconds = seconds
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._working = self._beats = 0
        self._thread: threading.Thread | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """The process is at work while the context is open."""
        with self._lock:
            self._working += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="thresher-heartbeat", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._working -= 1

    def _beat(self) -> None:
        while not self._ended.is_set():
            if self._working:
                self._beats += 1
                with suppress(OSError):  # the next one counts
                    _write(self._path, str(self._beats))
            self._ended.wait(self._seconds)

    def close(self) -> None:
        """Removes what was said."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            with suppress(OSError):
                remove(self._path)


class Watch:
    """The driver's eye on a pipeline: what has been committed, and when a worker was last heard of.

    It looks by name lists, which may be old: what they lack is found at the end, by its own name.
    """

    def __init__(self, signs: Signs, outstanding: Sequence[TaskId]) -> None:
        self._signs, self._directory = signs, place(signs.directory)
        self._outstanding = {f"{task:05d}.json": task for task in outstanding}
        self._beats: dict[str, bytes] = {}
        self.heard = time.monotonic()
        remote = isinstance(self._directory, RemotePath)
        self.pause = 1 / (_REMOTE_LOOKS_PER_SECOND if remote else _LOOKS_PER_SECOND)
        self._next = self.heard + self.pause

    def look(self) -> Iterator[Committed]:
        """What has been committed since the last look; nothing where that was a moment ago."""
        began = time.monotonic()
        if began < self._next:
            return
        names = _names(self._directory)
        for name in [name for name in names if name in self._outstanding][:_READS_PER_LOOK]:
            committed = read_entry(self._directory, self._outstanding[name])
            if committed is not None:
                del self._outstanding[name]
                self.heard = time.monotonic()
                yield committed
        if self.heard < began:
            self._listen([name for name in names if name.startswith(self._signs.alive)])
        ended = time.monotonic()
        self._next = ended + max(self.pause, (ended - began) / _SHARE_OF_LOOKING)

    def _listen(self, names: Sequence[str]) -> None:
        for name in names[:_READS_PER_LOOK]:
            with suppress(FileNotFoundError):
                beat = (self._directory / name).read_bytes()
                if self._beats.get(name) != beat:
                    self._beats[name] = beat
                    self.heard = time.monotonic()

    def rest(self) -> Iterator[Committed]:
        """What else has been committed, whatever lists say."""
        tasks = list(self._outstanding.items())
        with ThreadPoolExecutor(QUESTIONS_AT_ONCE, "thresher-entries") as pool:
            found = pool.map(lambda named: read_entry(self._directory, named[1]), tasks)
            for (name, _), committed in zip(tasks, found, strict=True):
                if committed is not None:
                    del self._outstanding[name]
                    yield committed

    @property
    def missing(self) -> list[TaskId]:
        """The tasks that have not committed."""
        return sorted(self._outstanding.values())

    def sweep(self) -> None:
        """Removes the signs."""
        for name in _names(self._directory):
            if name.startswith(self._signs.prefix):
                remove(self._directory / name)


def _names(directory: Place) -> list[str]:
    if isinstance(directory, RemotePath):
        return directory.names()
    try:
        return [entry.name for entry in os.scandir(directory)]
    except FileNotFoundError:
        return []


def _write(path: Place, content: str) -> None:
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())
