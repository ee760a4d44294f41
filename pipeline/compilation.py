"""What each step of a job becomes: an operator of a pass, or a step over the whole corpus."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from ..filters import expressions
from ..filters.rule_sets import RULE_SETS, split_arguments
from ..filters.signal_options import DEFAULTS, SignalOptions
from ..filters.signals import SIGNALS, parse_variant, variant_name
from ..filters.text.extraction import LIBRARIES
from ..filters.text.language import default_model
from ..schemas import verbs
from ..schemas.dedup import Dedup
from ..schemas.job import Job
from ..schemas.selection import Select
from ..schemas.step import Step
from ..scorers import registry
from ..scorers.assets import LocalAssets, checksum, listing
from .balance import compile_balance
from .cluster import compile_cluster
from .compiled import CorpusStep, MapStep
from .decontamination import compile_decontaminate
from .dedup import compile_dedup
from .frequency import compile_frequency
from .hierarchical_sample import compile_hierarchical_sample
from .images import compile_download, compile_resize
from .neighbours import compile_neighbours
from .retrieval import compile_retrieve
from .selection import SelectStep, compile_bucket, compile_limit, compile_mix, compile_select
from .selectors.plugged import PluggedSelector
from .semantic import compile_semantic
from .stage import OperatorRef
from .steps.refining import Refine
from .steps.scoring import Score
from .steps.text import Extract, Language, Publish, Rules, Sample, Url
from .vocabulary import compile_vocabulary

NO_TYPES: Final[Mapping[str, str]] = {}


def compile_step(
    step: Step, number: int, job: Job, allow_code: bool, types: Mapping[str, str] = NO_TYPES
) -> MapStep | CorpusStep:
    """What step `number` of a job becomes; `types`: Arrow's names of those of the columns that steps before
    it make. Raises AssetError or PluginError where a model is missing."""
    name, options, seed = step.name, step.options, job.run.seed
    directory = Path(job.run.directory or ".")
    match step.kind:
        case "extract":
            library = " ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES[options.with_])
            operator = OperatorRef.of(Extract, step=name, method=options.with_, library=library)
            return MapStep(name, operator, frozenset({"url", "meta"}), ("text", "meta"), edits="text")
        case "language":
            return MapStep(name, _language(name, options), frozenset({"text"}), ("lang", "lang_score"))
        case "url":
            lists = checksum(Path(options.lists)) if options.lists else ""
            arguments = options.model_dump(exclude_none=True)
            operator = OperatorRef.of(Url, step=name, arguments=arguments, checksum=lists)
            return MapStep(name, operator, frozenset({"url"}))
        case "filter":
            rules = RULE_SETS[options.rule_set]
            pairs = [(rule.reason, rule.expression) for rule in rules.rules]
            parameters, signal_options = split_arguments(rules, options.arguments)
            return _rules(step, pairs, parameters, SignalOptions.of(signal_options))
        case "rule":
            return _rules(step, [(step.reason, options)], {}, DEFAULTS)  # type: ignore[attr-defined]
        case "sample":
            return MapStep(name, OperatorRef.of(Sample, step=name, fraction=options, seed=seed))
        case "limit":
            return compile_limit(name, options)
        case "dedup":
            return _dedup(name, f"dedup_{number}_", options, seed)
        case "decontaminate":
            return compile_decontaminate(name, options, step.prefix)  # type: ignore[attr-defined]
        case "signals":
            return _signals(name, options)
        case "edit":
            return _edit(name, options, directory, allow_code)
        case "score":
            return _score(step, options, directory, allow_code)
        case "select":
            if options.with_ is not None:
                return _selected(step, options, directory, allow_code)
            if options.min is not None and options.action == "drop":
                return _rules(step, [("below_min", f"{options.by} >= {options.min!r}")], {}, DEFAULTS)
            return compile_select(step, number, seed, directory, types)  # type: ignore[arg-type]
        case "bucket":
            return compile_bucket(name, step.column, options, step.on_null)  # type: ignore[attr-defined]
        case "mix":
            return compile_mix(step, number, seed, directory)  # type: ignore[arg-type]
        case "download":
            return compile_download(name, options)
        case "resize":
            return compile_resize(name, options)
        case "frequency":
            return compile_frequency(name, step.column, options)  # type: ignore[attr-defined]
        case "balance":
            return compile_balance(name, number, options, seed, directory)
        case "vocabulary":
            return compile_vocabulary(name, number, options)
        case "cluster":
            return compile_cluster(step, number, seed, directory)  # type: ignore[arg-type]
        case "hierarchical_sample":
            return compile_hierarchical_sample(name, number, options, seed, step.on_null)
        case "retrieve":
            return compile_retrieve(step, number, seed, directory)  # type: ignore[arg-type]
    raise ValueError(f"unknown step {step.kind}")


def _dedup(name: str, prefix: str, options: Dedup, seed: int) -> CorpusStep:
    if options.semantic is not None:
        return compile_semantic(name, prefix, options.semantic, seed)
    if options.neighbours is not None:
        return compile_neighbours(name, prefix, options.neighbours, seed)
    return compile_dedup(name, prefix, options)


def _language(name: str, options: verbs.Language) -> OperatorRef:
    model = Path(options.model) if options.model else default_model()
    return OperatorRef.of(
        Language,
        step=name,
        keep=options.keep,
        min_score=options.min_score,
        model=str(model),
        checksum=checksum(model),
        options={} if options.max_chars is None else {"max_chars": options.max_chars},
    )


def _plugin(
    kind: registry.Kind[Any], name: str, arguments: Mapping[str, Any], directory: Path, allow_code: bool
) -> dict[str, Any]:
    """The arguments of an operator that runs a plug-in, its fingerprint among them."""
    plugin = registry.build(kind, name, arguments, directory=directory, allow_code=allow_code)
    assets, listed = LocalAssets([directory]), getattr(plugin, "listed", ())
    files = [
        listing(assets.locate(asset)) if asset in listed else assets.describe(asset).sha256
        for asset in getattr(plugin, "assets", ())
    ]
    return {
        kind.noun: name,
        "arguments": dict(arguments),
        "directory": str(directory),
        "allow_code": allow_code,
        "fingerprint": registry.fingerprint(
            kind, name, arguments, checksums=files, directory=directory, allow_code=allow_code
        ),
    }


def _signals(name: str, options: verbs.SignalColumns) -> MapStep:
    chosen = SignalOptions.of(options.options)
    columns = {f"signal_{signal}": variant_name(signal, chosen) for signal in options.names}
    if options.set == "redpajama_v2":
        from ..filters.text.redpajama import REDPAJAMA_V2

        columns |= {theirs: ours.column for theirs, ours in REDPAJAMA_V2.items()}
    types = {column: str(SIGNALS[parse_variant(variant)[0]].type) for column, variant in columns.items()}
    operator = OperatorRef.of(Publish, step=name, columns=columns)
    return MapStep(name, operator, frozenset(columns.values()), tuple(columns), types=types)


def _edit(name: str, options: verbs.Edit, directory: Path, allow_code: bool) -> MapStep:
    plugin = _plugin(registry.REFINER, options.refiner, options.arguments, directory, allow_code)
    operator = OperatorRef.of(Refine, step=name, max_removed=options.max_removed, **plugin)
    return MapStep(name, operator, frozenset(Refine.columns(operator)), ("text",), edits="text")


def _score(step: Step, options: verbs.Score, directory: Path, allow_code: bool) -> MapStep:
    plugin = _plugin(registry.SCORER, options.scorer, options.arguments, directory, allow_code)
    operator = OperatorRef.of(
        Score,
        step=step.name,
        column=step.column,  # type: ignore[attr-defined]
        on_null=step.on_null,
        **plugin,
    )
    reads, types = Score.columns(operator)
    return MapStep(step.name, operator, frozenset(reads), tuple(types), types=types)


def _selected(step: Step, options: Select, directory: Path, allow_code: bool) -> SelectStep:
    assert options.with_ is not None
    plugin = _plugin(registry.SELECTOR, options.with_, options.arguments, directory, allow_code)
    selector = OperatorRef.of(PluggedSelector, step=step.name, **plugin)
    built = PluggedSelector(**json.loads(selector.arguments))
    column, kind = options.column_made(built.max_copies)
    column = step.as_ or column
    writes_copies = built.max_copies > 1 and options.action == "drop"
    return SelectStep(
        step.name,
        frozenset(built.inputs),
        types={column: kind} if kind else {},
        copies=column if writes_copies else "",
        selector=selector,
        reports=options.action == "report",
        counts=built.max_copies > 1,
    )


def _rules(
    step: Step, pairs: list[tuple[str, str]], parameters: Mapping[str, Any], options: SignalOptions
) -> MapStep:
    names = {name for _, expression in pairs for name in expressions.parse(expression, parameters).columns}
    columns = {name: variant_name(name, options) if name in SIGNALS else name for name in sorted(names)}
    operator = OperatorRef.of(
        Rules, step=step.name, rules=pairs, parameters=dict(parameters), on_null=step.on_null, columns=columns
    )
    return MapStep(step.name, operator, frozenset(columns.values()))
