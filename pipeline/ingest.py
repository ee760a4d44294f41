"""The sources of a job: expanded once, frozen, and cut into parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from ..schemas.job import Job
from ..schemas.progress import Listener
from .planner import Branch
from .sources.files import SourceError, SourceFile
from .sources.inputs import files_of, splits_of
from .sources.reader import count
from .sources.split import Split
from .stage import OperatorRef, PartRef, Parts
from .steps.reading import ReadSource
from .storage import Place
from .store import put_new, write_whole


class Slice(NamedTuple):
    """A split, the file as it was first seen, and the name of the input that it belongs to."""

    split: Split
    file: SourceFile
    input: str


class JobRefused(Exception):
    """The job cannot start: its input or the environment is wrong; the message says what to do."""


def ingest(
    job: Job, branches: Sequence[Branch], work: Place, limit: int | None, listener: Listener, run: str
) -> list[Parts]:
    """The parts that the sources of each branch are cut into.

    `limit` records are shared out among the branches. Raises JobRefused where a frozen file has changed.
    """
    frozen = work / "sources.json"
    wanted = [
        {**source.model_dump(mode="json", exclude={"name", "steps"}), "columns": source.record_columns}
        for source in job.input
    ]
    try:
        now: list[dict[str, Any]] = [
            {"input": spec, "files": [asdict(file) for file in files_of(spec)]} for spec in wanted
        ]
    except SourceError as error:
        raise JobRefused(str(error)) from error
    if not put_new(frozen, _encode(now), run):
        before = json.loads(frozen.read_bytes())
        if [entry["input"] for entry in before] == wanted:
            now = _compare(before, now, listener)
        else:
            write_whole(frozen, _encode(now), run)
    parts: list[Parts] = []
    first = 0
    for number, branch in enumerate(branches):
        slices = _slices(job, branch, now)
        if limit is not None:
            slices = _limited(slices, -(-(limit - number) // len(branches)))
        groups = enumerate(_grouped(slices, job.run.part), first)
        parts.append(tuple(_part(index, group, branch) for index, group in groups))
        first += len(parts[-1])
    return parts


def _slices(job: Job, branch: Branch, sources: Sequence[dict[str, Any]]) -> list[Slice]:
    slices: list[Slice] = []
    for number in branch.inputs:
        entry = sources[number]
        for file in (SourceFile(**values) for values in entry["files"]):
            try:
                planned = splits_of(file, entry["input"], job.run.part, job.modality, job.run.part_urls)
            except SourceError as error:
                raise JobRefused(str(error)) from error
            slices.extend(Slice(split, file, job.input[number].name) for split in planned)
    return slices


def _grouped(slices: Sequence[Slice], size: int) -> Iterator[list[Slice]]:
    """Neighbours together, as long as they are small: each part costs every stage a task."""
    group: list[Slice] = []
    held = 0
    for slice_ in slices:
        if group and held + slice_.split.size > size:
            yield group
            group, held = [], 0
        group.append(slice_)
        held += slice_.split.size
    if group:
        yield group


def _part(number: int, group: Sequence[Slice], branch: Branch) -> PartRef:
    described = [{"split": asdict(one.split), "file": asdict(one.file), "input": one.input} for one in group]
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    return PartRef(
        number,
        reader=OperatorRef.of(ReadSource, slices=described, payload=branch.payload, step=branch.reading),
        label=_label(group[0].split) + more,
        bytes=sum(one.split.size for one in group),
        identity=json.dumps([described, branch.payload, branch.reading], sort_keys=True),
    )


def _encode(sources: list[dict[str, Any]]) -> bytes:
    return json.dumps(sources, indent=1).encode()


def _label(split: Split) -> str:
    whole = split.start == 0 and split.stop is None
    if split.rows is not None:
        return f"{split.path} [rows {split.skip} to {split.skip + split.rows} from {split.start}]"
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


def _limited(slices: Sequence[Slice], limit: int) -> list[Slice]:
    """The first splits, the last of them cut, that give `limit` records."""
    taken: list[Slice] = []
    for one in slices:
        if limit <= 0:
            break
        taken.append(one._replace(split=replace(one.split, limit=limit)))
        limit -= count(one.split, limit)
    return taken
