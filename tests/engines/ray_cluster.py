"""Ray clusters on this machine for tests: real nodes, on the loopback interface only, that can be killed."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

OBJECT_STORE = 80 << 20  # Ray takes no less than 75 MiB
STARTS = 3  # attempts
WORKER = "ray::"  # how the titles of processes begin that Ray's nodes start
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::IDLE")

# With these a node that is gone is known to be within some seconds; Ray's own defaults take half a minute.
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 4,
}

# A node that is started by itself, as `ray start` refuses the loopback interface for more than one node.
_NODE = """
import json, sys, time
import ray._private.ray_constants
ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
from ray._private.node import Node
from ray._private.parameter import RayParams
node = Node(RayParams(**json.loads(sys.argv[1])), head=False, shutdown_at_exit=True, spawn_reaper=True)
print(node.unique_id, node.node_id, flush=True)
while not node.dead_processes():
    time.sleep(0.2)
"""


@dataclass
class RayNode:
    """A node: its raylet is the parent of all that runs on it."""

    id: str  # as Ray lists it
    directory: Path  # TMPDIR of its workers: no other node writes there
    raylet: psutil.Process
    _end: Callable[[], None] = field(repr=False)

    @property
    def is_alive(self) -> bool:
        return self.raylet.is_running() and self.raylet.status() != psutil.STATUS_ZOMBIE

    def processes(self) -> list[psutil.Process]:
        """The processes of workers that run a task or are actors."""
        try:
            children = self.raylet.children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [process for process in children if _title(process).startswith(WORKER) and not _idle(process)]

    def kill(self) -> None:
        """Ends the node as a power failure would: raylet and workers, by SIGKILL."""
        try:
            doomed = [self.raylet, *self.raylet.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in doomed:
            _kill(process)
        self._end()
        psutil.wait_procs(doomed, timeout=10)


class RayCluster:
    """A head without cores, to which drivers connect, and `nodes`, which do the work."""

    def __init__(self, cluster: Any, root: Path, environment: Mapping[str, str]) -> None:
        self._cluster, self._root, self._environment = cluster, root, dict(environment)
        self.address: str = cluster.address
        self.nodes: list[RayNode] = []

    @property
    def environment(self) -> dict[str, str]:
        """For the process of a driver: it finds the cluster as if it ran in it."""
        loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        return {**os.environ, **self._environment, **loopback, "RAY_ADDRESS": self.address}

    def add_node(self, cpus: float = 1, gpus: float = 0, *, hide: Sequence[Path] = ()) -> RayNode:
        """Starts a node and waits until the cluster knows it.

        With `hide` it lives in a mount namespace of its own, where these folders are empty: as on a machine
        that does not have them. Needs the right to make one (`can_hide`).
        """
        directory = self._root / f"n{len(self.nodes)}"
        directory.mkdir()
        environment = {**self._environment, "TMPDIR": str(directory)}
        described: dict[str, Any] = {
            **_common(),
            "num_cpus": cpus,
            "num_gpus": gpus,
            "env_vars": environment,
        }
        node = self._hidden(described, hide, directory) if hide else self._plain(described, directory)
        self.nodes.append(node)
        return node

    def _plain(self, described: dict[str, Any], directory: Path) -> RayNode:
        node = self._cluster.add_node(**described)

        def end() -> None:
            node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
            self._cluster.worker_nodes.discard(node)

        return RayNode(node.node_id, directory, _raylet_of(node), end)

    def _hidden(self, described: dict[str, Any], hide: Sequence[Path], directory: Path) -> RayNode:
        import json

        described |= {
            "gcs_address": self.address,
            "redis_address": self.address,
            "min_worker_port": 0,
            "max_worker_port": 0,
            "dashboard_agent_listen_port": None,
            "object_store_memory": OBJECT_STORE,
        }
        mounts = " && ".join(f"mount -t tmpfs none '{folder}'" for folder in hide)
        script = f'{mounts} && exec "$0" -c "$1" "$2"'
        command = ["unshare", "-m", "sh", "-c", script, sys.executable, _NODE, json.dumps(described)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert process.stdout is not None
        _, _, id_ = process.stdout.readline().strip().partition(" ")
        assert id_, "the node did not start"

        def end() -> None:
            process.kill()
            process.wait()

        children = psutil.Process(process.pid).children()
        (raylet,) = [child for child in children if "raylet" in Path(child.cmdline()[0]).name]
        return RayNode(id_, directory, raylet, end)

    def processes(self) -> list[psutil.Process]:
        """The processes that run a task or are actors, of all nodes."""
        return [process for node in self.nodes if node.is_alive for process in node.processes()]

    def titles(self) -> list[str]:
        """What these processes call themselves; "" of one that has just ended."""
        return [_title(process) for process in self.processes()]

    def wait_for_process(self, title: str = "", timeout: float = 30) -> tuple[RayNode, psutil.Process]:
        """The first process that works and has `title` in its title, and its node."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for node in self.nodes:
                for process in node.processes() if node.is_alive else ():
                    if title in _title(process):
                        return node, process
            time.sleep(0.02)
        raise AssertionError(f"no worker with {title!r} in its title within {timeout} s")

    def kill_a_task(self, title: str = "") -> None:
        """Kills the process of a task or an actor, by SIGKILL."""
        _kill(self.wait_for_process(title)[1])

    def close(self) -> None:
        """Ends every process of the cluster, by its id."""
        for node in self.nodes:
            if node.is_alive:
                node.kill()
        self._cluster.shutdown()


def can_hide() -> bool:
    """Whether this machine lets a test have mounts of its own."""
    if shutil.which("unshare") is None:
        return False
    asked = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _head(root: Path, settings: Mapping[str, Any]) -> Any:
    """A cluster of nothing but its head, which on a machine with other work may not be up in Ray's time."""
    from ray.cluster_utils import Cluster

    for attempt in range(STARTS):
        cluster = Cluster()
        head = {**_common(), "num_cpus": 0, "num_gpus": 0, "temp_dir": str(root / "ray")}
        try:
            cluster.add_node(**head, no_monitor=True, _system_config=dict(settings))
        except RuntimeError:
            cluster.shutdown()
            if attempt == STARTS - 1:
                raise
        else:
            return cluster
    raise AssertionError("one attempt returns or raises")


@contextmanager
def ray_cluster(
    nodes: int = 3,
    cpus: float = 1,
    gpus: float = 0,
    *,
    environment: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[RayCluster]:
    """`nodes` nodes with so many cores, each with a private TMPDIR, beside a head without cores.

    `environment` is that of every worker (where S3 is, and its keys); `settings` are Ray's own. Drivers in
    this process connect by `address`.
    """
    pytest.importorskip("ray", reason="the Ray engine needs Ray")
    with _loopback() as root:
        cluster = _head(root, {**HEALTH, **(settings or {})})
        started = None
        try:
            started = RayCluster(cluster, root, environment or {})
            for _ in range(nodes):
                started.add_node(cpus, gpus)
            yield started
        finally:
            if started is not None:
                started.close()
            else:
                cluster.shutdown()


@contextmanager
def single_node(cpus: float = 2, gpus: float = 0, **more: Any) -> Iterator[RayCluster]:
    """One node with all the cores."""
    with ray_cluster(1, cpus, gpus, **more) as cluster:
        yield cluster


def _common() -> dict[str, Any]:
    return {
        "node_ip_address": "127.0.0.1",
        "object_store_memory": OBJECT_STORE,
        "include_dashboard": False,
        "include_log_monitor": False,
    }


@contextmanager
def _loopback() -> Iterator[Path]:
    """Ray in this process takes 127.0.0.1 for the machine's address; a folder for all that it leaves.

    The folder has a short name: that of a socket in it must not exceed 107 bytes.
    """
    from ray._private import ray_constants
    from ray._private.authentication_test_utils import reset_auth_token_state

    root = Path(tempfile.mkdtemp(prefix="ray"))
    if len(str(root)) > 36:
        root.rmdir()
        root = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    if "RAY_AUTH_TOKEN" not in os.environ:
        # For as long as this process lives: threads of a cluster that has ended may still ask for it.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        reset_auth_token_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
        patch.setenv("RAY_TMPDIR", str(root))  # where Ray notes the address of the last cluster
        patch.delenv("RAY_ADDRESS", raising=False)
        try:
            yield root
        finally:
            shutil.rmtree(root, ignore_errors=True)


def _raylet_of(node: Any) -> psutil.Process:
    from ray._private import ray_constants

    (info,) = node.all_processes[ray_constants.PROCESS_TYPE_RAYLET]
    return psutil.Process(info.process.pid)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def _idle(process: psutil.Process) -> bool:
    return _title(process).startswith(AGENTS)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
