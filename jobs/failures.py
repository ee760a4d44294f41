"""What ends a command for a reason that a person can mend: the exit status and what to tell."""

from __future__ import annotations

from collections.abc import Mapping

from .problems import JobFileError
from .progress import counted


def explain(error: Exception) -> tuple[int | None, str]:
    """The exit status of an error and its message; (None, "") for one that is a bug of ours."""
    if isinstance(error, JobFileError):
        return 2, str(error)
    from ..filters.rule_language import ExpressionError
    from ..schemas.contracts import AssetError
    from .cleaning import NotCleanableError
    from .inspection import NotReadableError
    from .training import NotTrainableError
    from .trying import NeedsCorpusError
    from .why import NoAnswerError

    known = (
        AssetError,
        ExpressionError,
        NotCleanableError,
        NotReadableError,
        NotTrainableError,
        NeedsCorpusError,
        NoAnswerError,
    )
    if isinstance(error, known):
        return 2, str(error)
    if isinstance(error, OSError) and (error.filename is not None or error.strerror):
        from ..pipeline.disk import DiskFull, is_full

        why = error.strerror or str(error)
        told = why if error.filename is None else f"{error.filename}: {why}"
        return 2, str(DiskFull(told)) if is_full(error) else told
    return _explain_run(error)


def is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C lies behind an error, as where a compiled module was interrupted while it was loaded."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _explain_run(error: Exception) -> tuple[int | None, str]:
    from ..pipeline.accounts import AccountsError
    from ..pipeline.disk import DiskFull
    from ..pipeline.ingest import JobRefused
    from ..pipeline.selection import SelectionError
    from ..pipeline.sources.files import SourceError
    from ..pipeline.stage import EngineError, TaskFailed
    from ..scorers.registry import PluginError

    if isinstance(error, JobRefused | EngineError | PluginError | SourceError | DiskFull | SelectionError):
        return 2, str(error)
    if isinstance(error, AccountsError):
        return 3, f"the accounts do not add up: {error}. Nothing was published; please report this"
    if isinstance(error, TaskFailed):
        return 4, f"stage {error.stage}: {tell_failed(error.failures)}"
    return None, ""


def tell_failed(failures: Mapping[int, str]) -> str:
    """The parts that were given up, by name, and what to do about them."""
    parts = "\n".join(f"  part {part}: {reason}" for part, reason in sorted(failures.items()))
    count = counted(len(failures), "part")
    return (
        f"{count} could not be processed\n{parts}\n"
        "run again to try once more; run.max_failed_parts says how many may be missing"
    )
