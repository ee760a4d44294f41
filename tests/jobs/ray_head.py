"""A Ray cluster of one machine with a dashboard and a token: real processes that listen on loopback alone."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

START_SECONDS = 90
# However the tests end, the cluster does not outlive this.
LIFE_SECONDS = 600


@dataclass(frozen=True)
class RayHead:
    """Where the cluster is and what opens it."""

    dashboard: str
    token: str


@contextmanager
def ray_head() -> Iterator[RayHead]:
    """A cluster for as long as the context is open."""
    token = secrets.token_hex(32)
    # Paths of its sockets must be short, so it does not go where tests keep their files.
    folder = Path(tempfile.mkdtemp(prefix="thr-", dir="/tmp"))
    gcs, dashboard, client, agent = _free_ports(4)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "HOME": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        # The only way to a node on 127.0.0.1, which then binds no other interface.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    command = ["timeout", str(LIFE_SECONDS), "ray", "start", "--head", "--block", "--disable-usage-stats"]
    command += [
        f"--port={gcs}",
        f"--ray-client-server-port={client}",
        f"--dashboard-agent-listen-port={agent}",
    ]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--num-cpus=2"]
    command += ["--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=80000000"]
    command += [f"--temp-dir={folder}"]
    with (folder / "start.log").open("wb") as log:
        started = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        _wait(started, dashboard, folder / "start.log")
        yield RayHead(f"http://127.0.0.1:{dashboard}", token)
    finally:
        started.send_signal(signal.SIGSTOP)  # so that it starts nothing in the place of what ends
        for process in psutil.Process(started.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        started.kill()
        started.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(started: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and started.poll() is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0 and "runtime started" in log.read_text():
                return
        time.sleep(0.2)
    raise AssertionError(f"the cluster did not start: {log.read_text()}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
