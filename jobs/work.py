"""The work directory of a run as it lies on disk: its stages, parts and streams."""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_STAGE: Final = re.compile(r"([0-9]{2,})-(.+)-([0-9a-f]{6,})")
# What a run puts into its work directory; a folder that holds anything else is not thresher's to remove.
_OWN: Final = re.compile(r"runs|stages|sources\.json|limit-[0-9]+|\.unfinished-.*")
_LAST: Final = ["export", "ledger"]  # the stages that end every job
_ENTRY: Final = re.compile(r"[0-9]{5,}\.json")


@dataclass(frozen=True)
class StageOnDisk:
    """One stage directory. A stage that has its roll-up is finished."""

    path: Path
    number: int
    name: str
    finished: bool

    @property
    def changed(self) -> int:
        """When something was last committed to it; nanoseconds, as all times here."""
        return self.path.stat().st_mtime_ns

    def is_before(self, other: StageOnDisk) -> bool:
        """Whether `other` was committed to after this stage had ended."""
        return self.finished and other.changed >= (self.path / "rollup.json").stat().st_mtime_ns

    def entries(self) -> Iterator[dict[str, Any]]:
        """The manifest entries of the committed parts, in order; one that cannot be read is left out."""
        for path in sorted(self.path.glob("*.json")):
            if _ENTRY.fullmatch(path.name):
                entry = _read_json(path)
                if isinstance(entry, dict) and "streams" in entry:
                    yield entry

    def streams(self, name: str) -> Iterator[Path]:
        """The files of the streams whose name starts with `name`, in the order of parts."""
        for entry in self.entries():
            for stream, file in entry["streams"].items():
                path = self.path / file["path"]
                if stream.startswith(name) and path.is_file():
                    yield path


def stages(work: Path) -> list[StageOnDisk]:
    """The stages of the latest variant of the job in a work directory, in the order in which they run.

    Where the job was changed between runs, a number has several directories: the one that was committed to
    last counts. A stage begins when the one before it has ended, and the ledger comes last: what is older
    than that, or behind it, is of another variant too.
    """
    latest = {stage.number: stage for stage in sorted(all_stages(work), key=lambda stage: stage.changed)}
    chain: list[StageOnDisk] = []
    for number in sorted(latest):
        if chain and not chain[-1].is_before(latest[number]):
            break
        if [stage.name for stage in chain[-2:]] == _LAST:
            break
        chain.append(latest[number])
    return chain


def all_stages(work: Path) -> list[StageOnDisk]:
    """The stages of every variant of the job that left some in a work directory."""
    found: list[StageOnDisk] = []
    directory = work / "stages"
    for path in directory.iterdir() if directory.is_dir() else ():
        match = _STAGE.fullmatch(path.name)
        if match and path.is_dir():
            finished = (path / "rollup.json").is_file()
            found.append(StageOnDisk(path, int(match[1]), match[2], finished))
    return found


def is_work(path: Path) -> bool:
    """Whether a folder is what a run left as its work directory, and nothing else."""
    if not path.is_dir() or path.is_symlink():
        return False
    names = {entry.name for entry in path.iterdir()}
    return "runs" in names and all(_OWN.fullmatch(name) for name in names)


def is_running(work: Path) -> bool:
    """Whether a live process holds the lock of a run in this work directory."""
    for lock in sorted((work / "runs").glob("*.lock")):
        try:
            with lock.open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            continue
    return False


def size_of(path: Path) -> int:
    """Bytes of the files under a folder."""
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file() or file.is_symlink())


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
