"""What a job says that is well-formed and still wrong: names, columns and files that do not exist."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator, Sequence
from typing import Final

from ..schemas.engines import Beam, Ray
from ..schemas.job import Input, Job, Output
from .checking_columns import check_columns
from .checking_modality import PAGE_FORMATS, check_modality, format_of
from .checking_steps import check_placement, check_step
from .doctor import is_usable
from .outline import URL, Outline
from .problems import Path, Problem

_TEXT_VERBS: Final = ("language", "filter", "score", "edit", "dedup", "decontaminate")


def check(job: Job, allow_code: bool = False) -> list[Problem]:
    """Everything that is wrong with a well-formed job, without line numbers.

    Looks at the file system: inputs must match something, models and lists must exist.
    `allow_code` says whether `module:Class` plug-ins may be imported.
    """
    return check_outline(Outline.of(job), allow_code)


def check_outline(outline: Outline, allow_code: bool = False) -> list[Problem]:
    """As `check`, for the parts of a job that could be read."""
    problems = [*_check_inputs(outline), *_check_places(outline)]
    problems += [*_check_engines(outline), *check_modality(outline)]
    problems += _check_extraction(outline) if outline.modality == "text" else []
    for path, step in outline.all_steps:
        if step is not None:
            problems += check_step(step, (*path, step.kind), outline, allow_code)
            problems += check_placement(step, path, step.on or (outline.run.engine if outline.run else None))
    return list(dict.fromkeys([*problems, *check_columns(outline, allow_code)]))


def _check_inputs(outline: Outline) -> Iterator[Problem]:
    from ..pipeline.sources.files import SourceError, guess_format
    from ..pipeline.sources.inputs import files_of

    for index, source in enumerate(outline.inputs):
        if source is None:
            continue
        path: Path = ("input", index, "path")
        try:
            described = source.model_dump(mode="json", exclude={"steps"})
            # A list may name thousands of files; the run looks each of them up.
            files = files_of({**described, "first": 1} if described["first"] is None else described)
            if source.format in (None, "paths"):
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
    """Output and work are folders, or lie in a store that can be written to."""
    from ..pipeline.storage import why_not_writable
    from ..schemas.contracts import AssetError
    from ..scorers.assets import LocalAssets

    output, run = outline.output, outline.run
    if output is not None and URL.match(output.path):
        reason = why_not_writable(output.path)
        if reason is not None:
            yield Problem(("output", "path"), reason)
        shard = f"{output.path.rstrip('/')}/shard-00000.{output.format}"
        for index, source in enumerate(outline.inputs):
            if source is not None and (
                fnmatch.fnmatch(shard, source.path) or source.path.startswith(shard.rpartition("/")[0] + "/")
            ):
                yield Problem(
                    ("input", index, "path"), f"names files of the output {output.path}, which a run replaces"
                )
    if output is not None and output.tokenizer:
        try:
            LocalAssets([run.directory if run and run.directory else "."]).locate(output.tokenizer)
        except AssetError as error:
            yield Problem(("output", "tokenizer"), str(error))
    if run is not None and URL.match(run.work):
        scheme = run.work.partition("://")[0].lower()
        reason = why_not_writable(run.work)
        if reason is None and scheme == "memory":
            reason = f"{run.work} is in the memory of one process, which no worker sees; name a folder"
        if reason is not None:
            yield Problem(("run", "work"), reason)


def _check_engines(outline: Outline) -> Iterator[Problem]:
    """Engines are installed, and what the job says about them goes with those that it uses."""
    run = outline.run
    named: list[tuple[Path, str | None]] = [(("run", "engine"), run.engine if run else None)]
    named += [((*path, "on"), step.on) for path, step in outline.all_steps if step is not None]
    for path, engine in named:
        if engine and not is_usable(engine):
            told = f"engine {engine} is not installed: pip install 'thresher[{engine}]'"
            yield Problem(path, told)
    if run is None:
        return
    used = {engine for _, engine in named}
    if outline.whole and "engine" not in run.model_fields_set:
        # With an engine written down, the settings of another are kept for another day (--set run.engine).
        for key, given in (("ray", run.ray != Ray()), ("beam", run.beam != Beam())):
            if given and key not in used:
                told = f"nothing runs on {key}: write engine: {key} beside it, or on: {key} at a step"
                yield Problem(("run", key), told)
    if "beam" in used and run.beam.runner == "DataflowRunner" and run.work and not URL.match(run.work):
        told = "no worker of DataflowRunner sees a folder of this machine; set run.work to one in a store"
        yield Problem(("run", "work"), f"{told} (gs://bucket/folder)")


def _payload(source: Input) -> bool | None:
    """Whether the input holds pages; None where neither its format nor its name says so."""
    if "html" in source.columns:
        return True
    kind = format_of(source)
    if kind == "paths":
        name = os.path.basename(source.path)
        return True if "warc" in name else False if "wet" in name else None
    return None if kind is None else kind in PAGE_FORMATS


def _check_extraction(outline: Outline) -> Iterator[Problem]:
    for line in outline.lines:
        payloads = [None if source is None else _payload(source) for source in line.inputs]
        kinds = [step.kind if step else None for _, step in line.steps]
        if True in payloads and "extract" not in kinds and None not in kinds:
            index = line.numbers[payloads.index(True)]
            yield Problem(
                ("input", index), "holds pages, and no step takes text out; add extract: resiliparse"
            )
        if "extract" not in kinds:
            continue
        first = kinds.index("extract")
        path = line.steps[first][0]
        if payloads and not any(payload is not False for payload in payloads):
            yield Problem(path, "nothing to extract: no input is WARC, ARC or HTML, or maps a column html")
        elif path[0] == "steps" and len(outline.lines) > 1:
            yield Problem(
                path, "an input has steps of its own; let each input that holds pages extract in its own"
            )
        for index, (path, step) in enumerate(line.steps):
            kind = step.kind if step else None
            if index < first and True in payloads and kind in _TEXT_VERBS:
                yield Problem(path, f"{kind} reads text, which only exists after extract")
            elif index > first and kind == "extract":
                yield Problem(path, "text is extracted already; a record passes one extract step")
