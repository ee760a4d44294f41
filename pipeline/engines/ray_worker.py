"""What runs in the worker processes of Ray: calls for tasks, and answers to what the driver asks first."""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from ..probe import answer
from ..stage import Probe, Stage
from ..storage import place
from .threads import limit_threads

_threads = 0  # for which this process has been prepared


class Orders(NamedTuple):
    """What a worker process has to know beside the call."""

    run: str
    paths: tuple[str, ...]  # where the driver finds modules
    threads: int = 1  # for BLAS and torch: the cores of a task


class Done(NamedTuple):
    """What a call returned."""

    value: Any


class Raised(NamedTuple):
    """Why a call failed. As text, because not every exception can travel."""

    reason: str


class Seen(NamedTuple):
    """What a worker says before it gets work."""

    host: str
    versions: dict[str, str]
    told: str | None  # why it cannot read the probe


def execute(orders: Orders, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Done | Raised:
    """Makes a call for a task. Only what ends the process is raised."""
    try:
        _prepare(orders)
        _look_for_work(arguments[0])
        return Done(work(*arguments, orders.run))
    except Exception as error:
        return Raised(f"{type(error).__name__}: {error}")


def look(orders: Orders, probe: Probe) -> Seen:
    """Reads the probe where the work would be done."""
    _prepare(orders)
    return Seen(socket.gethostname(), versions(), answer(probe))


def versions() -> dict[str, str]:
    """Of what two processes must have in common to come to the same result."""
    import pyarrow as pa

    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, "thresher": metadata.version("thresher"), "pyarrow": pa.__version__}


class ModelWorker:
    """The actor of a stage that owns a model: a process of its own, in which operators stay built."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        _prepare(orders)

    def ready(self) -> Done:
        """Answers as soon as the actor lives, with the id of its node."""
        import ray

        return Done(ray.get_runtime_context().get_node_id())

    def execute(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Done | Raised:
        """See `execute`."""
        return execute(self._orders, work, arguments)


def _prepare(orders: Orders) -> None:
    """Ray gives a process to one stage after the other, so this may be the first that asks for so many
    threads, and the first that needs a folder of the driver's."""
    global _threads
    sys.path.extend(path for path in orders.paths if path not in sys.path and os.path.isdir(path))
    if _threads == orders.threads:
        return
    limit_threads(orders.threads)
    _threads = orders.threads


def _look_for_work(stage: Stage) -> None:
    """A machine that joined after the probe may lack the work directory: what it wrote nobody would find."""
    directory = place(stage.directory)
    if isinstance(directory, Path) and not directory.parent.is_dir():
        raise FileNotFoundError(
            f"{socket.gethostname()} cannot reach run.work: {directory.parent} is missing"
        )
