"""The recipes that come with thresher: job files of published pipelines, each with its paper."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_FOLDER: Final = Path(__file__).with_name("recipes")
_PAPER: Final = "# Paper: "


class UnknownRecipeError(Exception):
    """There is no recipe of that name; the message names the nearest."""


@dataclass(frozen=True)
class Recipe:
    """One job file: its first line says what it makes, a line below it which paper that is from."""

    name: str
    what: str
    paper: str
    text: str


def names() -> list[str]:
    """The recipes' names, by the alphabet."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def read(name: str) -> Recipe:
    """One recipe. Raises UnknownRecipeError."""
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise UnknownRecipeError(f'unknown recipe "{name}"{meant}; there are {", ".join(known)}')
    text = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    first, *rest = text.splitlines()
    paper = next(line for line in rest if line.startswith(_PAPER)).removeprefix(_PAPER)
    return Recipe(name, first.removeprefix("# "), paper, text)


def listed() -> list[dict[str, str]]:
    """Name, what and paper of each recipe."""
    return [{"name": one.name, "what": one.what, "paper": one.paper} for one in map(read, names())]


def told(rows: Sequence[dict[str, Any]]) -> str:
    """The list as a person reads it."""
    width = max(len(row["name"]) for row in rows) + 2
    lines = []
    for row in rows:
        lines += [f"{row['name']:{width}}{row['what']}", f"{'':{width}}{row['paper']}"]
    return "\n".join([*lines, "", "thresher recipes NAME > job.yaml"])
