"""The work directory of a run as it lies on a disk or in a store: its stages, parts and streams.

In a store all of this is found by listing: good enough to inform a person and to tidy up, never to decide
what a run computes.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..pipeline.storage import Place, RemotePath, StorageError

_STAGE: Final = re.compile(r"([0-9]{2,})-([^/]+)-([0-9a-f]{6,})")
# What a run puts into its work directory; a folder that holds anything else is not thresher's to remove.
OWN: Final = re.compile(r"runs|stages|sources\.json|probe-[^/]+|\.unfinished-[^/]*")
QUICK_LOOK: Final = re.compile(r"limit-[0-9]+")
_ENTRY: Final = re.compile(r"[0-9]{5,}\.json")
_ROLLUP: Final = "rollup.json"
REQUESTS_AT_ONCE: Final = 32


@dataclass(frozen=True)
class StageDirectory:
    """One stage; `files` are the names in its directory, in a store also of what is in folders below."""

    path: Place
    number: int
    name: str
    files: frozenset[str]

    @property
    def finished(self) -> bool:
        """Whether all its parts are committed: then it has its roll-up."""
        return _ROLLUP in self.files

    def entries(self) -> list[dict[str, Any]]:
        """The manifest entries of the committed parts, in order; one that cannot be read is left out."""
        paths = [self.path / name for name in sorted(self.files) if _ENTRY.fullmatch(name)]
        if isinstance(self.path, Path):
            found = [_read_json(path) for path in paths]
        else:
            with ThreadPoolExecutor(REQUESTS_AT_ONCE, "thresher-entries") as pool:
                found = list(pool.map(_read_json, paths))
        return [entry for entry in found if isinstance(entry, dict) and "streams" in entry]

    def streams(self, name: str, columns: Collection[str]) -> Iterator[Place]:
        """The files of the streams whose name starts with `name` and that hold all of `columns`, in the
        order of parts."""
        for entry in self.entries():
            for stream, file in entry["streams"].items():
                there = file["path"] in self.files and set(columns) <= set(file.get("columns", ()))
                if there and stream.startswith(name):
                    yield self.path / file["path"]


def stages(work: Place, found: Sequence[StageDirectory] | None = None) -> list[StageDirectory]:
    """The stages that the last run in a work directory has begun, in the order in which they run.

    They are looked up among `found`, all that are there, where these are known already.
    """
    from ..pipeline.driver import USED

    names = _read_json(work / "stages" / USED)
    there = {stage.path.name: stage for stage in (all_stages(work) if found is None else found)}
    return [there[name] for name in names if name in there] if isinstance(names, list) else []


def all_stages(work: Place, listed: Iterable[str] | None = None) -> list[StageDirectory]:
    """The stages of every variant of the job that left some in a work directory, by number and name.

    `listed`: what lies below a work directory in a store, where that is known already.
    """
    directory = work / "stages"
    files: dict[str, set[str]] = {}
    if isinstance(directory, RemotePath):
        paths = [path.removeprefix("stages/") for path in listed or () if path.startswith("stages/")]
        for path in directory.names() if listed is None else paths:
            stage, _, name = path.partition("/")
            files.setdefault(stage, set()).add(name)
    elif directory.is_dir():
        files = {path.name: set(os.listdir(path)) for path in directory.iterdir() if path.is_dir()}
    return [
        StageDirectory(directory / name, int(match[1]), match[2], frozenset(files[name]))
        for name in sorted(files)
        if (match := _STAGE.fullmatch(name))
    ]


class Listed(NamedTuple):
    """What a store's listing says of an object: its bytes, and when it was written, where it tells."""

    bytes: int
    written: datetime | None


def listing(directory: RemotePath) -> dict[str, Listed]:
    """What lies below a folder of a store, by name relative to it. Raises StorageError."""
    import fsspec

    from ..pipeline.sources.patience import Patience, persist

    def find() -> dict[str, dict[str, Any]]:
        store.invalidate_cache()
        try:
            found: dict[str, dict[str, Any]] = store.find(name, detail=True)
        except FileNotFoundError:
            return {}
        return found

    try:
        store, name = fsspec.core.url_to_fs(str(directory))
        found = persist(str(directory), Patience.from_environment(), find)
    except Exception as error:  # each store has exceptions of its own
        raise StorageError(str(directory), f"cannot be listed: {error}") from error
    start = store.unstrip_protocol(name).rstrip("/") + "/"
    named = {store.unstrip_protocol(path): info for path, info in found.items()}
    return {
        url.removeprefix(start): Listed(int(info.get("size") or 0), _written(info))
        for url, info in sorted(named.items())
        if url.startswith(start)
    }


def _written(info: dict[str, Any]) -> datetime | None:
    times = (info.get(key) for key in ("LastModified", "mtime", "last_modified", "created"))
    return next((time for time in times if isinstance(time, datetime)), None)


def last_written(work: RemotePath) -> datetime | None:
    """When something was last written below a work directory in a store; None where that is not known."""
    times = [file.written for file in listing(work).values() if file.written is not None]
    return max(times, default=None)


def is_work(place: Place, names: Collection[str]) -> bool:
    """Whether a folder, by the names right below it, is the work directory of a run and nothing else."""
    if isinstance(place, RemotePath):
        # The lock of a run is local; the first things that a run writes to a store are these.
        began = bool({"sources.json", "stages"} & set(names)) or any(map(QUICK_LOOK.fullmatch, names))
    else:
        began = place.is_dir() and not place.is_symlink() and "runs" in names
    return began and all(OWN.fullmatch(name) or QUICK_LOOK.fullmatch(name) for name in names)


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


def _read_json(path: Place) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    except OSError:
        if isinstance(path, RemotePath):
            raise  # a store that does not answer has not said that there is nothing
        return None
