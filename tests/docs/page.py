"""Reads a page of the documentation and does what it tells its reader to do.

A fenced block whose info string has `title="NAME"` is a file. A block marked `console` is typed in: what
follows `$ ` is a command, and the lines up to the next command are what it prints. In those, `…` stands for
anything within a line, and a line of nothing else for any number of lines; a command that shows nothing is
only run. What is printed is standard output, or standard error where the command fails. A command may fail
only where the reader is shown its exit status, with `echo $?` as the next command.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^```(\S*)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class File:
    """A file that the page shows."""

    name: str
    content: str


@dataclass(frozen=True)
class Command:
    """A command that the page tells the reader to type, and the lines that it shows below it."""

    text: str
    shown: list[str] = field(default_factory=list)


def read_page(text: str) -> Iterator[File | Command]:
    """The files and commands of a page, in its order."""
    for language, more, content in _FENCE.findall(text):
        title = _TITLE.search(more)
        if title:
            yield File(title[1], content)
        elif language == "console":
            yield from _commands(content)


def _commands(content: str) -> Iterator[Command]:
    commands: list[Command] = []
    for line in content.splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:]))
        else:
            assert commands, f"a console block begins with {line!r}, which is no command"
            commands[-1].shown.append(line)
    return iter(commands)


def follow(text: str, folder: Path) -> None:
    """Does in `folder` what the page says. Raises AssertionError where it fails or prints otherwise."""
    status = 0
    steps = list(read_page(text))
    for number, step in enumerate(steps):
        if isinstance(step, File):
            (folder / step.name).parent.mkdir(parents=True, exist_ok=True)
            (folder / step.name).write_text(step.content, encoding="utf-8")
            continue
        done = _type(step.text, folder, status)
        status = done.returncode
        following = steps[number + 1] if number + 1 < len(steps) else None
        asked = isinstance(following, Command) and following.text == "echo $?"
        assert status == 0 or asked, f"$ {step.text}\n{done.stdout}{done.stderr}\nexit status {status}"
        printed = done.stdout if status == 0 else done.stderr
        assert matches(printed, step.shown), (
            f"$ {step.text}\nprinted\n{printed}\nbut the page shows\n" + "\n".join(step.shown)
        )


def _type(command: str, folder: Path, status: int) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {name: value for name, value in os.environ.items() if name != "THRESHER_MODELS"}
    return subprocess.run(
        ["bash", "-c", f"(exit {status}); {command}"],
        cwd=folder,
        env=environment | {"PATH": path, "PWD": str(folder), "COLUMNS": "100", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def matches(printed: str, shown: list[str]) -> bool:
    """Whether a command printed what the page shows; always, where it shows nothing."""
    if not any(line.strip() for line in shown):
        return True
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == "…" else _line(line) + "\n" for line in _without_blank_ends(shown)
    )
    text = "".join(f"{line.rstrip()}\n" for line in _without_blank_ends(printed.splitlines()))
    return re.fullmatch(pattern, text) is not None


def _line(shown: str) -> str:
    return ".*".join(re.escape(piece) for piece in shown.rstrip().split("…"))


def _without_blank_ends(lines: list[str]) -> list[str]:
    return "\n".join(lines).strip("\n").split("\n")
