"""The parts of a job that are right by themselves, so that they can be checked further."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ..schemas.job import Input, Job, Modality, Output, Run
from ..schemas.step import Step
from .problems import Path

URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Line(NamedTuple):
    """The steps that the records of some inputs pass, in order, each with its place in the job."""

    name: str  # of the only input, where it has steps of its own
    numbers: Sequence[int]
    inputs: Sequence[Input | None]
    steps: Sequence[tuple[Path, Step | None]]


@dataclass(frozen=True)
class Outline:
    """The parts of a job that are right by themselves; None stands for one that is not."""

    inputs: Sequence[Input | None] = ()
    steps: Sequence[Step | None] = ()
    output: Output | None = None
    run: Run | None = None
    modality: Modality = "text"
    whole: bool = field(default=False)

    @classmethod
    def of(cls, job: Job) -> Outline:
        return cls(job.input, job.steps, job.output, job.run, job.modality, whole=True)

    @property
    def directory(self) -> str:
        """Where relative names are looked for."""
        return (self.run.directory if self.run else "") or "."

    @property
    def lines(self) -> list[Line]:
        """One line for each input where some have steps of their own, otherwise one for all."""
        common = [(("steps", index), step) for index, step in enumerate(self.steps)]
        if not any(source and source.steps for source in self.inputs):
            return [Line("", range(len(self.inputs)), self.inputs, common)]
        return [
            Line(source.name if source else "", [number], [source], [*self._own(number), *common])
            for number, source in enumerate(self.inputs)
        ]

    @property
    def all_steps(self) -> list[tuple[Path, Step | None]]:
        """Every step once, with its place in the job."""
        own = [placed for number in range(len(self.inputs)) for placed in self._own(number)]
        return [*own, *((("steps", index), step) for index, step in enumerate(self.steps))]

    def _own(self, number: int) -> list[tuple[Path, Step | None]]:
        source = self.inputs[number]
        steps = source.steps if source else []
        return [(("input", number, "steps", index), step) for index, step in enumerate(steps)]
