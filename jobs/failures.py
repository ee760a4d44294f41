"""What ends a command for a reason that a person can mend: the exit status and what to tell."""

from __future__ import annotations

from .problems import JobFileError


def explain(error: Exception) -> tuple[int | None, str]:
    """The exit status of an error and its message; (None, "") for one that is a bug of ours."""
    if isinstance(error, JobFileError):
        return 2, str(error)
    from ..schemas.contracts import AssetError
    from .cleaning import NotCleanableError
    from .inspection import NotReadableError
    from .trying import NeedsCorpusError
    from .why import NoAnswerError

    if isinstance(
        error, AssetError | NotCleanableError | NotReadableError | NeedsCorpusError | NoAnswerError
    ):
        return 2, str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return 2, f"{error.filename}: {error.strerror or error}"
    if isinstance(error, OSError) and error.strerror:
        return 2, error.strerror
    return _explain_run(error)


def _explain_run(error: Exception) -> tuple[int | None, str]:
    from ..pipeline.accounts import AccountsError
    from ..pipeline.runner import JobRefused
    from ..pipeline.sources.files import SourceError
    from ..pipeline.stage import TaskFailed

    if isinstance(error, JobRefused | SourceError):
        return 2, str(error)
    if isinstance(error, AccountsError):
        return 3, f"the accounts do not add up: {error}. Nothing was published; please report this"
    if isinstance(error, TaskFailed):
        parts = "\n".join(f"  part {task}: {reason}" for task, reason in sorted(error.failures.items()))
        return 4, (
            f"stage {error.stage}: {len(error.failures)} parts could not be processed\n{parts}\n"
            "run again to try them once more; run.max_failed_parts allows for some"
        )
    return None, ""
