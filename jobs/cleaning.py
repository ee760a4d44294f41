"""Removes what a run keeps in order to be resumed: all of it, or what is of no more use."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ..pipeline.storage import Place, RemotePath
from . import work
from .progress import counted, size

# What stays, from most to least. `parts`: everything that some run could read again. `last`: what the last
# run reads and, where that did not finish, the last finished one. `signals`: what `thresher why` tells of
# records that were dropped.
Keep = Literal["parts", "last", "signals", "nothing"]

# Names that a commit gives to the files of a part; the entry of the part says which of them count.
_STREAM: Final = re.compile(r"([0-9]{5,})\..+\.[0-9a-f]{12}(\.\w+)*")


class NotCleanableError(Exception):
    """The folder is not, or not only, the work directory of a run that has ended; nothing was removed."""


@dataclass(frozen=True)
class _Folder:
    """A place, with what a store's one listing says of it; `listed` is None for a folder of this machine."""

    place: Place
    listed: Mapping[str, work.Listed] | None

    @classmethod
    def of(cls, place: Place) -> _Folder:
        return cls(place, work.listing(place) if isinstance(place, RemotePath) else None)

    def __truediv__(self, name: str) -> _Folder:
        if self.listed is None:
            return _Folder(self.place / name, None)
        start = f"{name}/"
        inside = {path.removeprefix(start): at for path, at in self.listed.items() if path.startswith(start)}
        return _Folder(self.place / name, inside)

    @property
    def exists(self) -> bool:
        return self.place.exists() if isinstance(self.place, Path) else bool(self.listed)

    @property
    def names(self) -> Sequence[str]:
        """The names right below it; its own where it is a file."""
        if self.listed is not None:
            return sorted({path.partition("/")[0] for path in self.listed})
        assert isinstance(self.place, Path)
        return sorted(os.listdir(self.place)) if self.place.is_dir() else [self.place.name]

    @property
    def stages(self) -> list[work.StageDirectory]:
        return work.all_stages(self.place, self.listed)

    @property
    def quick_looks(self) -> list[_Folder]:
        return [self / name for name in self.names if name.startswith("limit-")]

    @property
    def whole(self) -> Iterator[Place]:
        """What to remove so that nothing of it is left: in a store each object, elsewhere the folder."""
        yield from [self.place] if self.listed is None else (self.place / path for path in self.listed)


def check_cleanable(directory: Place, keep: Keep = "nothing", output: Place | None = None) -> int:
    """Bytes that `clean` would free. Raises NotCleanableError."""
    folder = _checked(directory, output)
    return _size(folder, _removed(folder, keep))


def _checked(directory: Place, output: Place | None) -> _Folder:
    folder = _Folder.of(directory)
    _refuse_foreign(folder, output)
    places = (directory, *(look.place for look in folder.quick_looks))
    if any(isinstance(place, Path) and work.is_running(place) for place in places):
        raise NotCleanableError(f"a run is using {directory}; stop it first")
    return folder


def question(directory: Place, bytes_: int) -> str:
    """What to ask a person before so many bytes are removed."""
    asked = f"Free {size(bytes_)} of {directory}?"
    if isinstance(directory, Path):
        return asked
    written = work.last_written(directory)
    when = f", last written to at {written.isoformat(' ', 'seconds')}" if written else ""
    return f"Whether a run is at work in {directory}{when}, a store does not show. {asked}"


def clean(directory: Place, keep: Keep = "nothing", output: Place | None = None) -> int:
    """Removes what `keep` does not name from the work directory, and nothing outside it; returns bytes freed.

    Locally a run that is alive is found by its lock, and one that starts meanwhile is refused. A store has no
    locks: there the caller says, by calling, that no run is at work. One that is may fail, to be run again;
    it cannot end with a wrong output. `output`, where the shards are, must not be inside.
    Raises NotCleanableError.
    """
    from ..pipeline.store import RunLock

    folder = _checked(directory, output)
    if isinstance(directory, RemotePath):
        return _remove_objects(folder, directory, keep)
    lock = RunLock(directory, cleaning=True)
    try:
        if lock.others():
            raise NotCleanableError(f"a run is using {directory}; stop it first")
        return _remove(folder, keep)
    finally:
        lock.close()


def _remove(folder: _Folder, keep: Keep) -> int:
    removed = list(_removed(folder, keep))
    freed = _size(folder, removed)
    for path in removed:
        assert isinstance(path, Path)
        if path.is_dir() and not path.is_symlink():
            # rmtree does not follow links, so nothing outside the directory is touched.
            shutil.rmtree(path)
        else:
            path.unlink()
    return freed


def _remove_objects(folder: _Folder, directory: RemotePath, keep: Keep) -> int:
    from ..pipeline.store import remove

    removed = list(_removed(folder, keep))
    with ThreadPoolExecutor(work.REQUESTS_AT_ONCE, "thresher-clean") as pool:
        for _ in pool.map(remove, removed):
            pass
    if keep == "nothing" and (new := directory.names()):
        raise NotCleanableError(
            f"{counted(len(new), 'file')} came to {directory} while it was cleaned, as {new[0]}: "
            "a run is at work there; stop it, and clean again"
        )
    return _size(folder, removed)


def _refuse_foreign(folder: _Folder, output: Place | None) -> None:
    directory = folder.place
    if not folder.exists:
        raise NotCleanableError(
            f"nothing to clean: {directory} is not there; if the run had another run.work, name the job file"
        )
    if output is not None and _is_inside(output, directory):
        raise NotCleanableError(f"the output, {output}, is inside {directory}; nothing was removed")
    looks = folder.quick_looks
    linked = any(isinstance(look.place, Path) and look.place.is_symlink() for look in looks)
    strange = any(not work.OWN.fullmatch(name) for look in looks for name in look.names)
    if linked or strange or not work.is_work(directory, folder.names):
        raise NotCleanableError(
            f"{directory} does not look like a work directory of thresher; nothing was removed"
        )


def _is_inside(output: Place, directory: Place) -> bool:
    if isinstance(output, Path) and isinstance(directory, Path):
        return output.resolve().is_relative_to(directory.resolve())
    return f"{output}/".startswith(f"{directory}/")


def _removed(folder: _Folder, keep: Keep) -> Iterator[Place]:
    """Files and folders that go, none inside another; in a store every object by itself."""
    if keep == "nothing":
        yield from folder.whole
        return
    looks = folder.quick_looks
    if keep == "signals":
        for look in looks:
            yield from look.whole
    for kept in (folder, *(() if keep == "signals" else looks)):
        leftovers = (name for name in kept.names if name.startswith((".unfinished-", "probe-")))
        yield from (kept.place / name for name in leftovers)
        unused = set() if keep == "parts" else _unused(kept)
        for stage in kept.stages:
            if stage.path.name in unused:
                yield from (kept / "stages" / stage.path.name).whole
            else:
                yield from _spoilt(stage, keep == "signals")
        if isinstance(kept.place, Path):
            yield from sorted((kept.place / "stages").glob(".unfinished-*"))


def _unused(folder: _Folder) -> set[str]:
    """The stages that neither the last run nor the last finished one reads; none where that is not known."""
    from ..pipeline.driver import stages_in_use

    used = stages_in_use(folder.place)
    return {stage.path.name for stage in folder.stages} - used if used else set()


def _spoilt(stage: work.StageDirectory, signals_only: bool) -> Iterator[Place]:
    """What of a stage is of no use: what was not finished or committed, and what was sent and received."""
    entries = {f"{entry['part']:05d}": entry["streams"] for entry in stage.entries()}
    for name in sorted(stage.files):
        path, stream = stage.path / name, _STREAM.fullmatch(name)
        if name.startswith(".unfinished-"):
            yield path
        elif name == "spool" and isinstance(path, Path) and path.is_dir():
            yield from [path] if stage.finished or signals_only else sorted(path.glob(".unfinished-*"))
        elif name.startswith("spool/"):
            yield from [path] if stage.finished or signals_only else []
        elif stream is not None:
            if stream[1] not in entries and f"{stream[1]}.json" in stage.files:
                continue  # an entry that cannot be read may count it
            committed = entries.get(stream[1], {})
            if name not in {file["path"] for kind, file in committed.items() if _counts(kind, signals_only)}:
                yield path


def _counts(stream: str, signals_only: bool) -> bool:
    return stream.startswith("signals") or not signals_only


def _size(folder: _Folder, removed: Iterable[Place]) -> int:
    """Bytes that are free when these are gone: a shard that the output holds too frees none."""
    if folder.listed is not None:
        return sum(folder.listed[str(path).removeprefix(f"{folder.place}/")].bytes for path in removed)
    links: Counter[int] = Counter()
    freed = 0
    for path in removed:
        assert isinstance(path, Path)
        files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
        for file in files:
            status = file.lstat()
            if file.is_file() or file.is_symlink():
                links[status.st_ino] += 1
                freed += status.st_size if links[status.st_ino] == status.st_nlink else 0
    return freed
