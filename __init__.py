"""thresher: large-scale curation and filtering of pretraining data.

`load` reads a job and `run` runs it; both do what the command line does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .jobs.loading import load
    from .jobs.running import run

__version__ = "0.1.0"
__all__ = ["__version__", "load", "run"]


def __getattr__(name: str) -> Any:
    # Importing thresher stays cheap: what it offers is imported when it is first asked for.
    if name == "load":
        from .jobs.loading import load

        return load
    if name == "run":
        from .jobs.running import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
