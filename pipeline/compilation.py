"""What each step of a job becomes: an operator of a pass, or a step over the whole corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ..filters import expressions
from ..filters.text.language import default_model
from ..filters.text.rule_sets import RULE_SETS
from ..filters.text.signals import SIGNALS
from ..schemas import verbs
from ..schemas.job import Job
from ..schemas.steps import Step
from ..scorers import registry
from ..scorers.assets import LocalAssets, checksum
from .selectors.limit import LimitSelector
from .selectors.top import UNIT_COLUMNS, TopSelector
from .stage import OperatorRef
from .steps.dedup import Keys
from .steps.scoring import Score
from .steps.text import Extract, Language, Rules, Sample, Url


@dataclass
class MapStep:
    """A step that looks at one record at a time."""

    name: str
    operator: OperatorRef
    reads: frozenset[str] = frozenset()
    adds: tuple[str, ...] = ()
    edits_text: bool = False


@dataclass
class CorpusStep:
    """A step that needs every record that survived so far; its keys are computed in the pass before."""

    name: str
    reads: frozenset[str]
    dedup: DedupPlan | None = None
    selector: OperatorRef | None = None
    keys: MapStep | None = None

    @property
    def adds(self) -> tuple[str, ...]:
        """The columns that the pass before computes for this step alone."""
        return self.keys.adds if self.keys else ()


@dataclass(frozen=True)
class DedupPlan:
    """Names of the columns and choices of one dedup step."""

    keys: str
    low: str | None
    length: str
    hash: str
    kind: str
    best: str | None
    keys_per_record: int


def compile_step(step: Step, number: int, job: Job, allow_code: bool) -> MapStep | CorpusStep:
    """What step `number` of a job becomes. Raises AssetError or ScorerError where a model is missing."""
    name, options, seed = step.name, step.options, job.run.seed
    match step.kind:
        case "extract":
            library = options.with_.removesuffix("_plain")
            operator = OperatorRef.of(
                Extract, step=name, method=options.with_, library=f"{library} {metadata.version(library)}"
            )
            return MapStep(name, operator, frozenset({"url", "meta"}), ("text", "meta"), edits_text=True)
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
            return _rules(step, pairs, rules.parameters | options.parameters, options.words)
        case "rule":
            return _rules(step, [(step.reason, options)], {}, None)  # type: ignore[attr-defined]
        case "sample":
            return MapStep(name, OperatorRef.of(Sample, step=name, fraction=options, seed=seed))
        case "limit":
            return CorpusStep(
                name, frozenset({"position"}), selector=OperatorRef.of(LimitSelector, count=options)
            )
        case "dedup":
            return _dedup(name, f"dedup_{number}_", options)
        case "score":
            return _score(step, options, Path(job.run.directory or "."), allow_code)
        case "select":
            return _select(step, options, seed)
    raise ValueError(f"unknown step {step.kind}")


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


def _score(step: Step, options: verbs.Score, directory: Path, allow_code: bool) -> MapStep:
    name, arguments = options.scorer, options.arguments
    scorer = registry.build(name, arguments, directory=directory, allow_code=allow_code)
    models = [LocalAssets([directory]).describe(asset).sha256 for asset in scorer.assets]
    operator = OperatorRef.of(
        Score,
        step=step.name,
        scorer=name,
        arguments=arguments,
        column=step.column,  # type: ignore[attr-defined]
        on_null=step.on_null,
        directory=str(directory),
        allow_code=allow_code,
        fingerprint=registry.fingerprint(
            name, arguments, checksums=models, directory=directory, allow_code=allow_code
        ),
    )
    reads, adds = Score.columns(operator)
    return MapStep(step.name, operator, frozenset(reads), tuple(adds))


def _rules(
    step: Step, pairs: list[tuple[str, str]], parameters: Mapping[str, Any], words: verbs.WordKind | None
) -> MapStep:
    names = {name for _, expression in pairs for name in expressions.parse(expression, parameters).columns}
    suffix = f"@{words}" if words not in (None, "whitespace") else ""
    columns = {name: name + suffix if name in SIGNALS else name for name in sorted(names)}
    operator = OperatorRef.of(
        Rules, step=step.name, rules=pairs, parameters=dict(parameters), on_null=step.on_null, columns=columns
    )
    return MapStep(step.name, operator, frozenset(columns.values()))


def _dedup(name: str, prefix: str, options: verbs.Dedup) -> CorpusStep:
    chosen = options.options
    if isinstance(chosen, verbs.MinHash):
        arguments, keys_per_record = _scheme(chosen)
    else:
        arguments = {} if chosen.on == "url" else {"normalize": chosen.normalize}
        keys_per_record = 1
    ranked = chosen.keep.order != "first"
    operator = OperatorRef.of(
        Keys, prefix=prefix, method=options.method, on=chosen.on, arguments=arguments, ranked=ranked
    )
    low = f"{prefix}low" if options.method == "exact" else None
    adds = [
        f"{prefix}keys",
        *([low] if low else []),
        *([f"{prefix}length", f"{prefix}hash"] if ranked else []),
    ]
    best = chosen.keep.column
    dedup = DedupPlan(
        f"{prefix}keys", low, f"{prefix}length", f"{prefix}hash", chosen.keep.order, best, keys_per_record
    )
    reads = frozenset([*adds, *([best] if best else [])])
    keys = MapStep(name, operator, frozenset({chosen.on, "text"} if ranked else {chosen.on}), tuple(adds))
    return CorpusStep(name, reads, dedup=dedup, keys=keys)


def _scheme(options: verbs.MinHash) -> tuple[dict[str, Any], int]:
    shared = {key: getattr(options, key) for key in ("ngram", "unit", "words", "hash", "lowercase")}
    if options.threshold is not None:
        from ..filters.dedup.minhash import MinHashScheme

        scheme = MinHashScheme.for_threshold(options.threshold, options.num_perm or 112, **shared)
        return shared | {"bands": scheme.bands, "rows": scheme.rows}, scheme.bands
    assert options.bands is not None
    return shared | {"bands": options.bands, "rows": options.rows}, options.bands


def _select(step: Step, options: verbs.Select, seed: int) -> MapStep | CorpusStep:
    if options.min is not None:
        return _rules(step, [("below_min", f"{options.by} >= {options.min!r}")], {}, None)
    selector = OperatorRef.of(
        TopSelector,
        by=options.by,
        top=options.top,
        budget=options.budget,
        within=options.within,
        unit=options.unit,
        seed=seed,
        step=step.name,
        on_null=step.on_null,
    )
    reads = {options.by, options.within, UNIT_COLUMNS[options.unit]}
    return CorpusStep(step.name, frozenset(name for name in reads if name), selector=selector)
