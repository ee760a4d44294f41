"""The sources of a job: expanded once, frozen, and cut into parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
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

SPLIT_BYTES = 64 << 20


class JobRefused(Exception):
    """The job cannot start: its input or the environment is wrong; the message says what to do."""


def ingest(job: Job, work: Path, limit: int | None, listener: Listener) -> Parts:
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
        frozen.write_text(json.dumps(now, indent=1))
    splits: list[tuple[Split, str]] = []
    for entry in now:
        for file in (SourceFile(**values) for values in entry["files"]):
            format_ = entry["input"]["format"] or guess_format(file.path)
            planned = plan_splits(file, format_, entry["input"]["columns"], SPLIT_BYTES)
            splits.extend((split, file.etag) for split in planned)
    if limit is not None:
        splits = _limited(splits, limit)
    pages = any(step.kind == "extract" for step in job.steps)
    return tuple(
        PartRef(
            number,
            reader=OperatorRef.of(ReadSource, split=asdict(split), pages=pages),
            label=_label(split),
            bytes=split.size,
            identity=json.dumps([asdict(split), etag, pages], sort_keys=True),
        )
        for number, (split, etag) in enumerate(splits)
    )


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


def _limited(splits: Sequence[tuple[Split, str]], limit: int) -> list[tuple[Split, str]]:
    """The first splits, the last of them cut, that give `limit` records."""
    taken: list[tuple[Split, str]] = []
    for split, etag in splits:
        if limit <= 0:
            break
        taken.append((replace(split, limit=limit), etag))
        limit -= count(split, limit)
    return taken
