"""The sources of a job: expanded once, frozen, and cut into parts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..schemas.job import Job
from ..schemas.progress import Listener
from .sources.files import SourceError, SourceFile, expand, guess_format
from .sources.reader import count
from .sources.split import Split, plan_splits
from .stage import OperatorRef, PartRef, Parts
from .steps.reading import ReadSource
from .store import publish, unfinished

Slice = tuple[Split, SourceFile]


class JobRefused(Exception):
    """The job cannot start: its input or the environment is wrong; the message says what to do."""


def ingest(job: Job, work: Path, limit: int | None, listener: Listener, run: str) -> Parts:
    """The parts that the sources are cut into. Raises JobRefused where a frozen file has changed."""
    frozen = work / "sources.json"
    wanted = [source.model_dump(mode="json") for source in job.input]
    try:
        now: list[dict[str, Any]] = [
            {"input": spec, "files": [asdict(f) for f in expand(spec["path"])]} for spec in wanted
        ]
    except SourceError as error:
        raise JobRefused(str(error)) from error
    if frozen.exists() and [entry["input"] for entry in json.loads(frozen.read_bytes())] == wanted:
        now = _compare(json.loads(frozen.read_bytes()), now, listener)
    else:
        _freeze(frozen, now, run)
    splits: list[Slice] = []
    for entry in now:
        for file in (SourceFile(**values) for values in entry["files"]):
            format_ = entry["input"]["format"] or guess_format(file.path)
            planned = plan_splits(file, format_, entry["input"]["columns"], job.run.part)
            splits.extend((split, file) for split in planned)
    if limit is not None:
        splits = _limited(splits, limit)
    pages = any(step.kind == "extract" for step in job.steps)
    return tuple(_part(number, group, pages) for number, group in enumerate(_grouped(splits, job.run.part)))


def _grouped(splits: Sequence[Slice], size: int) -> Iterator[list[Slice]]:
    """Neighbours together, as long as they are small: each part costs every stage a task."""
    group: list[Slice] = []
    for slice_ in splits:
        if group and sum(split.size for split, _ in group) + slice_[0].size > size:
            yield group
            group = []
        group.append(slice_)
    if group:
        yield group


def _part(number: int, group: Sequence[Slice], pages: bool) -> PartRef:
    described = [{"split": asdict(split), "file": asdict(file)} for split, file in group]
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    return PartRef(
        number,
        reader=OperatorRef.of(ReadSource, slices=described, pages=pages),
        label=_label(group[0][0]) + more,
        bytes=sum(split.size for split, _ in group),
        identity=json.dumps([described, pages], sort_keys=True),
    )


def _freeze(path: Path, sources: list[dict[str, Any]], run: str) -> None:
    temporary = unfinished(path.parent, run, path.name)
    with temporary.open("x") as file:
        json.dump(sources, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    publish(temporary, path)


def _label(split: Split) -> str:
    whole = split.start == 0 and split.stop is None
    return (
        split.path
        if whole
        else f"{split.path} [{split.start}, {'end' if split.stop is None else split.stop})"
    )


def _compare(
    frozen: list[dict[str, Any]], now: list[dict[str, Any]], listener: Listener
) -> list[dict[str, Any]]:
    present: dict[str, Any] = {file["path"]: file for entry in now for file in entry["files"]}
    known: dict[str, Any] = {file["path"]: file for entry in frozen for file in entry["files"]}
    for path, file in known.items():
        if present.get(path) != file:
            state = "is gone" if path not in present else "has changed"
            raise JobRefused(
                f"{path} {state} since this job first started; run `thresher clean` to start anew, "
                "or name another run.work"
            )
    if len(present) > len(known):
        listener.note(f"{len(present) - len(known)} input files are newer than this job and are left out")
    return frozen


def _limited(splits: Sequence[Slice], limit: int) -> list[Slice]:
    """The first splits, the last of them cut, that give `limit` records."""
    taken: list[Slice] = []
    for split, file in splits:
        if limit <= 0:
            break
        taken.append((replace(split, limit=limit), file))
        limit -= count(split, limit)
    return taken
