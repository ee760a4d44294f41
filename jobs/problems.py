"""What is wrong with a job, told so that a person can mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One error of a job: where it stands and what to write instead.

    `path` leads to the value, as in ("steps", 3, "select", "top"). `line` counts from 1 and is None where
    the value comes from no file; `override` is the `--set` option that brought it, or "".
    """

    path: Path
    message: str
    suggestion: str = ""
    line: int | None = None
    override: str = ""

    @property
    def place(self) -> str:
        """The path as a person writes it: `steps[3].select.top`."""
        parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path]
        return "".join(parts).removeprefix(".")

    def told(self, label: str) -> str:
        """One line: the file and line or the option, the path, the message, the nearest valid name."""
        where = self.override or (label if self.line is None else f"{label}:{self.line}")
        hint = f'; did you mean "{self.suggestion}"?' if self.suggestion else ""
        return ": ".join(part for part in (where, self.place, self.message) if part) + hint


class JobFileError(Exception):
    """The job is refused; `problems` holds everything that is wrong with it, in the order of its lines."""

    def __init__(self, problems: Sequence[Problem], label: str = "job") -> None:
        self.problems = list(problems)
        self.label = label
        super().__init__("\n".join(problem.told(label) for problem in self.problems))


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that looks most like `word`, or ""."""
    close = difflib.get_close_matches(word[:100], list(known), n=1, cutoff=0.6)
    return close[0] if close else ""


def unknown(what: str, word: str, known: Iterable[str]) -> tuple[str, str]:
    """Message and suggestion for a word that is not among the known ones."""
    choices = list(known)
    suggestion = nearest(word, choices)
    listed = "" if suggestion or not 0 < len(choices) <= 16 else f"; known: {', '.join(choices)}"
    return f'unknown {what} "{word}"{listed}', suggestion
