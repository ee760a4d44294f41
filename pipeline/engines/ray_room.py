"""What a Ray cluster has room for, and what became of a call that did not return."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, NamedTuple

from ..stage import EngineError, Resources
from .attempts import DIED, Attempts, Call
from .ray_worker import Done, Raised

ROOM_SECONDS: Final = 300  # for a cluster to grow a machine that a stage needs: our choice
DEATHS: Final = 4  # of the worker of a call, until it is given up
LOSSES: Final = 8  # of the machine under a call; with the pauses between them a minute
_CACHED_SECONDS: Final = 1.0

SHORT_OF_MEMORY: Final = (
    "Ray ended its worker because the machine ran short of memory; a step that says "
    "`resources: {memory: ...}` has that much for each of its tasks"
)
LOST: Final = "the machines it ran on were lost, one after the other"


class End(Enum):
    """How a call ended."""

    DONE = "done"
    RAISED = "raised"
    DIED = "died"  # its process did
    LOST = "lost"  # the machine went away under it


class Outcome(NamedTuple):
    """The end of a call, with what it returned or why it failed."""

    end: End
    value: Any = None
    reason: str = ""


def outcome(ref: Any) -> Outcome:
    """How the call behind a reference, which is ready, ended."""
    import ray
    from ray import exceptions

    try:
        told = ray.get(ref)
    except exceptions.OutOfMemoryError:
        return Outcome(End.DIED, reason=SHORT_OF_MEMORY)
    except (exceptions.WorkerCrashedError, exceptions.TaskCancelledError):
        return Outcome(End.DIED, reason=DIED)
    except exceptions.RayActorError as error:
        if isinstance(error, exceptions.ActorUnavailableError):
            return Outcome(End.LOST, reason=LOST)
        if error.actor_init_failed:
            return Outcome(End.RAISED, reason=str(error).strip().splitlines()[-1])
        short = "running low on memory" in str(error)
        return Outcome(End.DIED, reason=SHORT_OF_MEMORY if short else DIED)
    except exceptions.RayTaskError as error:
        return Outcome(End.RAISED, reason=f"{type(error.cause).__name__}: {error.cause}")
    except exceptions.AuthenticationError as error:
        raise EngineError(f"the Ray cluster refuses this driver: {error}") from error
    except exceptions.RayError:  # the node is gone, or what was returned went with it
        return Outcome(End.LOST, reason=LOST)
    if isinstance(told, Done):
        return Outcome(End.DONE, value=told.value)
    assert isinstance(told, Raised)
    return Outcome(End.RAISED, reason=told.reason)


def failed(attempts: Attempts, call: Call, how: Outcome) -> None:
    """Counts a call that failed and, where it may be made again, puts it back; after a death not at once, as
    a machine that is going down takes some time to be known."""
    if how.end is End.RAISED:
        if attempts.raised(call, how.reason):
            attempts.put_back(call)
    elif how.end is End.DIED:
        if attempts.died(call, how.reason):
            attempts.put_back(call, after=0.1 * 2 ** attempts.times(call))
    elif attempts.lost(call, how.reason):
        attempts.put_back(call, after=min(15.0, 0.5 * 2 ** attempts.times(call)))


def alive_nodes() -> list[dict[str, Any]]:
    """The machines of the cluster, as Ray describes them."""
    import ray

    ask: Callable[[], list[dict[str, Any]]] = ray.nodes
    return [node for node in ask() if node["Alive"]]


def options(resources: Resources) -> dict[str, Any]:
    """What a task or an actor asks Ray for."""
    asked: dict[str, Any] = {"num_cpus": resources.cpus}
    if resources.gpus:
        asked["num_gpus"] = resources.gpus
    if resources.memory:
        asked["memory"] = resources.memory
    return asked


class Room:
    """The machines of the cluster, as they were a moment ago."""

    def __init__(self, *, grows: bool) -> None:
        self._grows = grows
        self._asked = -_CACHED_SECONDS
        self._machines: list[dict[str, float]] = []
        self._lacking_since: float | None = None

    def cores(self) -> int:
        """Of all machines together."""
        return int(sum(machine.get("CPU", 0.0) for machine in self._look()))

    def fits(self, resources: Resources) -> int:
        """How many more tasks or actors could start now, about: what Ray says is a moment old."""
        import ray

        ask: Callable[[], dict[str, float]] = ray.available_resources
        free = ask()
        needed = _needed(resources)
        return min((int(free.get(name, 0.0) // amount) for name, amount in needed.items()), default=0)

    def check(self, stage: str, resources: Resources) -> None:
        """Raises EngineError where no machine is large enough, and none comes that is."""
        needed = _needed(resources)
        machines = self._look()
        if any(all(has.get(name, 0.0) >= n for name, n in needed.items()) for has in machines):
            self._lacking_since = None
            return
        now = time.monotonic()
        self._lacking_since = self._lacking_since or now
        if self._grows and now - self._lacking_since < ROOM_SECONDS:
            return
        asked = ", ".join(f"{name} {amount:g}" for name, amount in needed.items())
        best = "; ".join(sorted({_told(machine, needed) for machine in machines})) or "there is none"
        raise EngineError(
            f"stage {stage}: no machine of the Ray cluster has what one task needs ({asked}); the machines "
            f"have: {best}. Change the step's `resources` or the cluster; what is committed stays"
        )

    def _look(self) -> list[dict[str, float]]:
        if time.monotonic() - self._asked >= _CACHED_SECONDS:
            self._machines = [node["Resources"] for node in alive_nodes()]
            self._asked = time.monotonic()
        return self._machines


def _needed(resources: Resources) -> dict[str, float]:
    needed = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": float(resources.memory)}
    return {name: amount for name, amount in needed.items() if amount}


def _told(machine: dict[str, float], needed: dict[str, float]) -> str:
    return ", ".join(f"{name} {machine.get(name, 0.0):g}" for name in needed)
