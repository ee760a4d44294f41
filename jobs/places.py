"""Finds a run from what a person names: its job file, its output folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..pipeline.storage import Place, RemotePath
from ..pipeline.storage import place as place_of
from .loading import load
from .problems import JobFileError, Problem
from .running import MANIFEST, RESOLVED
from .work import QUICK_LOOK

if TYPE_CHECKING:
    from ..schemas.job import Job
    from ..schemas.step import Step


@dataclass(frozen=True)
class Run:
    """Where a run keeps its things; `ledger` is how much the ledger holds (full, sampled, counts).

    `placed`: for each step, by what the names of its stages begin with, the `on` and `resources` that it has
    of its own.
    """

    name: str
    output: Place
    work: Place
    ledger: str
    placed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

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
        return _run(job, place_of(job.output.path), place_of(job.run.work))
    # The folder itself, which may have been moved, or hold the quick look of a --limit.
    output = output if isinstance(output, RemotePath) else output.resolve()
    work = place_of(job.run.work)
    if QUICK_LOOK.fullmatch(output.name) and (work / output.name / "sources.json").is_file():
        work = work / output.name
    return _run(job, output, work)


def _run(job: Job, output: Place, work: Place) -> Run:
    steps = [*(step for source in job.input for step in source.steps), *job.steps]
    placed = {step.name.replace(":", "-"): _placed(step, job) for step in steps}
    return Run(job.name, output, work, job.run.ledger, placed)


def _placed(step: Step, job: Job) -> dict[str, Any]:
    on = {"on": step.on} if step.on not in (None, job.run.engine) else {}
    if step.resources is None:
        return on
    return {**on, "resources": step.resources.model_dump(mode="json", exclude_defaults=True)}


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
