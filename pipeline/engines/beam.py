"""The Beam engine: each stage is a pipeline for a runner of Apache Beam."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import Any, Final

import pyarrow as pa

from ...schemas.engines import IN_PROCESS, Beam
from ..disk import says_full
from ..probe import answer, probe
from ..stage import Committed, EngineError, Probe, Stage, TaskFailed, TaskId
from ..storage import place
from .beam_pipeline import Pipeline, reason_of, why_not
from .beam_signs import QUESTIONS_AT_ONCE, Signs, Watch

PORTABLE: Final = "PortableRunner"
PORTABLE_SILENCE: Final = 45.0
PROBES_PER_WORKER: Final = 4
LOST: Final = "the pipeline has ended without it"

_DIRECT: Final = ("direct", "directrunner")  # tries to download another runner
_MODE: Final = "--direct_running_mode"  # an option by which the in-process runner starts other processes


class BeamEngine:
    """Runs each stage as a pipeline, which is a batch job of its own for the runner.

    Workers commit in the directory of the stage and leave signs of life there, and that is where the driver
    looks; of what a runner says of a pipeline nothing is needed but its end. A task that raises is tried
    again by the same worker, and the others go on. A worker that dies is the runner's affair: clusters start
    another and its part anew; a local job service waits for it for ever, so that a run without any sign for
    `silence` seconds is given up. What a stage says of its resources is not passed on: they are options of
    the runner. In-process there is one task at a time, and nothing spills: what an exchange moves is in
    memory. Workers load `kernels` as their tasks need them.
    """

    def __init__(self, settings: Beam, workers: int, run: str, kernels: Sequence[str] = ()) -> None:
        if settings.runner.lower() in _DIRECT:
            raise EngineError(f"run.beam.runner: write {IN_PROCESS} in place of {settings.runner}")
        try:
            why = why_not(settings.options)
        except ImportError as error:
            raise EngineError(f"run.engine beam: {error}; pip install 'thresher[beam]'") from error
        if why is not None:
            raise EngineError(f"run.beam.options: {why}")
        self._settings, self._workers, self._run = settings, workers, run
        self._here = settings.runner == IN_PROCESS and not any(o.startswith(_MODE) for o in settings.options)
        self._silence: float | None = settings.silence
        if self._silence is None and settings.runner == PORTABLE:
            self._silence = PORTABLE_SILENCE
        self._threads = pa.cpu_count(), pa.io_thread_count()
        self._running: tuple[Pipeline, Signs | None] | None = None

    def check(self, probe: Probe) -> None:
        """See Engine.check. Other processes are asked by a pipeline, which also shows that there are any."""
        if self._here:
            told = answer(probe)
            if told is not None:
                raise EngineError(told)
            return
        from .beam_tasks import probing

        running = self._start(probing(probe, self._workers * PROBES_PER_WORKER))
        began = time.monotonic()
        try:
            while not running.wait(0.1):
                if self._silence is not None and time.monotonic() - began > self._silence:
                    raise EngineError(self._told_silent())
        finally:
            self._leave()
        if running.error is not None:
            raise EngineError(self._told(running.error)) from running.error

    def run(self, stage: Stage, todo: Sequence[TaskId]) -> Iterator[Committed]:
        """See Engine.run."""
        if not todo:
            return
        for name, source in stage.inputs.items():
            if not source.parts:
                reason = f"input {name} has no parts, so nothing says which columns it has"
                raise TaskFailed(stage.name, dict.fromkeys(todo, reason), of_parts=False)
        signs = Signs(stage.directory, self._run)
        watch = Watch(signs, todo)
        # Workers are this process, or have to find what the driver writes where they are to commit.
        with nullcontext() if self._here else probe(place(stage.directory), self._run) as asked:
            from .beam_tasks import working

            running = self._start(working(stage, todo, signs, asked), signs)
            try:
                yield from self._follow(running, watch)
            finally:
                self._leave()
        yield from watch.rest()
        failed = _failed(stage, watch.missing, signs)
        watch.sweep()
        if failed is not None and running.error is not None:
            told = self._told(running.error)
            if says_full({0: told}):
                raise TaskFailed(stage.name, {watch.missing[0]: told}, of_parts=stage.reduce is None)
            raise EngineError(told) from running.error
        if failed is not None:
            raise failed

    def _start(self, build: Callable[[Any], object], signs: Signs | None = None) -> Pipeline:
        if self._settings.runner == IN_PROCESS:
            from apache_beam.runners.portability.fn_api_runner import FnApiRunner

            runner: Any = FnApiRunner()
        else:
            runner = self._settings.runner
        running = Pipeline(runner, self._settings.options, self._here, build)
        self._running = running, signs
        return running

    def _follow(self, running: Pipeline, watch: Watch) -> Iterator[Committed]:
        while not running.wait(watch.pause):
            yield from watch.look()
            if self._silence is not None and time.monotonic() - watch.heard > self._silence:
                raise EngineError(self._told_silent())

    def _leave(self) -> None:
        """Where the pipeline has not ended it is on its own: what is left of its workers begins no more."""
        if self._running is None:
            return
        (running, signs), self._running = self._running, None
        if not running.wait(0):
            if signs is not None:
                with suppress(OSError):
                    signs.stop()
            running.cancel()

    def _told_silent(self) -> str:
        return (
            f"{self._settings.runner}: no sign of a worker for {self._silence:.0f} seconds; is the pool of "
            "workers still there? (run.beam.silence says how long to wait); the same command goes on with "
            "what is committed"
        )

    def _told(self, error: BaseException) -> str:
        return f"{self._settings.runner}: {reason_of(error)}"

    def close(self) -> None:
        """Cancels what runs, and gives Arrow its threads back, of which tasks in this process take one."""
        self._leave()
        if self._here:
            pa.set_cpu_count(self._threads[0])
            pa.set_io_thread_count(self._threads[1])


def _failed(stage: Stage, missing: Sequence[TaskId], signs: Signs) -> TaskFailed | None:
    """What the workers say of the tasks that have not committed; None where there are none.

    In an exchange no partition is complete without every part, so it is these that have failed.
    """
    if not missing:
        return None
    wanted = set(missing)
    parts = [
        (name, part.index)
        for name, source in stage.inputs.items()
        for part in source.parts
        if stage.reduce is not None or part.index in wanted
    ]
    with ThreadPoolExecutor(QUESTIONS_AT_ONCE, "thresher-failures") as pool:
        of_parts = _told_failures(parts, pool.map(lambda named: signs.given_up(*named), parts))
        tasks = [("", task) for task in missing]
        of_tasks = _told_failures(tasks, pool.map(lambda named: signs.given_up(*named), tasks))
    if of_parts or stage.reduce is None:
        lacking = missing if stage.reduce is None else ()
        return TaskFailed(stage.name, dict.fromkeys(lacking, LOST) | of_parts, of_parts=True)
    return TaskFailed(stage.name, dict.fromkeys(missing, LOST) | of_tasks, of_parts=False)


def _told_failures(tasks: Sequence[tuple[str, TaskId]], reasons: Iterable[str | None]) -> dict[TaskId, str]:
    return {task: why for (_, task), why in zip(tasks, reasons, strict=True) if why is not None}
