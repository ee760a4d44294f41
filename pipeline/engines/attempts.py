"""The calls that an engine makes for a stage, and which of those that failed are made again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import Any, Final

from ..stage import PartRef, Stage, TaskFailed, TaskId
from ..storage import place
from ..task import map_task, reduce_task, spool_path, spool_task

TRIES: Final = 3
DIED: Final = "its worker process died (killed, out of memory, or crashed)"
QUESTIONS_AT_ONCE: Final = 32  # that a store is asked


@dataclass(frozen=True, eq=False)
class Call:
    """What to call for a task, and with what; the engine adds the run."""

    task: TaskId
    work: Callable[..., Any]
    arguments: tuple[Any, ...]


def map_calls(stage: Stage, todo: Sequence[TaskId]) -> Iterator[Call]:
    """The tasks `todo` of a stage without an exchange."""
    ((name, source),) = stage.inputs.items()
    wanted = set(todo)
    for part in source.parts:
        if part.index in wanted:
            yield Call(part.index, map_task, (stage.on_part(name, part),))


def send_calls(stage: Stage) -> Iterator[Call]:
    """The map side of an exchange, but for what has been sent already."""
    sides = [(name, part) for name, source in stage.inputs.items() for part in source.parts]

    def is_sent(side: tuple[str, PartRef]) -> bool:
        return spool_path(stage, side[0], side[1].index).is_file()

    if isinstance(place(stage.spool or stage.directory), Path):
        sent: Iterable[bool] = map(is_sent, sides)
    else:
        with ThreadPoolExecutor(QUESTIONS_AT_ONCE, "thresher-spools") as pool:
            sent = list(pool.map(is_sent, sides))
    for (name, part), already in zip(sides, sent, strict=True):
        if not already:
            yield Call(part.index, spool_task, (stage.on_part(name, part),))


def reduce_calls(stage: Stage, todo: Sequence[TaskId]) -> Iterator[Call]:
    """The reduce side of an exchange."""
    side = stage.on_partition()
    for task in todo:
        yield Call(task, reduce_task, (side, task))


class Attempts:
    """Hands out calls, those that failed again, and remembers those that were given up and why.

    What a call raises, a worker that dies under it and a machine that is lost with it are counted apart: the
    last is hardly ever the task's fault.
    """

    def __init__(
        self, stage: str, calls: Iterable[Call], of_parts: bool, *, deaths: int = TRIES, losses: int = TRIES
    ) -> None:
        self._stage, self._of_parts = stage, of_parts
        self._most = {"raised": TRIES, "died": deaths, "lost": losses}
        self._fresh = iter(calls)
        self._exhausted = False
        self._again: list[tuple[float, int, Call]] = []  # not before when; a number that keeps their order
        self._numbers = count()
        self._tries: Counter[tuple[Call, str]] = Counter()
        self._failures: dict[TaskId, str] = {}

    def take(self) -> Call | None:
        """The next call to make now; None where there is none, now (see `pause`) or at all (`is_over`)."""
        if self._again and self._again[0][0] <= time.monotonic():
            return heappop(self._again)[2]
        call = None if self._exhausted else next(self._fresh, None)
        self._exhausted = call is None
        return call

    @property
    def is_over(self) -> bool:
        """Whether `take` will never give a call again, unless one is put back."""
        return self._exhausted and not self._again

    def pause(self) -> float:
        """Seconds until the next call that waits may be made."""
        return max(0.0, self._again[0][0] - time.monotonic()) if self._again else 0.0

    def put_back(self, call: Call, after: float = 0.0) -> None:
        """The call is to be made again, in `after` seconds: what ended it was no fault of its own."""
        heappush(self._again, (time.monotonic() + after, next(self._numbers), call))

    def raised(self, call: Call, reason: str) -> bool:
        """The call raised: whether it may be made again."""
        return self._judge(call, "raised", reason)

    def died(self, call: Call, reason: str = DIED) -> bool:
        """The worker died under the call: whether it may be made again."""
        return self._judge(call, "died", reason)

    def lost(self, call: Call, reason: str) -> bool:
        """The machine was lost on which the call ran: whether it may be made again."""
        return self._judge(call, "lost", reason)

    def times(self, call: Call) -> int:
        """How often the call has failed."""
        return sum(self._tries[call, kind] for kind in self._most)

    def _judge(self, call: Call, kind: str, reason: str) -> bool:
        self._tries[call, kind] += 1
        if self._tries[call, kind] < self._most[kind]:
            return True
        self._failures[call.task] = reason
        return False

    def end(self) -> None:
        """Raises TaskFailed where calls were given up."""
        if self._failures:
            raise TaskFailed(self._stage, self._failures, self._of_parts)
