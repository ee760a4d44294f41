"""From the steps of a job to phases: fused passes over the parts, and steps that need the whole corpus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..filters.text.signals import SIGNALS
from ..schemas.job import Job
from ..schemas.records import TEXT
from .compilation import compile_step
from .compiled import CorpusStep, MapStep
from .operator import resolve
from .stage import OperatorRef
from .steps.text import Signals

BASE = ("id", "url", "source", "date", "meta", "text")


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
    def edits_text(self) -> bool:
        """Whether the text behind the pass is not the text before it."""
        return any(step.edits_text for step in self.maps)

    @property
    def name(self) -> str:
        """A stage's name: its first and its last step."""
        names = [step.name.replace(":", "-") for step in self.maps] or ["read"]
        return names[0][:60] if len(names) == 1 else f"{names[0][:28]}-to-{names[-1][:28]}"


@dataclass(frozen=True)
class Plan:
    """The phases of a job, the order of its steps, and the columns of its output."""

    phases: tuple[Phase, ...]
    steps: tuple[str, ...]
    output: tuple[str, ...]
    scores: tuple[str, ...]

    @property
    def kernels(self) -> tuple[str, ...]:
        """The modules that the operators of the job compile or load."""
        classes: list[Any] = [resolve(ref) for phase in self.phases for ref in phase.operators]
        named = (name for operator in classes for name in operator.kernels)
        return tuple(dict.fromkeys(named))


def plan(job: Job, allow_code: bool = False) -> Plan:
    """The phases of a job that `check` has accepted."""
    phases = [Phase()]
    scores: list[str] = []
    for number, step in enumerate(job.steps):
        compiled = compile_step(step, number, job, allow_code)
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
                "kind": corpus.kind,
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
