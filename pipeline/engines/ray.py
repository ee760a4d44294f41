"""The Ray engine: tasks on the machines of a cluster, actors for stages that own a model."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ...schemas.engines import Ray
from ..stage import Committed, EngineError, Probe, Stage, TaskId
from .attempts import Attempts, Call, map_calls, reduce_calls, send_calls
from .ray_actors import ActorPool
from .ray_connection import Connection, connect
from .ray_room import DEATHS, LOSSES, End, Room, alive_nodes, failed, options, outcome
from .ray_worker import Orders, Seen, execute, look, versions

PROBE_SECONDS: Final = 120  # for a worker to start and import us on every machine: our choice
_PAUSE_SECONDS: Final = 1.0
_TOLD: Final = 3  # machines of which a message tells one by one


class RayEngine:
    """Runs tasks on a Ray cluster.

    What a part is read from and what is sent between tasks lies in the work directory, which every machine
    reaches: through Ray go descriptions of tasks and their commits. Tries are counted here, as Ray cannot
    tell a task that kills its worker from one whose machine was lost.
    """

    def __init__(self, settings: Ray, workers: int, run: str, kernels: Sequence[str] = ()) -> None:
        # `kernels` are for engines that fork their workers: here each process loads what its tasks ask for.
        self._settings, self._workers, self._run = settings, workers, run
        self._connection: Connection | None = None
        self._room = Room(grows=True)
        self._at_work: list[Generator[Any, None, None]] = []

    def check(self, probe: Probe) -> None:
        """See Engine.check. One worker on every machine that has cores answers."""
        self._connect()
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task = ray.remote(look)
        asked: dict[Any, dict[str, Any]] = {}
        for node in _machines():
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            how = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": there, "name": "thresher:probe"}
            asked[task.options(**how).remote(self._orders(), probe)] = node
        if not asked:
            return
        _, late = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
        complaints = [
            told
            for ref, node in asked.items()
            if (told := _silent(node) if ref in late else _complaint(ref, node)) is not None
        ]
        if complaints:
            more = f"; and {len(complaints) - _TOLD} more" if len(complaints) > _TOLD else ""
            raise EngineError("; ".join(complaints[:_TOLD]) + more)

    def run(self, stage: Stage, todo: Sequence[TaskId]) -> Iterator[Committed]:
        """See Engine.run."""
        if not todo:
            return
        self._connect()
        if stage.reduce is None:
            yield from self._made(stage, map_calls(stage, todo), len(todo))
            return
        parts = sum(len(source.parts) for source in stage.inputs.values())
        for _ in self._made(stage, send_calls(stage), parts):
            pass
        plain = replace(stage, resources=replace(stage.resources, actors=None, gpus=0.0))
        yield from self._made(plain, reduce_calls(stage, todo), len(todo), of_parts=False)

    def close(self) -> None:
        """Ends what runs, and the cluster where it was started for this engine."""
        while self._at_work:
            self._at_work.pop().close()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _connect(self) -> None:
        if self._connection is None:
            self._connection = connect(self._settings.address, self._workers)
            self._room = Room(grows=not self._connection.is_local)

    def _orders(self, stage: Stage | None = None) -> Orders:
        cpus = stage.resources.cpus if stage is not None else 1.0
        return Orders(self._run, tuple(sys.path), max(1, int(cpus)))

    def _made(
        self, stage: Stage, calls: Iterable[Call], most: int, *, of_parts: bool = True
    ) -> Iterator[Any]:
        """Makes the calls and yields what they return; ends what still runs, where nobody asks for more."""
        attempts = Attempts(stage.name, calls, of_parts, deaths=DEATHS, losses=LOSSES)
        if stage.owns_model:
            made = ActorPool(stage, self._orders(stage), self._room, most).complete(attempts)
        else:
            made = self._in_tasks(stage, attempts)
        self._at_work.append(made)
        try:
            yield from made
        finally:
            made.close()
            if made in self._at_work:
                self._at_work.remove(made)

    def _in_tasks(self, stage: Stage, attempts: Attempts) -> Generator[Any, None, None]:
        import ray

        named = {"name": f"thresher:{stage.name}", "max_retries": 0, **options(stage.resources)}
        task = ray.remote(execute).options(**named)
        orders = self._orders(stage)
        running: dict[Any, Call] = {}
        finished: list[Any] = []
        try:
            while True:
                while len(running) < self._window() and (call := attempts.take()) is not None:
                    running[task.remote(orders, call.work, call.arguments)] = call
                yield from finished
                if not running and attempts.is_over:
                    break
                finished = self._collect(stage, attempts, running)
        finally:
            if ray.is_initialized():
                for ref in running:
                    ray.cancel(ref, force=True)
        attempts.end()

    def _collect(self, stage: Stage, attempts: Attempts, running: dict[Any, Call]) -> list[Any]:
        """Waits until a task ends, or a moment, and returns what tasks have returned."""
        import ray

        if not running:
            time.sleep(min(attempts.pause(), _PAUSE_SECONDS))
            return []
        done, _ = ray.wait(list(running), num_returns=1, timeout=_PAUSE_SECONDS)
        if not done:
            self._room.check(stage.name, stage.resources)
            return []
        done, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
        finished: list[Any] = []
        for ref in done:
            call = running.pop(ref)
            how = outcome(ref)
            if how.end is End.DONE:
                finished.append(how.value)
            else:
                failed(attempts, call, how)
        return finished

    def _window(self) -> int:
        """Tasks that may be in flight: enough for all cores to find the next one waiting."""
        return self._settings.window or max(2, 2 * self._room.cores())


def _machines() -> list[dict[str, Any]]:
    """Those that work can be given to: a head may be without cores."""
    return [node for node in alive_nodes() if node["Resources"].get("CPU") or node["Resources"].get("GPU")]


def _complaint(ref: Any, node: Mapping[str, Any]) -> str | None:
    """Why a machine cannot be given work; None where it can, or has left meanwhile."""
    import ray

    try:
        seen: Seen = ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        return (
            f"{_called(node)} cannot run tasks of this version of thresher: "
            f"{type(error.cause).__name__}: {error.cause}; install the same there, or use `thresher submit`"
        )
    except ray.exceptions.RayError as error:
        if node["NodeID"] not in {machine["NodeID"] for machine in _machines()}:
            return None
        return f"{_called(node)} runs no task: {error}"
    ours = versions()
    differing = [f"{name} {seen.versions[name]}" for name in ours if seen.versions[name] != ours[name]]
    if differing:
        here = ", ".join(f"{name} {ours[name]}" for name in ours if seen.versions[name] != ours[name])
        return f"{_called(node)} has {', '.join(differing)}, the driver {here}; results could differ"
    return seen.told


def _silent(node: Mapping[str, Any]) -> str | None:
    if node["NodeID"] not in {machine["NodeID"] for machine in _machines()}:
        return None
    return f"{_called(node)} started no worker within {PROBE_SECONDS} seconds"


def _called(node: Mapping[str, Any]) -> str:
    return f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"
