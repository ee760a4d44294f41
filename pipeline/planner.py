"""From the steps of a job to phases: fused passes over the parts, and steps that need the whole corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..filters import expressions
from ..filters.dedup.minhash import MinHashScheme
from ..filters.text.rule_sets import RULE_SETS
from ..filters.text.signals import SIGNALS
from ..schemas import verbs
from ..schemas.job import Job
from ..schemas.records import TEXT
from ..schemas.steps import Step
from .selectors.limit import LimitSelector
from .selectors.top import UNIT_COLUMNS, TopSelector
from .stage import OperatorRef
from .steps.dedup import Keys
from .steps.scoring import Score
from .steps.text import Extract, Language, Rules, Sample, Signals, Url

BASE = ("id", "url", "source", "date", "meta", "text")


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


@dataclass
class Phase:
    """One pass over the parts and the corpus steps that follow it at once."""

    maps: list[MapStep] = field(default_factory=list)
    corpus: list[CorpusStep] = field(default_factory=list)
    operators: list[OperatorRef] = field(default_factory=list)  # of the pass, signals and keys included
    reads: tuple[str, ...] = ()  # columns that the pass reads of what earlier phases left
    keeps: tuple[str, ...] = ()  # columns that later phases or the output read
    signal_streams: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A stage's name: its steps in short."""
        return "+".join(step.name.replace(":", "-") for step in self.maps)[:60].rstrip("+-") or "read"


@dataclass(frozen=True)
class Plan:
    """The phases of a job, the order of its steps, and the columns of its output."""

    phases: tuple[Phase, ...]
    steps: tuple[str, ...]
    output: tuple[str, ...]
    scores: tuple[str, ...]


def plan(job: Job, allow_code: bool = False) -> Plan:
    """The phases of a job that `check` has accepted."""
    phases = [Phase()]
    scores: list[str] = []
    for number, step in enumerate(job.steps):
        compiled = _compile(step, number, job, allow_code)
        if isinstance(compiled, CorpusStep):
            phases[-1].corpus.append(compiled)
            continue
        if phases[-1].corpus:
            phases.append(Phase())
        phases[-1].maps.append(compiled)
        if step.kind == "score":
            scores.extend(compiled.adds)
    made = {*BASE, *(name for phase in phases for step in phase.maps for name in step.adds)}
    output = tuple(f.name for f in TEXT if f.name in made) + tuple(dict.fromkeys(scores))
    _lay_out(phases, output)
    return Plan(tuple(phases), tuple(step.name for step in job.steps), output, tuple(dict.fromkeys(scores)))


def _lay_out(phases: list[Phase], output: tuple[str, ...]) -> None:
    """Places signals where they are first needed, and finds what each pass reads and has to keep."""
    known: set[str] = set()  # signals of the text as it is
    for number, phase in enumerate(phases):
        made = set(BASE) if number == 0 else set()
        known = _lay_out_phase(phase, known, made)
    for number, phase in enumerate(phases):
        later = set(output) | {name for corpus in phase.corpus for name in corpus.reads}
        for other in phases[number + 1 :]:
            later |= set(other.reads) | {name for corpus in other.corpus for name in corpus.reads}
        made = set(BASE) if number == 0 else set()
        made |= {name for step in phase.maps for name in step.adds}
        made |= {name for corpus in phase.corpus for name in corpus.adds}
        phase.keeps = tuple(sorted(made & later))


def _lay_out_phase(phase: Phase, known: set[str], made: set[str]) -> set[str]:
    """Fills in the operators and reads of one pass; returns the signals that are known behind it."""
    line = [*phase.maps, *(corpus.keys for corpus in phase.corpus if corpus.keys)]
    at_end = frozenset(name for corpus in phase.corpus for name in corpus.reads)
    stored, known, needed = set(known), set(known), {"id", "source"}
    for place, step in enumerate(line):
        if _missing_signals([step], frozenset(), known):
            known |= _add_signals(phase, _missing_signals(line[place:], at_end, known), needed)
        phase.operators.append(step.operator)
        needed |= {name for name in step.reads if name in stored or name not in made | known}
        made |= set(step.adds)
        if step.edits_text:
            known, stored = set(), set()
    if wanted := _missing_signals([], at_end, known):
        known |= _add_signals(phase, wanted, needed)
    phase.reads = tuple(sorted(needed))
    return known


def _missing_signals(steps: list[MapStep], more: frozenset[str], known: set[str]) -> list[str]:
    """The signals missing for these steps, up to the next edit of the text, and for `more` behind them."""
    wanted: set[str] = set()
    for step in steps:
        wanted |= step.reads
        if step.edits_text:
            break
    else:
        wanted |= more
    return sorted(name for name in wanted if name.partition("@")[0] in SIGNALS and name not in known)


def _add_signals(phase: Phase, names: list[str], needed: set[str]) -> set[str]:
    number = len(phase.signal_streams) + 1
    stream = f"signals_{number}" if number > 1 else "signals"
    phase.signal_streams += (stream,)
    phase.operators.append(OperatorRef.of(Signals, stream=stream, names=names))
    needed.add("text")
    return set(names)


def _compile(step: Step, number: int, job: Job, allow_code: bool) -> MapStep | CorpusStep:
    name, options, seed = step.name, step.options, job.run.seed
    match step.kind:
        case "extract":
            operator = OperatorRef.of(Extract, step=name, method=options.with_)
            return MapStep(name, operator, frozenset({"url", "meta"}), ("text", "meta"), edits_text=True)
        case "language":
            more = {} if options.max_chars is None else {"max_chars": options.max_chars}
            operator = OperatorRef.of(
                Language,
                step=name,
                keep=options.keep,
                min_score=options.min_score,
                model=options.model,
                options=more,
            )
            return MapStep(name, operator, frozenset({"text"}), ("lang", "lang_score"))
        case "url":
            operator = OperatorRef.of(Url, step=name, arguments=options.model_dump(exclude_none=True))
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
            column = step.as_ or name.removeprefix("score:")
            operator = OperatorRef.of(
                Score,
                step=name,
                scorer=options.scorer,
                arguments=options.arguments,
                column=column,
                on_null=step.on_null,
                directory=job.run.directory,
                allow_code=allow_code,
            )
            reads, adds = Score.columns(operator)
            return MapStep(name, operator, frozenset(reads), tuple(adds))
        case "select":
            return _select(step, options, seed)
    raise ValueError(f"unknown step {step.kind}")


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


def describe(job: Job, allow_code: bool = False) -> list[dict[str, Any]]:
    """The stages of a job for a person: name, steps, columns read and kept."""
    return list(_described(plan(job, allow_code)))


def _described(planned: Plan) -> Iterator[dict[str, Any]]:
    for number, phase in enumerate(planned.phases):
        yield {
            "stage": phase.name,
            "kind": "map",
            "steps": [step.name for step in phase.maps],
            "operators": [ref.name.rpartition(":")[2] for ref in phase.operators],
            "reads": list(phase.reads) if number else ["the source"],
            "keeps": list(phase.keeps),
        }
        for corpus in phase.corpus:
            yield {
                "stage": corpus.name,
                "kind": "exchange" if corpus.dedup else "summary",
                "steps": [corpus.name],
                "operators": [],
                "reads": sorted(corpus.reads),
                "keeps": [],
            }
    yield {
        "stage": "export",
        "kind": "map",
        "steps": [],
        "operators": ["ReadShard", "WriteShard"],
        "reads": list(planned.output),
        "keeps": [],
    }
