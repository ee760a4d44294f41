"""Runs a job and leaves its report beside the shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..schemas.progress import Listener, Silent
from .report import write_report

if TYPE_CHECKING:
    from ..pipeline.runner import RunResult
    from ..schemas.job import Job

MANIFEST = "manifest.json"
REPORT = "report.md"
RESOLVED = "job.yaml"


def run(
    job: Job, *, limit: int | None = None, listener: Listener | None = None, allow_code: bool = False
) -> RunResult:
    """Runs a job to its end, or resumes it, and returns its totals, shards, output folder and seconds.

    `limit`: read no more than so many records, for a quick look. `listener` hears about progress.
    Raises JobRefused (the environment is wrong), and what the runner raises: AccountsError (records are not
    accounted for), FailedParts (parts could not be processed); KeyboardInterrupt leaves a run to resume.
    """
    from ..pipeline.runner import run_job

    _make_folder("output.path", job.output.path)
    _make_folder("run.work", job.run.work)
    result = run_job(job, limit=limit, listener=listener or Silent(), allow_code=allow_code)
    output = Path(result.output)
    write_report(read_manifest(output), output / REPORT)
    return result


def _make_folder(key: str, folder: str) -> None:
    from ..pipeline.ingest import JobRefused

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobRefused(f"{key}: the folder {folder} cannot be made: {error.strerror or error}") from None


def read_manifest(output: Path) -> dict[str, Any]:
    """The manifest of a finished run. Raises FileNotFoundError where there is none."""
    manifest: dict[str, Any] = json.loads((output / MANIFEST).read_bytes())
    return manifest
