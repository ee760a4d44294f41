"""What a step names must exist and suit it: rule sets, parameters, expressions, files, plug-ins."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Final

from ..schemas.step import Step
from .outline import URL, Outline
from .problems import Path, Problem, unknown

if TYPE_CHECKING:
    from ..schemas.contracts import Refiner, Scorer, Selector
    from ..schemas.decontamination import Decontaminate
    from ..schemas.dedup import Dedup
    from ..schemas.rules import Parameter, RuleSet
    from ..schemas.selection import Mix

_ON_GPU: Final = ("score", "edit")
_WITH_MODEL: Final = (*_ON_GPU, "language")


def check_step(step: Step, path: Path, outline: Outline, allow_code: bool) -> Iterator[Problem]:
    """What is wrong with one step by itself."""
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
    elif step.kind == "dedup":
        yield from _check_dedup(options, path)
    elif step.kind == "decontaminate":
        yield from _check_decontaminate(options, path)
    elif step.kind == "edit":
        yield from _check_refiner(step, path, outline, allow_code)
    elif step.kind == "download" and options.with_ == "img2dataset":
        yield from _check_img2dataset(path)
    elif step.kind == "balance":
        yield from _check_asset(options.entries, (*path, "entries"), outline)
    elif step.kind == "cluster" and options.centroids:
        yield from _check_asset(options.centroids, (*path, "centroids"), outline)
    elif step.kind == "retrieve":
        yield from _check_asset(options.around, (*path, "around"), outline)
        if options.where:
            yield from _check_rule(options.where, (*path, "where"))
    elif step.kind == "select" and options.with_ is not None:
        built = build_selector(step, outline, allow_code)
        if isinstance(built, Exception):
            yield Problem((*path, "with"), str(built))
    elif step.kind == "mix":
        yield from _check_mix(options, path, outline)
    if step.kind in ("select", "mix") and options.tokenizer:
        yield from _check_asset(options.tokenizer, (*path, "tokenizer"), outline)


def check_placement(step: Step, path: Path, engine: str | None) -> Iterator[Problem]:
    """What is wrong with the resources of a step on this engine; None: on one that is not known.

    Cores and memory are what Ray sets aside for a task; the other engines have `run.workers` tasks at a time,
    whatever those say, so that a job need not change with its engine.
    """
    needs = step.resources
    if needs is None:
        return
    place = (*path, "resources")
    for key, given, kinds in (("gpus", needs.gpus > 0, _ON_GPU), ("actors", needs.actors, _WITH_MODEL)):
        if given and step.kind not in kinds:
            yield Problem((*place, key), f"{step.kind} holds no model; {key} go with {', '.join(kinds)}")
            return
    if not needs.gpus:
        return
    if engine == "ray" and needs.gpus > 1 and needs.gpus != int(needs.gpus):
        yield Problem((*place, "gpus"), f"Ray gives out whole GPUs, or a share of one, not {needs.gpus:g}")
    elif engine == "beam":
        told = "engine beam gives no GPUs to a step; write on: ray, or on: local for those of this machine"
        yield Problem((*place, "gpus"), told)
    elif engine == "local" and needs.actors is None:
        told = "engine local does not divide GPUs among its processes; say how many of them hold the model"
        yield Problem((*place, "gpus"), f"{told}, as in actors: [1, 1]")


def _check_mix(options: Mix, path: Path, outline: Outline) -> Iterator[Problem]:
    """Weights that cannot be read, and those of inputs that the job does not have."""
    from ..pipeline.mixture_weights import read_weights
    from ..schemas.contracts import AssetError

    shares: Mapping[str, Any] = options.caps or {}
    place: Path = (*path, "caps" if options.caps else "weights")
    if isinstance(options.weights, str):
        try:
            shares = read_weights(options.weights, outline.directory)
        except AssetError as error:
            yield Problem(place, str(error))
    elif options.weights is not None:
        shares = options.weights
    if options.columns[0] == "input":
        for problem in _check_inputs(shares, place, outline):
            yield replace(problem, path=place) if isinstance(options.weights, str) else problem


def _check_dedup(options: Dedup, path: Path) -> Iterator[Problem]:
    from ..pipeline.against import check_against

    if message := check_against(options):
        yield Problem((*path, options.method, "against"), message)


def _check_decontaminate(options: Decontaminate, path: Path) -> Iterator[Problem]:
    from ..pipeline.decontamination import check_decontaminate

    if message := check_decontaminate(options):
        yield Problem((*path, "against"), message)


def _check_rule_set(name: str, given: dict[str, Any], path: Path) -> Iterator[Problem]:
    from ..filters.rule_sets import RULE_SETS

    if name not in RULE_SETS:
        yield Problem(path, *unknown("rule set", name, RULE_SETS))
        return
    yield from _check_parameters(RULE_SETS[name], given, (*path, name))


def _check_parameters(rule_set: RuleSet, given: dict[str, Any], path: Path) -> Iterator[Problem]:
    from ..filters.expressions import parse
    from ..filters.signal_options import OPTIONS, problem_of
    from ..filters.signals import options_of

    parameters = rule_set.parameters
    read = {name for rule in rule_set.rules for name in parse(rule.expression, parameters).columns}
    options = sorted(options_of(read))
    for key, value in given.items():
        if key in options:
            if problem := problem_of(key, value):
                yield Problem((*path, key), problem)
        elif key in OPTIONS:
            yield Problem(
                (*path, key), f"no signal of these rules depends on {key}; some do on {', '.join(options)}"
            )
        elif key not in parameters:
            yield Problem((*path, key), *unknown("parameter", key, [*parameters, *options]))
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


def _check_img2dataset(path: Path) -> Iterator[Problem]:
    from ..pipeline.download.by_img2dataset import PYTHON

    if not os.environ.get(PYTHON) and importlib.util.find_spec("img2dataset") is None:
        told = f"img2dataset is not installed: pip install it, or let {PYTHON} name a Python that has it"
        yield Problem((*path, "with"), told)


def _check_asset(name: str, path: Path, outline: Outline, obtain: str = "") -> Iterator[Problem]:
    from ..schemas.contracts import AssetError
    from ..scorers.assets import LocalAssets

    try:
        LocalAssets([FilePath(outline.directory)], obtain).locate(name)
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


def _check_inputs(shares: Mapping[str, Any], path: Path, outline: Outline) -> Iterator[Problem]:
    names = [source.name for source in outline.inputs if source]
    for name in shares if outline.whole else ():
        if name not in names:
            yield Problem((*path, name), *unknown("input", name, names))


def _check_scorer(step: Step, path: Path, outline: Outline, allow_code: bool) -> Iterator[Problem]:
    built = build_scorer(step, outline, allow_code)
    yield from _check_plugin(built, step.options.arguments, (*path, step.options.scorer), outline)


def _check_refiner(step: Step, path: Path, outline: Outline, allow_code: bool) -> Iterator[Problem]:
    from ..scorers import registry

    options = step.options
    try:
        built: Refiner | Exception = registry.build(
            registry.REFINER,
            options.refiner,
            options.arguments,
            directory=FilePath(outline.directory),
            allow_code=allow_code,
        )
    except registry.PluginError as error:
        built = error
    yield from _check_plugin(built, options.arguments, (*path, options.refiner), outline)


def _check_plugin(
    built: Scorer | Refiner | Exception, arguments: Mapping[str, Any], path: Path, outline: Outline
) -> Iterator[Problem]:
    if isinstance(built, Exception):
        yield Problem(path, str(built))
        return
    for asset in built.assets:
        named = [key for key, value in arguments.items() if value == asset]
        yield from _check_asset(asset, (*path, *named[:1]), outline, built.obtain)


def build_scorer(step: Step, outline: Outline, allow_code: bool) -> Scorer | Exception:
    """The scorer of a step, without its model, or why there is none."""
    from ..scorers import registry

    options, directory = step.options, FilePath(outline.directory)
    try:
        return registry.build(
            registry.SCORER, options.scorer, options.arguments, directory=directory, allow_code=allow_code
        )
    except registry.PluginError as error:
        return error


def build_selector(step: Step, outline: Outline, allow_code: bool) -> Selector | Exception:
    """The selector that a step names with `with`, or why there is none."""
    from ..pipeline.selectors.plugged import PluggedSelector
    from ..scorers import registry

    options, directory = step.options, str(outline.directory)
    try:
        return PluggedSelector(step.name, options.with_, options.arguments, directory, allow_code)
    except registry.PluginError as error:
        return error
