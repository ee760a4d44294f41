"""Runs a job, with a report and a card beside its shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..schemas.progress import Listener, Silent
from .card import card
from .report import report

if TYPE_CHECKING:
    from ..pipeline.runner import RunResult
    from ..pipeline.storage import Place
    from ..schemas.job import Job

MANIFEST: Final = "manifest.json"
REPORT: Final = "report.md"
RESOLVED: Final = "job.yaml"
CARD: Final = "README.md"


def run(
    job: Job, *, limit: int | None = None, listener: Listener | None = None, allow_code: bool = False
) -> RunResult:
    """Runs a job to its end, or resumes it, and returns its totals, shards, output folder and seconds.

    `limit`: read no more than so many records, for a quick look. `listener` hears about progress.
    Raises JobRefused (the environment is wrong), and what the runner raises: AccountsError (records are not
    accounted for), FailedParts (parts could not be processed); KeyboardInterrupt leaves a run to resume.
    StorageError: a store did not take the output; running again goes on from there.
    """
    from ..pipeline.runner import run_job
    from ..pipeline.storage import place

    target, work = place(job.output.path), place(job.run.work)
    if limit is not None:
        target = target / f"limit-{limit}"
    if job.output.card:
        _check_card(target)
    for key, folder in (("output.path", target), ("run.work", work)):
        if isinstance(folder, Path):
            _make_folder(key, folder)
    return run_job(
        job,
        limit=limit,
        listener=listener or Silent(),
        allow_code=allow_code,
        describe=partial(_describe, job, allow_code),
    )


def _describe(job: Job, allow_code: bool, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """What tells a person about an output."""
    told = {REPORT: report(manifest).encode()}
    if job.output.card:
        told[CARD] = card(job, manifest, allow_code).encode()
    return told


def _check_card(output: Place) -> None:
    from ..pipeline.ingest import JobRefused
    from ..pipeline.output_directory import is_our_card

    readme = output / CARD
    if readme.is_file() and not is_our_card(readme.read_bytes()):
        raise JobRefused(
            f"{readme} is in the way: a run writes a dataset card of that name, and no run wrote this one; "
            "move it, or set output.card to false"
        )


def _make_folder(key: str, folder: Path) -> None:
    from ..pipeline.ingest import JobRefused

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobRefused(f"{key}: the folder {folder} cannot be made: {error.strerror or error}") from None


def read_manifest(output: str | Place) -> dict[str, Any]:
    """The manifest of a finished run. Raises FileNotFoundError where there is none."""
    from ..pipeline.storage import place

    manifest: dict[str, Any] = json.loads((place(output) / MANIFEST).read_bytes())
    return manifest
