"""From the steps of a job to phases: fused passes over the parts, and steps that need the whole corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from typing import Any

from ..filters.embeddings.matrix import EMBEDDING
from ..filters.signals import SIGNALS, inputs_of, versions_of
from ..schemas.job import Job
from ..schemas.records import RECORDS
from ..schemas.step import Step
from .accounts import INPUT
from .compilation import compile_step
from .compiled import CorpusStep, MapStep
from .operator import kernels_of
from .stage import OperatorRef, Resources
from .steps.reading import Payload, type_of
from .steps.text import Signals

BASE = ("id", "url", "source", "date", "meta", "text", "input")
IMAGE_BASE = (*BASE, "image")
TAR_INDEX = "thresher.pipeline.sources.tar_index"


@dataclass
class Phase:
    """One pass over the parts and the corpus steps that follow it at once."""

    maps: list[MapStep] = field(default_factory=list)
    corpus: list[CorpusStep] = field(default_factory=list)
    operators: list[OperatorRef] = field(default_factory=list)  # of the pass, signals and keys included
    reads: tuple[str, ...] = ()  # columns that the pass reads of what earlier phases left
    keeps: tuple[str, ...] = ()  # columns that later phases or the output read
    signal_streams: tuple[str, ...] = ()
    reads_source: bool = False
    on: str | None = None  # the engine of the pass; None: that of the job
    resources: Resources = field(default_factory=Resources)  # of one task of the pass

    @property
    def edits(self) -> frozenset[str]:
        """What behind the pass is not what it was before: text, image."""
        return frozenset(step.edits for step in self.maps if step.edits)

    def makes_for(self, step: CorpusStep) -> bool:
        """Whether the keys of a step read what a step over the corpus makes behind this pass."""
        made = {name for corpus in self.corpus for name in corpus.makes}
        return step.keys is not None and bool(made & step.keys.reads)

    @property
    def is_apart(self) -> bool:
        """Whether its workers are not those of the job."""
        return (self.on, self.resources) != (None, Resources())

    @property
    def name(self) -> str:
        """A stage's name: its first and its last step."""
        names = [step.name.replace(":", "-") for step in self.maps]
        if not names:
            return "read" if self.reads_source or not self.corpus else f"{self.corpus[0].stage_name}-reads"
        return names[0][:60] if len(names) == 1 else f"{names[0][:28]}-to-{names[-1][:28]}"


@dataclass(frozen=True)
class Branch:
    """Inputs that pass the same steps before those of the job, in phases of which the first reads."""

    name: str  # of its only input; "" where it is all inputs
    inputs: tuple[int, ...]
    phases: tuple[Phase, ...]
    steps: tuple[str, ...]
    payload: Payload  # what its records may come with, which a step makes use of
    missing: Mapping[str, str]  # columns of the output that other branches make: Arrow's name of the type

    @property
    def reading(self) -> str:
        """The step that stands for reading in the accounts."""
        return f"{INPUT}:{self.name}" if self.name else INPUT


@dataclass(frozen=True)
class Plan:
    """The phases of a job, the order of its steps, and the columns of its output."""

    branches: tuple[Branch, ...]
    phases: tuple[Phase, ...]  # over the records of all branches
    steps: tuple[str, ...]  # of `phases`
    output: tuple[str, ...]  # columns that are read to write it
    scores: tuple[str, ...]  # of these, what steps made for the shards themselves
    reads_tars: bool
    copies: tuple[str, ...] = ()  # of `scores`, those whose product says how often a record is written

    @property
    def weighed(self) -> tuple[str, ...]:
        """The columns whose bytes are a record's weight, by which shards are cut."""
        return _weighed(self.output)

    @property
    def all_phases(self) -> tuple[Phase, ...]:
        return (*(phase for branch in self.branches for phase in branch.phases), *self.phases)

    @property
    def kernels(self) -> tuple[str, ...]:
        """The modules that the operators of the job compile or load."""
        refs = [ref for phase in self.all_phases for ref in phase.operators]
        named = dict.fromkeys(name for ref in refs for name in kernels_of(ref))
        named |= dict.fromkeys(
            name for phase in self.all_phases for step in phase.corpus for name in step.kernels
        )
        if self.reads_tars and any(name.startswith("thresher.") for name in named):
            named[TAR_INDEX] = None  # without other kernels it is loaded where a tar is worth it
        return tuple(named)


def plan(job: Job, allow_code: bool = False) -> Plan:
    """The phases of a job that `check` has accepted."""
    made = _Made()
    if not any(source.steps for source in job.input):
        phases, trunk = _phases(job.steps, job, allow_code, made, reads_source=True), []
        branches = [("", tuple(range(len(job.input))), phases, job.steps)]
    else:
        branches = [
            (
                source.name,
                (number,),
                _phases(source.steps, job, allow_code, made, reads_source=True),
                source.steps,
            )
            for number, source in enumerate(job.input)
        ]
        trunk = _phases(job.steps, job, allow_code, made) if job.steps else []
    everything = [*(phase for _, _, phases, _ in branches for phase in phases), *trunk]
    base = IMAGE_BASE if job.modality == "image-text" else BASE
    known = {*base, *(name for phase in everything for name in _adds(phase))}
    scores, beside = _written(job, made)
    schema = RECORDS[job.modality]
    output = tuple(f.name for f in schema if f.name in known) + scores + beside
    _lay_out(trunk, [], output, base)
    for _, _, phases, _ in branches:
        _lay_out(phases, trunk, output, base)
    kinds = {f.name: str(f.type) for f in schema} | made.types
    return Plan(
        tuple(
            Branch(
                name,
                inputs,
                tuple(phases),
                tuple(step.name for step in steps),
                _payload(job, steps),
                _missing(output, base, [*phases, *trunk], kinds) if len(branches) > 1 else {},
            )
            for name, inputs, phases, steps in branches
        ),
        tuple(trunk),
        tuple(step.name for step in job.steps) if trunk else (),
        output,
        scores,
        any(source.format == "webdataset" or source.path.endswith(".tar") for source in job.input),
        tuple(made.copies),
    )


def _payload(job: Job, steps: Sequence[Step]) -> Payload:
    if job.modality == "image-text":
        return "image"
    return "page" if any(step.kind == "extract" for step in steps) else "none"


@dataclass
class _Made:
    """What the steps compiled so far add to the output."""

    scores: list[str] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)
    number: int = 0


def _written(job: Job, made: _Made) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns that steps made, of the shards and of what lies beside them.

    A column is in one of both; embeddings that are asked for in neither only stand in Parquet.
    """
    given = job.output.embeddings
    beside = tuple(dict.fromkeys(given.arrays.values())) if given is not None else ()
    names = [name for name in dict.fromkeys(made.scores) if name not in beside]
    if job.output.format != "parquet":
        names = [name for name in names if type_of(made.types[name]) != EMBEDDING]
    return tuple(names), beside


def _phases(
    steps: Sequence[Step], job: Job, allow_code: bool, made: _Made, reads_source: bool = False
) -> list[Phase]:
    """The steps in passes: a pass ends where a step needs the whole corpus, other resources or another
    engine. What owns a model reads what an earlier pass has read: its workers have better things to do."""
    phases = [Phase(reads_source=reads_source)]
    for step in steps:
        compiled = compile_step(step, made.number, job, allow_code, made.types)
        made.number += 1
        made.types |= compiled.types
        made.scores.extend(compiled.types)
        on, resources = _placed(step, job)
        last = phases[-1]
        if isinstance(compiled, CorpusStep):
            # Its keys are of the text as it is then, and no work for those who own a model.
            if (
                (last.corpus and last.corpus[-1].edits)
                or (last.is_apart and compiled.keys)
                or last.makes_for(compiled)
            ):
                phases.append(Phase())
            compiled.on, compiled.resources = on, resources
            made.copies.extend([compiled.copies] if compiled.copies else [])
            phases[-1].corpus.append(compiled)
            continue
        differs = (last.on, last.resources) != (on, resources)
        if last.corpus or (differs and (last.maps or last.reads_source)):
            phases.append(Phase())
        phases[-1].on, phases[-1].resources = on, resources
        phases[-1].maps.append(compiled)
    return phases


def _placed(step: Step, job: Job) -> tuple[str | None, Resources]:
    wanted = step.resources
    on = None if step.on == job.run.engine else step.on
    if wanted is None:
        return on, Resources()
    actors = (wanted.actors[0], wanted.actors[1]) if wanted.actors else None
    return on, Resources(wanted.cpus, wanted.gpus, wanted.memory or 0, actors)


def _adds(phase: Phase) -> set[str]:
    made = {name for step in phase.maps for name in step.adds}
    return made | {name for corpus in phase.corpus for name in corpus.makes}


def _missing(
    output: Sequence[str], base: Sequence[str], phases: Sequence[Phase], kinds: Mapping[str, str]
) -> dict[str, str]:
    known = {*base, *(name for phase in phases for name in _adds(phase))}
    return {name: kinds[name] for name in output if name not in known}


def _lay_out(
    phases: list[Phase], behind: Sequence[Phase], output: tuple[str, ...], base: tuple[str, ...]
) -> None:
    """Places signals where they are first needed, and finds what each pass reads and has to keep.

    `behind`: the phases, laid out before, that go on with what these leave.
    """
    known: set[str] = set()  # signals of the text as it is
    for number, phase in enumerate(phases):
        made = set(base) if phase.reads_source else set()
        known = _lay_out_phase(phase, known, made, _wanted_apart(phase, phases[number + 1 :]))
        if phase.edits and not phase.reads_source:  # which weighs its records again
            phase.reads = tuple(sorted({*phase.reads, *_weighed(output)}))
    for number, phase in enumerate(phases):
        later = set(output) | {name for corpus in phase.corpus for name in corpus.reads}
        for other in (*phases[number + 1 :], *behind):
            later |= set(other.reads) | {name for corpus in other.corpus for name in corpus.reads}
        made = set(base) if phase.reads_source else set()
        made |= {name for step in phase.maps for name in step.adds}
        made |= {name for corpus in phase.corpus for name in corpus.adds}
        phase.keeps = tuple(sorted(made & later))


def _wanted_apart(phase: Phase, behind: Sequence[Phase]) -> frozenset[str]:
    """Signals of the text as a pass leaves it that only workers of their own would compute behind it.

    They are computed before: who owns a model need not, and nobody has to read the text once more for them.
    """
    wanted: set[str] = set()
    edited = {corpus.edits for corpus in phase.corpus if corpus.edits}
    for other in behind:
        if phase.is_apart or not other.is_apart:
            break
        steps: list[MapStep | CorpusStep] = [*other.maps, *other.corpus]
        for step in steps:
            wanted |= _untouched(step.reads, edited)
            edited |= {step.edits} - {""}
    return frozenset(name for name in wanted if set(inputs_of(name)) <= set(IMAGE_BASE))


def _weighed(output: Sequence[str]) -> tuple[str, ...]:
    """The columns by which a record is weighed: those that it has wherever steps run, and in any order."""
    return tuple(name for name in output if name in IMAGE_BASE)


def _is_signal(name: str) -> bool:
    return name.partition("@")[0] in SIGNALS


def _untouched(names: Iterable[str], edited: Set[str]) -> set[str]:
    """The signals among the names that what was edited does not change."""
    return {name for name in names if _is_signal(name) and not edited & set(inputs_of(name))}


def _lay_out_phase(phase: Phase, known: set[str], made: set[str], ahead: frozenset[str]) -> set[str]:
    """Fills in the operators and reads of one pass, which computes the signals `ahead` too; returns the
    signals that are known behind it."""
    line = [*phase.maps, *(corpus.keys for corpus in phase.corpus if corpus.keys)]
    at_end = ahead.union(*(corpus.reads for corpus in phase.corpus))
    stored, known, needed = set(known), set(known), {"id", "source"}
    for place, step in enumerate(line):
        if own := _missing_signals([step], frozenset(), known):
            # What a later step needs of a column that may not be there yet waits for that step.
            others = _missing_signals(line[place:], at_end, known)
            names = [name for name in others if name in own or set(inputs_of(name)) <= set(IMAGE_BASE)]
            known |= _add_signals(phase, names, needed, made)
        phase.operators.append(step.operator)
        needed |= {name for name in step.reads if name in stored or name not in made | known}
        made |= set(step.adds)
        known, stored = _untouched(known, {step.edits}), _untouched(stored, {step.edits})
    if wanted := _missing_signals([], at_end, known):
        known |= _add_signals(phase, wanted, needed, made)
    phase.reads = tuple(sorted(needed))
    return _untouched(known, {corpus.edits for corpus in phase.corpus})


def _missing_signals(steps: list[MapStep], more: frozenset[str], known: set[str]) -> list[str]:
    """The signals missing for these steps, and for `more` behind them, of what no step before has edited."""
    wanted: set[str] = set()
    edited: set[str] = set()
    for step in steps:
        wanted |= _untouched(step.reads, edited)
        edited |= {step.edits} - {""}
    return sorted((wanted | _untouched(more, edited)) - known)


def _add_signals(phase: Phase, names: list[str], needed: set[str], made: set[str]) -> set[str]:
    number = len(phase.signal_streams) + 1
    stream = f"signals_{number}" if number > 1 else "signals"
    phase.signal_streams += (stream,)
    phase.operators.append(OperatorRef.of(Signals, stream=stream, names=names, versions=versions_of(names)))
    needed |= {column for name in names for column in inputs_of(name)} - made
    return set(names)


def describe(job: Job, allow_code: bool = False) -> list[dict[str, Any]]:
    """The stages of a job for a person: name, steps, columns read and kept; `on` and `resources` where they
    are not those of the job."""
    return list(_described(plan(job, allow_code)))


def _described(planned: Plan) -> Iterator[dict[str, Any]]:
    for branch in planned.branches:
        for phase in branch.phases:
            yield from _described_phase(phase, branch.name)
    for phase in planned.phases:
        yield from _described_phase(phase, "")
    yield {
        "stage": "export",
        "kind": "map",
        "steps": [],
        "operators": ["ReadShard", "WriteShard"],
        "reads": list(planned.output),
        "keeps": [],
    }


def _described_phase(phase: Phase, branch: str) -> Iterator[dict[str, Any]]:
    of_input = {"input": branch} if branch else {}
    yield {
        "stage": phase.name,
        **of_input,
        "kind": "map",
        "steps": [step.name for step in phase.maps],
        "operators": [ref.name.rpartition(":")[2] for ref in phase.operators],
        "reads": ["the source"] if phase.reads_source else list(phase.reads),
        "keeps": list(phase.keeps),
        **_placement(phase.on, phase.resources),
    }
    for corpus in phase.corpus:
        yield {
            "stage": corpus.name,
            **of_input,
            "kind": corpus.kind,
            "steps": [corpus.name],
            "operators": [],
            "reads": sorted(corpus.reads),
            "keeps": list(corpus.makes),
            **_placement(corpus.on, corpus.resources),
        }


def _placement(on: str | None, resources: Resources) -> dict[str, Any]:
    own = {name: value for name, value in asdict(resources).items() if value != getattr(Resources(), name)}
    if resources.actors:
        own["actors"] = list(resources.actors)
    return {**({"on": on} if on else {}), **({"resources": own} if own else {})}
