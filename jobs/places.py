"""Finds a run from what a person names: its job file, its output folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..pipeline.storage import Place, RemotePath
from ..pipeline.storage import place as place_of
from .loading import load
from .problems import JobFileError, Problem
from .running import MANIFEST, RESOLVED

if TYPE_CHECKING:
    from ..schemas.job import Job


@dataclass(frozen=True)
class Run:
    """Where a run keeps its things; `ledger` is how much the ledger holds (full, sampled, counts)."""

    name: str
    output: Place
    work: Path
    ledger: str

    @property
    def finished(self) -> bool:
        return (self.output / MANIFEST).is_file()


def find(place: str, overrides: Sequence[str] = ()) -> Run:
    """The run of a job file (with `--set` overrides), or of an output by its folder or URL.

    Raises JobFileError, and StorageError where a store does not answer.
    """
    output = place_of(place)
    if isinstance(output, RemotePath):
        job = _load_remote(output, overrides)
    elif output.is_dir():
        if not (output / RESOLVED).is_file():
            raise JobFileError([Problem((), _told_unfinished())], place)
        job = load(output / RESOLVED, overrides, check=False)
    else:
        job = load(output, overrides, check=False)
        return Run(job.name, place_of(job.output.path), Path(job.run.work), job.run.ledger)
    # The folder itself, which may have been moved, or hold the quick look of a --limit.
    output = output if isinstance(output, RemotePath) else output.resolve()
    work = Path(job.run.work)
    work = work / output.name if (work / output.name).is_dir() else work
    return Run(job.name, output, work, job.run.ledger)


def _load_remote(output: RemotePath, overrides: Sequence[str]) -> Job:
    from .yaml_source import read_yaml

    try:
        document = read_yaml((output / RESOLVED).read_bytes())
    except FileNotFoundError:
        raise JobFileError([Problem((), _told_unfinished())], str(output)) from None
    if not isinstance(document.value, dict):
        raise JobFileError(document.problems or [Problem((), f"{RESOLVED} is no job")], str(output))
    return load(document.value, overrides, check=False)


def _told_unfinished() -> str:
    return f"is not the output of a finished run: it has no {RESOLVED}; name the job file instead"
