"""The files that a job's steps read: models, tokenizers, word lists."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..schemas.contracts import Refiner, Scorer
    from ..schemas.job import Job
    from ..schemas.step import Step

_KEYS: Final = ("model", "tokenizer")


@dataclass(frozen=True)
class Model:
    """A file or folder that a step reads."""

    name: str  # as the job has it
    step: str
    sha256: str  # "" where it was not found, or is a folder too large to read
    licence: str  # as its card states it


def models(job: Job, allow_code: bool = False) -> Iterator[Model]:
    """The models of a job, each once for a step that reads it, in the order of the steps.

    Plug-ins say themselves what they read; of those that must not be imported without `allow_code`, and of
    other steps, it is what is called `model` or `tokenizer` and each absolute path that exists.
    """
    from ..schemas.contracts import AssetError
    from ..scorers.assets import UNKNOWN_LICENCE, LocalAssets, stated_licence

    assets = LocalAssets([job.run.directory or "."])
    steps = [*(step for source in job.input for step in source.steps), *job.steps]
    named = [(name, step.name, listed) for step in steps for name, listed in _read_by(step, job, allow_code)]
    if job.output.tokenizer:
        named.append((job.output.tokenizer, "output", False))
    for name, step, listed in dict.fromkeys(named):
        digest, licence = "", UNKNOWN_LICENCE
        try:
            if listed:
                licence = stated_licence(assets.locate(name))
            else:
                found = assets.describe(name)
                digest, licence = found.sha256, found.licence
        except AssetError:
            pass
        yield Model(name, step, digest, licence)


def by_stage(stages: list[dict[str, Any]], job: Job, allow_code: bool) -> list[dict[str, Any]]:
    """The stages of a plan, each with the `models` that its steps read."""
    read = [vars(model) for model in models(job, allow_code)]
    found = []
    for stage in stages:
        its = [model for model in read if model["step"] in stage["steps"]]
        found.append({**stage, "models": its} if its else stage)
    return found


def told(model: Mapping[str, str]) -> str:
    """One line for a model of a stage."""
    digest = f"{model['sha256'][:12]}…" if model["sha256"] else "not known"
    return f"{model['name']}, SHA-256 {digest}, licence {model['licence']}"


def _read_by(step: Step, job: Job, allow_code: bool) -> Iterator[tuple[str, bool]]:
    """The names of a step's files, and whether each is too large to read."""
    plugin = _plugin(step, job, allow_code)
    if plugin is None:
        yield from ((name, False) for name in _named(step.model_dump(mode="json")))
    else:
        yield from ((name, name in getattr(plugin, "listed", ())) for name in plugin.assets)


def _plugin(step: Step, job: Job, allow_code: bool) -> Scorer | Refiner | None:
    from ..scorers import registry

    directory = Path(job.run.directory or ".")
    options = step.options
    try:
        if step.kind == "score":
            return registry.build(
                registry.SCORER, options.scorer, options.arguments, directory=directory, allow_code=allow_code
            )
        if step.kind == "edit":
            return registry.build(
                registry.REFINER,
                options.refiner,
                options.arguments,
                directory=directory,
                allow_code=allow_code,
            )
    except registry.PluginError:
        pass
    return None


def _named(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _named(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _named(item, key)
    elif isinstance(value, str) and (key in _KEYS or (os.path.isabs(value) and Path(value).exists())):
        yield value
