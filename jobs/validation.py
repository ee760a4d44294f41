"""The errors of the job model, told as problems of the job file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from ..schemas.job import NO_NULL, Input, Job, Output, Run
from ..schemas.quantities import shown
from ..schemas.step import NAME_PATTERN, RESERVED, Step
from ..schemas.steps import STEPS, AnyStep
from ..schemas.verbs import COLUMN_PATTERN, LANGUAGE_PATTERN
from .outline import Outline
from .problems import Path, Problem, nearest, unknown

_PATTERNS: Final = {
    NAME_PATTERN: "is not a name: letters, digits and . _ : - only, at most 80",
    COLUMN_PATTERN: "is not a column name: letters, digits and _ only, at most 80",
    NO_NULL: "holds a null character, which no path does",
    LANGUAGE_PATTERN: "is not a language code; write en for lid.176 or eng_Latn for GlotLID",
}
# Error types of pydantic (docs.pydantic.dev, "Validation errors"); {value}: as written, {ctx}: the bound.
_TOLD: Final = {
    "int_type": "{value} is not a whole number",
    "int_from_float": "{value} is not a whole number",
    "int_parsing": "{value} is not a whole number",
    "int_parsing_size": "{value} is too large",
    "float_type": "{value} is not a number",
    "finite_number": "{value} is not a finite number",
    "bool_type": "{value} is neither true nor false",
    "string_type": "{value} is not text",
    "string_too_short": "is empty",
    "string_too_long": "is longer than {ctx} characters",
    "dict_type": "{value} is not a mapping of keys to values",
    "model_type": "{value} is not a mapping of keys to values",
    "model_attributes_type": "{value} is not a mapping of keys to values",
    "greater_than": "{value} must be more than {ctx}",
    "greater_than_equal": "{value} must be at least {ctx}",
    "less_than": "{value} must be less than {ctx}",
    "less_than_equal": "{value} must be at most {ctx}",
    "too_short": "has too few items: at least {ctx}",
    "too_long": "has too many items: at most {ctx}",
}
_BOUNDS: Final = ("gt", "ge", "lt", "le", "min_length", "max_length")


def validate(value: Any) -> tuple[Job | None, Outline, list[Problem]]:
    """The job that plain values describe, or None and all that is wrong with them.

    The outline holds the parts that are right by themselves, so that they can be checked further.
    """
    if not isinstance(value, dict):
        told = "the job is empty" if value is None else "a job is a mapping: name, input, steps, output"
        return None, Outline(), [Problem((), told)]
    try:
        job = Job.model_validate(value)
    except ValidationError as error:
        problems = [problem for details in error.errors(include_url=False) for problem in _problems(details)]
        return None, _outline(value), problems
    return job, Outline.of(job), []


def validate_step(value: Any) -> tuple[Step | None, list[Problem]]:
    """One step on its own, as `try` is given it; its problems' paths start at the verb."""
    try:
        step: Step = TypeAdapter(AnyStep).validate_python(value)
        return step.model_copy(update={"name": step.name or step.default_name}), []
    except ValidationError as error:
        return None, [
            Problem(problem.path[2:], problem.message, problem.suggestion)
            for details in error.errors(include_url=False)
            for problem in _problems({**details, "loc": ("steps", 0, *details["loc"])})
        ]


def _outline(value: dict[str, Any]) -> Outline:
    inputs, steps = value.get("input"), value.get("steps")
    inputs = inputs if isinstance(inputs, list) else [inputs]
    items = [{"path": item} if isinstance(item, str) else item for item in inputs]
    return Outline(
        [_valid(Input, item) for item in items],
        [_valid(AnyStep, item) for item in steps] if isinstance(steps, list) else [],
        _valid(Output, value.get("output")),
        _valid(Run, value.get("run", {})),
        "image-text" if value.get("modality") == "image-text" else "text",
    )


def _valid(kind: Any, value: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _problems(details: ErrorDetails) -> Iterator[Problem]:
    path, verb = _path(details["loc"])
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "union_tag_not_found":
        yield _verb_problem(path, value)
    elif kind == "extra_forbidden":
        yield Problem(path, *unknown("key", str(path[-1]), _known_keys(path, verb)))
    elif kind == "missing":
        yield Problem(path[:-1], f'"{path[-1]}" is missing')
    elif kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        told = f"{shown(value)} is not one of {', '.join(choices)}"
        yield Problem(path, told, nearest(str(value), choices))
    elif kind == "string_pattern_mismatch":
        told = _PATTERNS.get(str(context.get("pattern")), "is not possible")
        yield Problem(path, f"{shown(value)} {told}")
    elif kind == "list_type":
        hint = f"; write [{value}]" if isinstance(value, str | int) else ""
        hint = "; steps are its items, counted from 0" if path == ("steps",) else hint
        yield Problem(path, f"{shown(value)} is not a list{hint}")
    elif kind in _TOLD:
        bounds = [context[key] for key in _BOUNDS if key in context]
        bound = bounds[0] if bounds else ""
        yield Problem(path, _TOLD[kind].replace("{ctx}", str(bound)).replace("{value}", shown(value)))
    else:
        yield Problem(path, details["msg"])


def _path(loc: tuple[int | str, ...]) -> tuple[Path, str]:
    """The path in the file, without what pydantic adds to it, and the verb of the step that it leads to."""
    verb = ""
    if len(loc) > 2 and loc[0] == "steps" and loc[2] in STEPS:
        verb, loc = str(loc[2]), loc[:2] + loc[3:]
    return tuple(part for part in loc if part != "[key]"), verb


def _verb_problem(path: Path, value: Any) -> Problem:
    example = "as in extract: resiliparse"
    if not isinstance(value, dict):
        return Problem(path, f"{shown(value)} is not a step; a step is one verb with its options, {example}")
    verbs = [key for key in value if key in STEPS]
    if len(verbs) > 1:
        return Problem(path, f"{' and '.join(verbs)} in one step; make each a step of its own")
    others = [str(key) for key in value if key not in RESERVED]
    if not others:
        return Problem(path, f"no verb; write one of {', '.join(STEPS)}, {example}")
    return Problem((*path, others[0]), *unknown("verb", others[0], STEPS))


def _known_keys(path: Path, verb: str) -> list[str]:
    """The keys that may stand where `path` ends."""
    owner: type[BaseModel] = STEPS[verb] if verb else Job
    for part in path[2:-1] if verb else path[:-1]:
        if isinstance(part, str):
            field = {info.alias or name: info for name, info in owner.model_fields.items()}.get(part)
            inner = _models(field.annotation) if field else []
            if not inner:
                return []
            owner = inner[0]
    return [info.alias or name for name, info in owner.model_fields.items()]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]
