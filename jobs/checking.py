"""What a job says that is well-formed and still wrong: names, columns and files that do not exist."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Final

from ..schemas.job import Input, Job, Output, Run
from ..schemas.steps import ScoreStep, Step
from .problems import Path, Problem, unknown

if TYPE_CHECKING:
    import pyarrow as pa

    from ..schemas.contracts import Scorer
    from ..schemas.rules import Parameter, RuleSet

URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# What a record has before any step (schemas/records.py, TEXT without what `language` adds).
RECORD_COLUMNS: Final = ("id", "text", "url", "source", "date", "meta")
# What stages call columns of their own.
RESERVED_COLUMN: Final = re.compile(r"position|bytes|key|keeper|root|payload|content_type|dedup_[0-9]+_.*")
LANGUAGE_COLUMNS: Final = ("lang", "lang_score")
_TEXTS: Final = {*RECORD_COLUMNS, "lang"}
_TEXT_VERBS: Final = ("language", "filter", "score", "dedup")


@dataclass(frozen=True)
class Outline:
    """The parts of a job that are right by themselves; None stands for one that is not."""

    inputs: Sequence[Input | None] = ()
    steps: Sequence[Step | None] = ()
    output: Output | None = None
    run: Run | None = None
    whole: bool = field(default=False)

    @classmethod
    def of(cls, job: Job) -> Outline:
        return cls(job.input, job.steps, job.output, job.run, whole=True)


def check(job: Job, allow_code: bool = False) -> list[Problem]:
    """Everything that is wrong with a well-formed job, without line numbers.

    Looks at the file system: inputs must match something, models and lists must exist.
    `allow_code` says whether `module:Class` plug-ins may be imported.
    """
    return check_outline(Outline.of(job), allow_code)


def check_outline(outline: Outline, allow_code: bool = False) -> list[Problem]:
    """As `check`, for the parts of a job that could be read."""
    problems = [*_check_inputs(outline), *_check_places(outline)]
    problems += [*_check_engines(outline), *_check_extraction(outline)]
    for index, step in enumerate(outline.steps):
        if step is not None:
            path: Path = ("steps", index, step.kind)
            problems += _check_step(step, path, outline, allow_code)
    return problems + list(_check_columns(outline, allow_code))


def _check_inputs(outline: Outline) -> Iterator[Problem]:
    from ..pipeline.sources.files import SourceError, expand, guess_format

    for index, source in enumerate(outline.inputs):
        if source is None:
            continue
        path: Path = ("input", index, "path")
        try:
            files = expand(source.path)
            if source.format is None:
                for file in files:
                    guess_format(file.path)
        except (SourceError, OSError, ValueError) as error:
            yield Problem(path, str(error))
            continue
        if outline.output is not None and not URL.match(source.path):
            yield from _check_overlap(source.path, [file.path for file in files], outline.output, path)


def _check_overlap(pattern: str, files: Sequence[str], output: Output, path: Path) -> Iterator[Problem]:
    if URL.match(output.path):
        return
    folder = os.path.realpath(output.path)
    inside = [file for file in files if os.path.realpath(file).startswith(folder + os.sep)]
    if inside:
        yield Problem(path, f"{inside[0]} lies in the output {output.path}, which a run replaces")
    elif fnmatch.fnmatch(os.path.join(folder, "shard-00000." + output.format), os.path.realpath(pattern)):
        yield Problem(path, f"would match the shards in {output.path}, so that a second run reads the first")


def _check_places(outline: Outline) -> Iterator[Problem]:
    """Output and work are folders of this machine, so far."""
    named: list[tuple[Path, str]] = [(("output", "path"), outline.output.path)] if outline.output else []
    named += [(("run", "work"), outline.run.work)] if outline.run else []
    for path, folder in named:
        beside_output = path[0] == "run" and outline.output and folder.startswith(outline.output.path)
        if URL.match(folder) and not beside_output:
            yield Problem(
                path, f"{folder} is not a local folder; write to one, and copy its files from there"
            )


def _check_engines(outline: Outline) -> Iterator[Problem]:
    named: list[tuple[Path, str | None]] = [(("run", "engine"), outline.run.engine if outline.run else None)]
    named += [(("steps", i, "on"), step.on) for i, step in enumerate(outline.steps) if step is not None]
    for path, engine in named:
        if engine and importlib.util.find_spec(f"..pipeline.engines.{engine}", __package__) is None:
            yield Problem(path, f"this version of thresher has no engine {engine}; write local")


def _payload(source: Input) -> bool | None:
    """Whether the input holds pages; None where neither its format nor its name says so."""
    from ..pipeline.sources.files import SourceError, guess_format

    if "html" in source.columns:
        return True
    try:
        return (source.format or guess_format(source.path)) == "warc"
    except SourceError:
        return None


def _check_extraction(outline: Outline) -> Iterator[Problem]:
    kinds = [step.kind if step else None for step in outline.steps]
    payloads = [None if source is None else _payload(source) for source in outline.inputs]
    if True in payloads and "extract" not in kinds and None not in kinds:
        index = payloads.index(True)
        yield Problem(("input", index), "holds pages, and no step takes text out; add extract: resiliparse")
    if "extract" not in kinds:
        return
    first = kinds.index("extract")
    if payloads and not any(payload is not False for payload in payloads):
        yield Problem(("steps", first), "nothing to extract: no input is WARC or maps a column html")
    for index, kind in enumerate(kinds):
        if index < first and True in payloads and kind in _TEXT_VERBS:
            yield Problem(("steps", index), f"{kind} reads text, which only exists after extract")
        elif index > first and kind == "extract":
            yield Problem(("steps", index), "text is extracted already; a job has one extract step")


def _check_step(step: Step, path: Path, outline: Outline, allow_code: bool) -> Iterator[Problem]:
    options = step.options
    if step.kind == "filter":
        yield from _check_rule_set(options.rule_set, options.root[options.rule_set], path)
    elif step.kind == "rule":
        yield from _check_rule(options, path)
    elif step.kind == "language" and options.model:
        yield from _check_asset(options.model, (*path, "model"), outline)
    elif step.kind == "url" and options.lists:
        yield from _check_lists(options.lists, options.categories, path)
    elif step.kind == "score":
        yield from _check_scorer(step, path, outline, allow_code)


def _check_rule_set(name: str, given: dict[str, Any], path: Path) -> Iterator[Problem]:
    from ..filters.text.rule_sets import RULE_SETS

    if name not in RULE_SETS:
        yield Problem(path, *unknown("rule set", name, RULE_SETS))
        return
    yield from _check_parameters(RULE_SETS[name], given, (*path, name))


def _check_parameters(rule_set: RuleSet, given: dict[str, Any], path: Path) -> Iterator[Problem]:
    parameters = rule_set.parameters
    for key, value in given.items():
        if key == "words":
            if value not in ("whitespace", "unicode"):
                yield Problem((*path, key), f'"{value}" is not one of whitespace, unicode')
        elif key not in parameters:
            yield Problem((*path, key), *unknown("parameter", key, [*parameters, "words"]))
        elif wanted := _wanted(parameters[key], value):
            yield Problem((*path, key), f'"{value}" is not {wanted}; the default is {parameters[key]}')


def _wanted(default: Parameter, value: Any) -> str:
    """What a parameter must be, or "" where `value` is that."""
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        return "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    if isinstance(default, float):
        return "" if isinstance(value, int | float) and not isinstance(value, bool) else "a number"
    if isinstance(default, str):
        return "" if isinstance(value, str) else "text"
    is_list = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    return "" if is_list else "a list of words"


def _check_rule(expression: str, path: Path) -> Iterator[Problem]:
    from ..filters.expressions import ExpressionError, parse

    try:
        if not parse(expression).columns:
            yield Problem(path, "reads no column, so that it holds for all records or for none")
    except ExpressionError as error:
        yield Problem(path, str(error))


def _check_asset(name: str, path: Path, outline: Outline) -> Iterator[Problem]:
    from ..schemas.contracts import AssetError
    from ..scorers.assets import LocalAssets

    try:
        LocalAssets([_directory(outline)]).locate(name)
    except AssetError as error:
        yield Problem(path, str(error))


def _check_lists(lists: str, categories: Sequence[str], path: Path) -> Iterator[Problem]:
    if URL.match(lists):
        yield Problem((*path, "lists"), f"{lists} is not a local folder")
        return
    if not os.path.isdir(lists):
        yield Problem((*path, "lists"), f"no such folder: {lists}")
        return
    there = sorted(entry.name for entry in os.scandir(lists) if entry.is_dir())
    for index, category in enumerate(categories):
        if category not in there:
            yield Problem((*path, "categories", index), *unknown("category", category, there))


def _check_scorer(step: Step, path: Path, outline: Outline, allow_code: bool) -> Iterator[Problem]:
    scorer = step.options.scorer
    if scorer == "fasttext":
        yield from _check_asset(step.options.arguments["model"], (*path, scorer, "model"), outline)
        return
    built = _build(step, outline, allow_code)
    if isinstance(built, Exception):
        yield Problem((*path, scorer), str(built))


def _build(step: Step, outline: Outline, allow_code: bool) -> Scorer | Exception:
    """The scorer of a step, without its model, or why there is none."""
    from ..scorers import registry

    options, directory = step.options, FilePath(_directory(outline))
    try:
        return registry.build(options.scorer, options.arguments, directory=directory, allow_code=allow_code)
    except registry.ScorerError as error:
        return error


def _directory(outline: Outline) -> str:
    return (outline.run.directory if outline.run else "") or "."


def _check_columns(outline: Outline, allow_code: bool) -> Iterator[Problem]:
    """Columns that a step reads must come from the record, the signals, or an earlier step, and suit it."""
    from ..filters.text.signals import SIGNALS
    from ..schemas.records import RAW_TEXT, TEXT

    known = {name: RAW_TEXT.field(name).type for name in RECORD_COLUMNS}
    known |= {name: spec.type for name, spec in SIGNALS.items()}
    complete = True  # False once a step may have added columns that cannot be told
    for index, step in enumerate(outline.steps):
        if step is None:
            complete = False
            continue
        scorer = _build(step, outline, allow_code) if step.kind == "score" else None
        for path, column in _columns_read(step, scorer):
            place: Path = ("steps", index, step.kind, *path)
            if complete and column not in known:
                message, suggestion = unknown("column", column, known)
                yield Problem(place, message + _origin(column), suggestion)
            elif column in _TEXTS and path[-1:] in (("by",), ("keep",)):
                yield Problem(place, f'"{column}" is text; records are ranked by a score or a signal')
        if step.kind == "rule":
            yield from _check_types(step.options, known, ("steps", index, step.kind))
        if step.kind == "language":
            known |= {name: TEXT.field(name).type for name in LANGUAGE_COLUMNS}
        elif scorer is not None:
            made = _columns_made(step, scorer)
            complete = complete and made is not None
            for column in sorted(made or {}):
                if RESERVED_COLUMN.fullmatch(column):
                    yield Problem(("steps", index, "as"), f'"{column}" is a column of our own; name another')
            for column in sorted(known.keys() & (made or {}).keys()):
                yield Problem(("steps", index, "as"), f'there is a column "{column}" already; name another')
            known |= made or {}


def _check_types(expression: str, known: dict[str, pa.DataType], path: Path) -> Iterator[Problem]:
    """A rule whose columns are known must be able to compute with their types."""
    import pyarrow as pa

    from ..filters.expressions import ExpressionError, parse

    try:
        rule = parse(expression)
    except ExpressionError:
        return  # told elsewhere
    if rule.columns <= known.keys():
        try:
            rule.evaluate({name: pa.array([], known[name]) for name in rule.columns})
        except ExpressionError as error:
            yield Problem(path, str(error))


def _origin(column: str) -> str:
    return "; a language step before this one makes it" if column in LANGUAGE_COLUMNS else ""


def _columns_read(step: Step, scorer: Scorer | Exception | None) -> Iterator[tuple[Path, str]]:
    options = step.options
    if scorer is not None and not isinstance(scorer, Exception):
        yield from (((options.scorer,), column) for column in scorer.inputs)
    if step.kind == "rule":
        from ..filters.expressions import ExpressionError, parse

        try:
            yield from (((), column) for column in sorted(parse(options).columns))
        except ExpressionError:
            return  # told elsewhere
    elif step.kind == "select":
        yield ("by",), options.by
        if options.within:
            yield ("within",), options.within
    elif step.kind == "dedup":
        yield (options.method, "on"), options.options.on
        if options.options.keep.column:
            yield (options.method, "keep"), options.options.keep.column


def _columns_made(step: Step, scorer: Scorer | Exception) -> dict[str, pa.DataType] | None:
    """The columns that a score step adds, with their types; None where they cannot be told."""
    assert isinstance(step, ScoreStep)
    if isinstance(scorer, Exception):
        return None
    outputs = scorer.outputs
    if len(outputs) == 1:
        return dict.fromkeys([step.column], *outputs.values())
    return {f"{step.column}_{name}": kind for name, kind in outputs.items()}
