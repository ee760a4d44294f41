"""The engines of a run: that of the job, and those that steps name for their own stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...schemas.job import Job
from ..stage import Committed, Engine, Probe, Stage, TaskId
from .local import LocalEngine


class Engines:
    """Runs each stage on the engine that it names; an engine starts when it is first asked for."""

    def __init__(self, job: Job, run: str, kernels: Sequence[str] = ()) -> None:
        self._job, self._run, self._kernels = job, run, kernels
        self._started: dict[str, Engine] = {}

    def check(self, probe: Probe) -> None:
        """See Engine.check; of every engine that the job names."""
        steps = [*(step for source in self._job.input for step in source.steps), *self._job.steps]
        for name in dict.fromkeys([self._job.run.engine, *(step.on for step in steps if step.on)]):
            self._engine(name).check(probe)

    def run(self, stage: Stage, todo: Sequence[TaskId]) -> Iterator[Committed]:
        """See Engine.run."""
        yield from self._engine(stage.on or self._job.run.engine).run(stage, todo)

    def close(self) -> None:
        """Ends every worker of every engine."""
        while self._started:
            _, engine = self._started.popitem()
            engine.close()

    def _engine(self, name: str) -> Engine:
        if name not in self._started:
            self._started[name] = open_engine(name, self._job, self._run, self._kernels)
        return self._started[name]


def open_engine(name: str, job: Job, run: str, kernels: Sequence[str] = ()) -> Engine:
    """The engine of that name, as the job describes it. Raises EngineError where it cannot start."""
    match name:
        case "local":
            return LocalEngine(job.run.workers, run, kernels)
        case "ray":
            from .ray import RayEngine

            return RayEngine(job.run.ray, job.run.workers, run, kernels)
        case "beam":
            from .beam import BeamEngine

            return BeamEngine(job.run.beam, job.run.workers, run, kernels)
    raise ValueError(f"unknown engine {name}")
