"""Loads a job from a file or a mapping, with everything that is wrong with it told at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from . import problems as told
from .problems import JobFileError, Problem, nearest

if TYPE_CHECKING:
    from ..schemas.job import Job
    from .yaml_source import Document


def load(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    allow_code: bool = False,
    check: bool = True,
) -> Job:
    """The job of a YAML file (by its path), or of a mapping of plain values.

    `overrides` are `key=value` with dotted keys, as `--set` takes them; the value is YAML. Relative paths
    are resolved against the job file's folder, or the current one for a mapping and for overrides; so the
    job that is returned means the same anywhere. `check` also looks for what the job names: files, rule
    sets, columns; `allow_code` lets it name `module:Class` plug-ins.
    Raises JobFileError, with all problems.
    """
    label, base, document = _read(source)
    if document.value is None and document.problems:
        raise JobFileError(document.problems, label)

    from . import checking, overriding, validation

    overridden = overriding.apply(document, overrides)
    if isinstance(document.value, dict):
        _resolve_paths(document.value, base, overridden)
    job, outline, found = validation.validate(document.value)
    if check:
        found += checking.check_outline(outline, allow_code)
    problems = document.problems + [_place(problem, document, overridden) for problem in found]
    if problems or job is None:
        unique = list(dict.fromkeys(problems))
        unique.sort(key=lambda problem: (problem.override != "", problem.line or 0))
        raise JobFileError(unique, label)
    return job


def dump(job: Job) -> str:
    """The resolved job as YAML, every default written out; loading it gives an equal job."""
    from ..schemas.plain_yaml import write_yaml

    return write_yaml(job.resolved())


def _read(source: str | Path | Mapping[str, Any]) -> tuple[str, str, Document]:
    from .yaml_source import MOST_BYTES, Document, read_yaml

    if isinstance(source, Mapping):
        document = Document()
        document.value = _plain(source, (), document.problems)
        return "job", os.getcwd(), document
    path, label = Path(source), str(source)
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise JobFileError([Problem((), _unreadable(path, error))], label) from None
    document = read_yaml(text)
    if document.value is None and not document.problems:
        document.problems.append(Problem((), "the job file is empty"))
    return label, os.path.dirname(os.path.abspath(path)), document


def _unreadable(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError) and path.parent.is_dir():
        close = nearest(path.name, (entry.name for entry in path.parent.iterdir()))
        return f'no such file; did you mean "{close}"?' if close else "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a folder; name the job file in it"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _plain(value: Any, path: told.Path, problems: list[Problem]) -> Any:
    """A copy made of dict, list, str, int, float, bool and None; problems for what is none of these."""
    if len(path) > 50:
        problems.append(Problem(path[:3], "nested too deeply, or contains itself"))
    elif isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or not _is_unicode(key):
                problems.append(Problem(path, f"the key {key!r} is not text"))
        items = ((key, item) for key, item in value.items() if isinstance(key, str) and _is_unicode(key))
        return {key: _plain(item, (*path, key), problems) for key, item in items}
    elif isinstance(value, list | tuple):
        return [_plain(item, (*path, index), problems) for index, item in enumerate(value)]
    elif isinstance(value, Path):
        return str(value)
    elif isinstance(value, str) and not _is_unicode(value):
        problems.append(Problem(path, "holds a lone surrogate, which is no character"))
    elif isinstance(value, float) and not -float("inf") < value < float("inf"):
        problems.append(Problem(path, f"{value} is not a finite number"))
    elif value is None or type(value) in (str, int, float, bool):
        return value
    else:
        problems.append(Problem(path, f"a job holds plain values, not {type(value).__name__}"))
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _resolve_paths(value: dict[str, Any], base: str, overridden: Mapping[told.Path, str]) -> None:
    """Makes the job's own paths absolute and notes the folder; values of any shape are left as they are."""
    from .outline import URL

    run = value.setdefault("run", {})
    if isinstance(run, dict):
        given = run.get("directory")
        if isinstance(given, str):
            base = os.path.join(base, os.path.expanduser(given))
        if given is None or isinstance(given, str):
            run["directory"] = base = os.path.normpath(base) if "\0" not in base else base

    def resolve(owner: Any, key: str | int, path: told.Path, *, only_existing: bool = False) -> None:
        name = owner.get(key) if isinstance(owner, dict) else None
        if isinstance(name, list):
            items = dict(enumerate(name))
            for number in items:
                resolve(items, number, (*path, number), only_existing=only_existing)
            owner[key] = list(items.values())
        if not isinstance(name, str) or not name or "\0" in name or URL.match(name):
            return
        start = os.getcwd() if overriding_of(path, overridden) else base
        absolute = os.path.normpath(os.path.join(start, os.path.expanduser(name)))
        if not only_existing or os.path.exists(absolute):
            owner[key] = absolute

    inputs = value.get("input")
    if isinstance(inputs, str | dict):
        inputs = [inputs]
    if isinstance(inputs, list):
        value["input"] = inputs = [{"path": item} if isinstance(item, str) else item for item in inputs]
        for index, item in enumerate(inputs):
            resolve(item, "path", ("input", index, "path"))
    resolve(value.get("output"), "path", ("output", "path"))
    resolve(value.get("output"), "tokenizer", ("output", "tokenizer"), only_existing=True)
    resolve(run, "work", ("run", "work"))
    for place, step in _steps(value):
        if not isinstance(step, dict):
            continue
        for keys in _FOLDERS:
            resolve(_inner(step, keys[:-1]), keys[-1], (*place, *keys))
        for keys in _ASSETS:
            resolve(_inner(step, keys[:-1]), keys[-1], (*place, *keys), only_existing=True)


# Where steps name files of the user's; a model that is not beside the job may be among the kept assets.
_FOLDERS: Final = (
    ("url", "lists"),
    ("decontaminate", "against"),
    ("dedup", "exact", "against"),
    ("dedup", "minhash", "against"),
    ("dedup", "perceptual", "against"),
)
_ASSETS: Final = (
    ("language", "model"),
    ("score", "fasttext", "model"),
    ("select", "tokenizer"),
    ("mix", "tokenizer"),
    ("balance", "entries"),
)


def _steps(value: dict[str, Any]) -> Iterator[tuple[told.Path, Any]]:
    inputs = value.get("input")
    items = enumerate(inputs if isinstance(inputs, list) else [])
    owners: list[tuple[told.Path, Any]] = [((), value), *((("input", n), item) for n, item in items)]
    for place, owner in owners:
        steps = owner.get("steps") if isinstance(owner, dict) else None
        for index, step in enumerate(steps if isinstance(steps, list) else []):
            yield (*place, "steps", index), step


def _inner(step: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        step = step.get(key) if isinstance(step, dict) else None
    return step


def overriding_of(path: told.Path, overridden: Mapping[told.Path, str]) -> str:
    """The `--set` option that gave the value at `path`, or ""."""
    for length in range(len(path), 0, -1):
        if path[:length] in overridden:
            return overridden[path[:length]]
    return ""


def _place(problem: Problem, document: Document, overridden: Mapping[told.Path, str]) -> Problem:
    override = overriding_of(problem.path, overridden)
    line = None
    if not override:
        lengths = range(len(problem.path), -1, -1)
        line = next(
            (document.lines[problem.path[:n]] for n in lengths if problem.path[:n] in document.lines), None
        )
    return Problem(problem.path, problem.message, problem.suggestion, line, override)
