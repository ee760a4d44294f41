"""Where records come from: files, cut into splits, read into batches."""

from .containers import ContainerCounts
from .files import SourceError, SourceFile, expand, guess_format
from .reader import read
from .split import Split, plan_splits

__all__ = [
    "ContainerCounts",
    "SourceError",
    "SourceFile",
    "Split",
    "expand",
    "guess_format",
    "plan_splits",
    "read",
]
