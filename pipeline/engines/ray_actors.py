"""The actors of a stage that owns a model: each loads it once and gets one part after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Final

from ..stage import EngineError, Stage
from .attempts import Attempts, Call
from .ray_room import LOST, End, Outcome, Room, alive_nodes, failed, options, outcome
from .ray_worker import ModelWorker, Orders

QUEUED: Final = 2  # calls that an actor has: one at work, and one that it need not wait for
STARTS: Final = 5  # actors in a row that may die before they live, until the stage is given up
_FAILURES: Final = 2  # in a row, after which what an actor holds may be broken
_PAUSE_SECONDS: Final = 0.5


@dataclass(eq=False)
class _Actor:
    handle: Any
    ready: Any  # a reference; None as soon as the actor lives
    calls: deque[tuple[Any, Call]] = field(default_factory=deque)  # references, in the order of their work
    failures: int = 0  # calls in a row that raised
    node: str = ""  # where it lives


class ActorPool:
    """Makes the calls of a stage in actors: the fewest that it asks for at once, more of them while calls
    wait and the cluster has room.

    An actor that dies is replaced. The call at which it was has failed, the one behind it has not.
    """

    def __init__(self, stage: Stage, orders: Orders, room: Room, calls: int) -> None:
        self._stage, self._orders, self._room = stage, orders, room
        fewest, most = stage.resources.actors or (1, calls)
        self._fewest, self._most = min(fewest, calls), min(most, calls)
        self._actors: list[_Actor] = []
        self._stillborn = 0
        self._start_after = 0.0
        self._next: Call | None = None  # taken, and still without an actor

    def complete(self, attempts: Attempts) -> Generator[Any, None, None]:
        """Makes the calls and yields what they return, in any order. Raises TaskFailed as `Attempts.end`."""
        finished: list[Any] = []
        try:
            while True:
                self._hand_out(attempts)
                yield from finished
                if self._is_idle and attempts.is_over:
                    break
                self._grow(attempts)
                finished = self._collect(attempts)
            attempts.end()
        finally:
            self.close()

    def close(self) -> None:
        """Ends the actors, and frees what their model took."""
        while self._actors:
            self._end(self._actors[-1])

    @property
    def _is_idle(self) -> bool:
        return self._next is None and not any(actor.calls for actor in self._actors)

    def _hand_out(self, attempts: Attempts) -> None:
        while True:
            self._next = self._next or attempts.take()
            free = [one for one in self._actors if one.ready is None and len(one.calls) < QUEUED]
            if self._next is None or not free:
                return
            actor = min(free, key=lambda one: len(one.calls))
            call, self._next = self._next, None
            actor.calls.append((actor.handle.execute.remote(call.work, call.arguments), call))

    def _grow(self, attempts: Attempts) -> None:
        if self._next is None and attempts.is_over:
            return
        now = time.monotonic()
        starting = sum(actor.ready is not None for actor in self._actors)
        if now < self._start_after:
            return
        wanted = max(0, self._fewest - len(self._actors))
        if self._next is not None and not wanted and not starting:
            # One that finds no room yet is no harm: it is how the cluster learns that more is wanted.
            wanted = max(1, self._room.fits(self._stage.resources))
        for _ in range(min(wanted, self._most - len(self._actors))):
            self._start()

    def _start(self) -> None:
        import ray

        actor = ray.remote(ModelWorker)
        asked = options(self._stage.resources)
        ways = actor.options(max_restarts=0, max_task_retries=0, **asked)
        handle: Any = ways.remote(self._orders)
        self._actors.append(_Actor(handle, handle.ready.remote()))

    def _collect(self, attempts: Attempts) -> list[Any]:
        """Waits until something ends, or a moment, and returns what calls have returned."""
        import ray

        owners = {ref: actor for actor in self._actors for ref in self._waits_for(actor)}
        if not owners:
            time.sleep(min(attempts.pause() or _PAUSE_SECONDS, _PAUSE_SECONDS))
            return []
        done, _ = ray.wait(list(owners), num_returns=1, timeout=_PAUSE_SECONDS)
        if not done:
            self._room.check(self._stage.name, self._stage.resources)
            return []
        done, _ = ray.wait(list(owners), num_returns=len(owners), timeout=0)
        ready = set(done)
        finished: list[Any] = []
        for actor in dict.fromkeys(owners[ref] for ref in done):
            if actor.ready in ready:
                self._has_started(actor)
            while actor in self._actors and actor.calls and actor.calls[0][0] in ready:
                ref, call = actor.calls.popleft()
                how = outcome(ref)
                if how.end is End.DONE:
                    actor.failures = 0
                    finished.append(how.value)
                else:
                    self._has_failed(actor, call, how, attempts)
        return finished

    @staticmethod
    def _waits_for(actor: _Actor) -> list[Any]:
        return [ref for ref, _ in actor.calls] if actor.ready is None else [actor.ready]

    def _has_started(self, actor: _Actor) -> None:
        how = outcome(actor.ready)
        if how.end is End.DONE:
            actor.node, actor.ready, self._stillborn = how.value, None, 0
            return
        self._end(actor)
        self._stillborn += 1
        self._start_after = time.monotonic() + _PAUSE_SECONDS * 2**self._stillborn
        if self._stillborn >= STARTS:
            raise EngineError(
                f"stage {self._stage.name}: {STARTS} workers in a row ended before they could work: "
                f"{how.reason}"
            )

    def _has_failed(self, actor: _Actor, call: Call, how: Outcome, attempts: Attempts) -> None:
        if how.end is End.DIED and actor.node not in {node["NodeID"] for node in alive_nodes()}:
            how = Outcome(End.LOST, reason=LOST)
        failed(attempts, call, how)
        actor.failures += 1
        if how.end is not End.RAISED or actor.failures >= _FAILURES:
            for _, behind in actor.calls:
                attempts.put_back(behind)
            self._end(actor)

    def _end(self, actor: _Actor) -> None:
        import ray

        self._actors.remove(actor)
        if ray.is_initialized():
            ray.kill(actor.handle)
