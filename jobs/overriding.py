"""`--set key=value`: any value of the job from the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .problems import Path, Problem
from .yaml_source import Document, read_yaml

_INDEX = re.compile(r"\[([0-9]+)\]")


def apply(document: Document, overrides: Sequence[str]) -> dict[Path, str]:
    """Sets the values in `document.value`; returns the option behind each path that was set.

    Keys are dotted, list items are numbers from 0 (`steps.3.select.top` or `steps[3].select.top`); a number
    one past the end appends. Mappings and lists that a key passes through are made, and an input that is
    written as a name alone is written out. Errors go to `document.problems`.
    """
    overridden: dict[Path, str] = {}
    made: dict[Path, str] = {}
    for override in overrides:
        option = f"--set {override if len(override) <= 100 else override[:97] + '...'}"
        key, equals, text = override.partition("=")
        parts = _INDEX.sub(r".\1", key.strip()).removeprefix(".").split(".")
        if not equals or not all(parts):
            document.problems.append(Problem((), "write key=value, as in run.workers=4", override=option))
            continue
        value = read_yaml(text)
        if value.problems:
            told = value.problems[0].message
            document.problems.append(Problem(tuple(parts), told, override=option))
            continue
        if document.value is None:
            document.value = {}
        path = _set(document, parts, value.value, option, made)
        if path is not None:
            for known in [known for known in document.lines if known[: len(path)] == path]:
                del document.lines[known]
            overridden = {known: by for known, by in overridden.items() if known[: len(path)] != path}
            overridden[path] = option
    return made | overridden


def _set(document: Document, parts: list[str], value: Any, option: str, made: dict[Path, str]) -> Path | None:
    """The path that was set; None, with a problem noted, where there is no such place.

    `made` takes the paths of the mappings and lists that had to be made on the way.
    """
    owner: Any = document.value
    path: Path = ()
    while True:
        if isinstance(owner, dict):
            key, parts = _key_of(owner, parts)
            path = (*path, key)
            if not parts:
                owner[key] = value
                return path
            if path == ("input",) and not _is_index(parts[0]):
                parts = ["0", *parts]
            if owner.get(key) is None:
                owner[key] = _empty(parts)
                made[path] = option
            elif path == ("input",) and isinstance(owner[key], str | dict):
                owner[key] = [owner[key]]
            owner = owner[key]
        elif isinstance(owner, list):
            index, parts = parts[0], parts[1:]
            if not (_is_index(index) and int(index) <= len(owner)):
                told = f"there is no item {index}; it has {len(owner)}, counted from 0"
                document.problems.append(Problem(path, told, override=option))
                return None
            path = (*path, int(index))
            if int(index) == len(owner):
                owner.append(_empty(parts) if parts else value)
            elif not parts:
                owner[int(index)] = value
            if not parts:
                return path
            if path[0] == "input" and isinstance(owner[int(index)], str):
                owner[int(index)] = {"path": owner[int(index)]}
            owner = owner[int(index)]
        else:
            told = f'is "{owner}", which has no {parts[0]}; set the whole of it'
            document.problems.append(Problem(path, told, override=option))
            return None


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 10


def _empty(parts: list[str]) -> dict[str, Any] | list[Any]:
    """What can hold the first of `parts`."""
    return [] if _is_index(parts[0]) else {}


def _key_of(owner: dict[str, Any], parts: list[str]) -> tuple[str, list[str]]:
    """The next key and the parts after it; the name of a plug-in may itself hold dots."""
    for length in range(len(parts), 1, -1):
        if (joined := ".".join(parts[:length])) in owner:
            return joined, parts[length:]
    return parts[0], parts[1:]
