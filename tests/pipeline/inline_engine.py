"""An engine without processes: tasks run here and now, in the reverse of their order."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from thresher.pipeline.probe import answer
from thresher.pipeline.stage import Committed, Probe, Stage, TaskFailed, TaskId
from thresher.pipeline.task import map_task, reduce_task, spool_path, spool_task


class InlineEngine:
    """Runs tasks as LocalEngine does, with what a task is told copied as if it went to another process."""

    def __init__(self, workers: int, run: str, kernels: Sequence[str] = ()) -> None:
        self._run = run

    def check(self, probe: Probe) -> None:
        """See Engine.check."""
        assert answer(probe) is None

    def run(self, stage: Stage, todo: Sequence[TaskId]) -> Iterator[Committed]:
        """See Engine.run."""
        parts = [(name, part) for name, source in stage.inputs.items() for part in source.parts]
        if stage.reduce is None:
            sides = [(part.index, stage.on_part(name, part)) for name, part in parts if part.index in todo]
            yield from self._complete(stage.name, sides, map_task, of_parts=True)
            return
        if not todo:
            return
        unsent = [
            (part.index, stage.on_part(name, part))
            for name, part in parts
            if not spool_path(stage, name, part.index).is_file()
        ]
        for _ in self._complete(stage.name, unsent, spool_task, of_parts=True):
            pass
        reduces = [(task, stage.on_partition(), task) for task in todo]
        yield from self._complete(stage.name, reduces, reduce_task, of_parts=False)

    def _complete(
        self, stage: str, calls: Sequence[tuple[Any, ...]], work: Callable[..., Any], *, of_parts: bool
    ) -> Iterator[Any]:
        failures: dict[TaskId, str] = {}
        for task, *arguments in reversed(calls):
            try:
                done = work(*pickle.loads(pickle.dumps(arguments)), self._run)
            except Exception as error:
                failures[task] = f"{type(error).__name__}: {error}"
            else:
                yield done
        if failures:
            raise TaskFailed(stage, failures, of_parts)

    def close(self) -> None:
        """There is nothing to end."""


@contextmanager
def inline_tasks() -> Iterator[None]:
    """Jobs run their tasks in this process, and nothing waits for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thresher.pipeline.engines.opening.LocalEngine", InlineEngine)
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
