"""Removes what a run keeps in order to be resumed."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import work


class NotCleanableError(Exception):
    """The folder is not, or not only, the work directory of a run that has ended; nothing was removed."""


def check_cleanable(directory: Path) -> int:
    """Bytes that `clean` would free. Raises NotCleanableError."""
    if not directory.exists():
        raise NotCleanableError(f"nothing to clean: {directory} is not there")
    if not work.is_work(directory):
        raise NotCleanableError(
            f"{directory} does not look like a work directory of thresher; nothing was removed"
        )
    if any(work.is_running(path) for path in (directory, *directory.glob("limit-*"))):
        raise NotCleanableError(f"a run is using {directory}; stop it first")
    return work.size_of(directory)


def clean(directory: Path) -> int:
    """Removes the work directory and nothing else; returns the bytes it held. Raises NotCleanableError."""
    freed = check_cleanable(directory)
    # rmtree does not follow links, so nothing outside the directory is touched.
    shutil.rmtree(directory)
    return freed
