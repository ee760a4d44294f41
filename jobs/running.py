"""Runs a job, leaves its report and its card beside the shards, and brings an output that is remote to its
place."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..schemas.progress import Listener, Silent
from .card import card
from .report import report

if TYPE_CHECKING:
    from ..pipeline.runner import RunResult
    from ..pipeline.storage import Place, RemotePath
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
    from ..pipeline.storage import RemotePath, place

    listener = listener or Silent()
    target = place(job.output.path)
    if limit is not None:
        target = target / f"limit-{limit}"
    if job.output.card:
        _check_card(target)
    if isinstance(target, RemotePath):
        return _run_remote(job, target, limit, listener, allow_code)
    _make_folder("output.path", job.output.path)
    _make_folder("run.work", job.run.work)
    result = run_job(job, limit=limit, listener=listener, allow_code=allow_code)
    return _describe(job, result)


def _run_remote(
    job: Job, target: RemotePath, limit: int | None, listener: Listener, allow_code: bool
) -> RunResult:
    """Puts the output together in the work directory, as links to what is there, and uploads it."""
    from ..pipeline.ingest import JobRefused
    from ..pipeline.output_directory import OutputDirectory
    from ..pipeline.runner import run_job
    from ..pipeline.store import RunLock
    from ..pipeline.upload import Upload

    work = Path(job.run.work)
    staged = work / "stages" / "output"
    _make_folder("run.work", str(staged))
    upload = Upload(target, _owner(work))
    upload.check()
    here = job.model_copy(update={"output": job.output.model_copy(update={"path": str(staged)})})
    result = run_job(here, limit=limit, listener=listener, allow_code=allow_code)
    lock = RunLock(work)
    try:
        if lock.others():
            raise JobRefused(f"{work}: another run is at work here; wait for it, or name another run.work")
        source = Path(result.output)
        OutputDirectory(source, lock.run).write_job(job)
        result = _describe(job, result)
        upload.run(source, listener)
    finally:
        lock.close()
    return replace(result, output=str(target))


def _describe(job: Job, result: RunResult) -> RunResult:
    """Leaves report and card in a local output; returns the result with all that the manifest counts."""
    from ..pipeline.output_directory import OutputDirectory

    output = Path(result.output)
    manifest = read_manifest(output)
    directory = OutputDirectory(output, "")
    directory.write(REPORT, report(manifest).encode())
    if job.output.card:
        directory.write(CARD, card(job, manifest).encode())
    return replace(result, totals=manifest["totals"])


def _check_card(output: Place) -> None:
    from ..pipeline.ingest import JobRefused
    from ..pipeline.output_directory import is_our_card

    readme = output / CARD
    if readme.is_file() and not is_our_card(readme.read_bytes()):
        raise JobRefused(
            f"{readme} is in the way: a run writes a dataset card of that name, and no run wrote this one; "
            "move it, or set output.card to false"
        )


def _owner(work: Path) -> str:
    """What names the runs of a work directory to others that write to the same output."""
    from ..pipeline.store import put_new

    path = work / "stages" / "owner"
    if not path.exists():
        put_new(path, uuid.uuid4().hex.encode(), "")
    return path.read_text()


def _make_folder(key: str, folder: str) -> None:
    from ..pipeline.ingest import JobRefused

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobRefused(f"{key}: the folder {folder} cannot be made: {error.strerror or error}") from None


def read_manifest(output: str | Place) -> dict[str, Any]:
    """The manifest of a finished run. Raises FileNotFoundError where there is none."""
    from ..pipeline.storage import place

    manifest: dict[str, Any] = json.loads((place(output) / MANIFEST).read_bytes())
    return manifest
