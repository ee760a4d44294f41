"""A job service of Beam and a pool of external workers: real ones, in processes of their own, on loopback.

Run as a script it is what starts them: it keeps their servers from listening on other interfaces.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil

JOB_SERVICE = "apache_beam.runners.portability.local_job_service_main"
WORKER_POOL = "apache_beam.runners.worker.worker_pool_main"
LOOPBACK = "127.0.0.1"
START_SECONDS = 60.0


class BeamServices:
    """The services, what a runner has to be told of them, and ways to end them by force.

    `folder` takes their logs and what is staged; `modules` are folders from which workers import more.
    """

    def __init__(self, folder: Path, modules: tuple[Path, ...] = ()) -> None:
        self._folder, self._modules = folder, modules
        folder.mkdir(parents=True, exist_ok=True)
        self._started: list[subprocess.Popen[bytes]] = []
        self._jobs = self._start(
            "jobs", JOB_SERVICE, ["--port", "0", "--staging_dir", str(folder / "staged")]
        )
        self._pool = self._start("pool", WORKER_POOL, ["--service_port", "0"])
        self.job_port = self._port("jobs", self._jobs)
        self.worker_port = self._port("pool", self._pool)

    @property
    def options(self) -> list[str]:
        """The options of PortableRunner."""
        return [
            f"--job_endpoint={LOOPBACK}:{self.job_port}",
            "--environment_type=EXTERNAL",
            f"--environment_config={LOOPBACK}:{self.worker_port}",
        ]

    def processes(self) -> list[psutil.Process]:
        """All that run, the workers of the pool among them."""
        found = [psutil.Process(one.pid) for one in self._started if one.poll() is None]
        return found + [child for one in found for child in one.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """The processes that run tasks, without those that ended and wait for the pool to notice."""
        if self._pool.poll() is not None:
            return []
        children = psutil.Process(self._pool.pid).children(recursive=True)
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def kill_workers(self) -> int:
        """Kills the pool and every worker, in this order; returns how many workers that were."""
        workers = self.workers()
        self._pool.kill()
        self._pool.wait()
        _kill(workers)
        return len(workers)

    def start_workers(self) -> None:
        """A new pool in the place of the one that was killed."""
        self._pool = self._start("pool", WORKER_POOL, ["--service_port", str(self.worker_port)])
        assert self._port("pool", self._pool) == self.worker_port

    def kill_job_service(self) -> None:
        """Kills the job service, and with it the pipelines that it runs."""
        self._jobs.kill()
        self._jobs.wait()

    def log(self, name: str) -> str:
        """What `jobs` or `pool` has written."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def close(self) -> None:
        """Ends every process."""
        everything = self.processes()
        for started in self._started:
            started.kill()
        _kill(everything)
        for started in self._started:
            started.wait()
            assert started.stdin is not None
            started.stdin.close()

    def _start(self, name: str, module: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        (self._folder / f"{name}.port").unlink(missing_ok=True)
        environment = dict(os.environ)
        # The pool starts workers as `python`, by the path.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
        modules = [str(module) for module in self._modules]
        environment["PYTHONPATH"] = os.pathsep.join([*modules, environment.get("PYTHONPATH", "")]).strip(":")
        command = [sys.executable, "-P", __file__, str(self._folder / f"{name}.port"), module, *arguments]
        with (self._folder / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self._folder,
                start_new_session=True,
            )
        self._started.append(started)
        return started

    def _port(self, name: str, started: subprocess.Popen[bytes]) -> int:
        path = self._folder / f"{name}.port"
        deadline = time.monotonic() + START_SECONDS
        while not path.is_file():
            assert started.poll() is None, f"{name} has ended: {self.log(name)}"
            assert time.monotonic() < deadline, f"{name} does not start: {self.log(name)}"
            time.sleep(0.02)
        return int(path.read_text())


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


@contextmanager
def beam_services(folder: Path, modules: tuple[Path, ...] = ()) -> Iterator[BeamServices]:
    """The services for as long as the context is open. They end with this process, however it ends."""
    services = BeamServices(folder, modules)
    try:
        yield services
    finally:
        services.close()


def _end_with_starter() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def serve_on_loopback(note_port: Callable[[int], None] = lambda port: None) -> None:
    """From now on servers of this process bind loopback, where the stock ones bind `[::]`; workers are told
    that address, and not the name of the machine."""
    import socket

    from grpc import _server

    bind = _server._Server.add_insecure_port

    def bind_loopback(server: _server._Server, address: str) -> int:
        port: int = bind(server, f"{LOOPBACK}:{address.rpartition(':')[2]}")
        note_port(port)
        return port

    _server._Server.add_insecure_port = bind_loopback
    socket.getfqdn = lambda name="": LOOPBACK


def _note_first(port_file: Path, port: int) -> None:
    if not port_file.exists():
        unfinished = port_file.with_suffix(".new")
        unfinished.write_text(str(port))
        unfinished.rename(port_file)


if __name__ == "__main__":
    threading.Thread(target=_end_with_starter, daemon=True).start()
    _, port_file, module, *arguments = sys.argv
    serve_on_loopback(partial(_note_first, Path(port_file)))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
