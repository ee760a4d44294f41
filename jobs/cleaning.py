"""Removes what a run keeps in order to be resumed: all of it, or what is of no more use."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

from . import work

# What stays, from most to least. `parts`: everything that some run could read again. `last`: what the last
# run reads and, where that did not finish, the last finished one. `signals`: what `thresher why` tells of
# records that were dropped.
Keep = Literal["parts", "last", "signals", "nothing"]

# Names that a commit gives to the files of a part; the entry of the part says which of them count.
_STREAM: Final = re.compile(r"([0-9]{5,})\..+\.[0-9a-f]{12}(\.\w+)*")
_OWN: Final = re.compile(r"runs|stages|sources\.json|\.unfinished-.*")


class NotCleanableError(Exception):
    """The folder is not, or not only, the work directory of a run that has ended; nothing was removed."""


def check_cleanable(directory: Path, keep: Keep = "nothing", output: Path | None = None) -> int:
    """Bytes that `clean` would free. Raises NotCleanableError."""
    _refuse_foreign(directory, output)
    if any(work.is_running(path) for path in (directory, *_quick_looks(directory))):
        raise NotCleanableError(f"a run is using {directory}; stop it first")
    return _size(_removed(directory, keep))


def clean(directory: Path, keep: Keep = "nothing", output: Path | None = None) -> int:
    """Removes what `keep` does not name from the work directory, and nothing outside it; returns bytes freed.

    A run that starts meanwhile is refused, as beside another run. `output`, where the shards are, must not be
    inside. Raises NotCleanableError.
    """
    from ..pipeline.store import RunLock

    check_cleanable(directory, keep, output)
    lock = RunLock(directory, cleaning=True)
    try:
        if lock.others():
            raise NotCleanableError(f"a run is using {directory}; stop it first")
        return _remove(directory, keep)
    finally:
        lock.close()


def _remove(directory: Path, keep: Keep) -> int:
    removed = list(_removed(directory, keep))
    freed = _size(removed)
    for path in removed:
        before = path.parent.stat().st_mtime_ns if path != directory else 0
        if path.is_dir() and not path.is_symlink():
            # rmtree does not follow links, so nothing outside the directory is touched.
            shutil.rmtree(path)
        else:
            path.unlink()
        if path != directory:
            # The stages of a run are told from those of older variants by when they were last committed to.
            os.utime(path.parent, ns=(before, before))
    return freed


def _refuse_foreign(directory: Path, output: Path | None) -> None:
    if not directory.exists():
        raise NotCleanableError(f"nothing to clean: {directory} is not there")
    if output is not None and output.resolve().is_relative_to(directory.resolve()):
        raise NotCleanableError(f"the output, {output}, is inside {directory}; nothing was removed")
    strange = [
        entry
        for look in _quick_looks(directory)
        for entry in (look.iterdir() if look.is_dir() else [look])
        if not _OWN.fullmatch(entry.name)
    ]
    if strange or not work.is_work(directory):
        raise NotCleanableError(
            f"{directory} does not look like a work directory of thresher; nothing was removed"
        )


def _quick_looks(directory: Path) -> list[Path]:
    return sorted(directory.glob("limit-*"))


def _removed(directory: Path, keep: Keep) -> Iterator[Path]:
    """Files and folders that go, none inside another."""
    if keep == "nothing":
        yield directory
        return
    if keep == "signals":
        yield from _quick_looks(directory)
    looks = [] if keep == "signals" else _quick_looks(directory)
    for place in (directory, *looks):
        yield from (path for path in sorted(place.glob(".unfinished-*")) if path.is_file())
        unused = set() if keep == "parts" else _unused(place)
        for stage in sorted(work.all_stages(place), key=lambda stage: stage.path):
            if stage.path in unused:
                yield stage.path
            else:
                yield from _spoilt(stage, keep == "signals")
        yield from sorted((place / "stages").glob(".unfinished-*"))


def _unused(place: Path) -> set[Path]:
    """The stages that neither the last run nor the last finished one reads; none where that is not known."""
    from ..pipeline.driver import stages_in_use

    used = stages_in_use(place)
    return {stage.path for stage in work.all_stages(place) if stage.path.name not in used} if used else set()


def _spoilt(stage: work.StageOnDisk, signals_only: bool) -> Iterator[Path]:
    """What of a stage is of no use: what was not finished or committed, and what was sent and received."""
    entries = {f"{entry['part']:05d}": entry["streams"] for entry in stage.entries()}
    for path in sorted(stage.path.iterdir()):
        stream = _STREAM.fullmatch(path.name)
        if path.name.startswith(".unfinished-"):
            yield path
        elif path.name == "spool" and path.is_dir():
            yield from [path] if stage.finished or signals_only else sorted(path.glob(".unfinished-*"))
        elif stream is not None:
            if stream[1] not in entries and (stage.path / f"{stream[1]}.json").exists():
                continue  # an entry that cannot be read may count it
            committed = entries.get(stream[1], {})
            names = {file["path"] for name, file in committed.items() if _counts(name, signals_only)}
            if path.name not in names:
                yield path


def _counts(stream: str, signals_only: bool) -> bool:
    return stream.startswith("signals") or not signals_only


def _size(paths: Iterable[Path]) -> int:
    """Bytes that are free when these are gone: a shard that the output holds too frees none."""
    links: Counter[int] = Counter()
    freed = 0
    for path in paths:
        files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
        for file in files:
            status = file.lstat()
            if file.is_file() or file.is_symlink():
                links[status.st_ino] += 1
                freed += status.st_size if links[status.st_ino] == status.st_nlink else 0
    return freed
