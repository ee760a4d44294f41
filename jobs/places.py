"""Finds a run from what a person names: its job file, its output folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .loading import load
from .problems import JobFileError, Problem
from .running import MANIFEST, RESOLVED


@dataclass(frozen=True)
class Run:
    """Where a run keeps its things; `ledger` is how much the ledger holds (full, sampled, counts)."""

    name: str
    output: Path
    work: Path
    ledger: str

    @property
    def finished(self) -> bool:
        return (self.output / MANIFEST).is_file()


def find(place: str, overrides: Sequence[str] = ()) -> Run:
    """The run of a job file (with `--set` overrides) or of an output folder. Raises JobFileError."""
    path = Path(place)
    if path.is_dir():
        if not (path / RESOLVED).is_file():
            told = f"is not the output of a finished run: it has no {RESOLVED}; name the job file instead"
            raise JobFileError([Problem((), told)], place)
        path = path / RESOLVED
    job = load(path, overrides, check=False)
    output, work = Path(job.output.path), Path(job.run.work)
    if Path(place).is_dir():
        # The folder itself, which may have been moved, or hold the quick look of a --limit.
        output = Path(place).resolve()
        work = work / output.name if (work / output.name).is_dir() else work
    return Run(job.name, output, work, job.run.ledger)
