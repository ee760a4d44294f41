"""The connection of this process to a Ray cluster, which all engines of the process share."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ..stage import EngineError

CONNECT_SECONDS: Final = 60  # for a cluster to answer: our choice; on one machine it takes less than one
STARTS: Final = 3  # of a cluster of our own: on a busy machine it takes Ray longer than Ray waits
OBJECT_STORE: Final = 128 << 20  # only descriptions of tasks and commits go through it
_LONGEST_FOLDER: Final = 40  # of bytes: a name of a socket has 107, and Ray's own part of it 66
_PREFIX: Final = "thresher-ray-"
_ADDRESS: Final = re.compile(r"\[?([^\]]+?)\]?:([0-9]+)")

_lock = threading.Lock()
_users = 0  # engines that use the connection which this module has opened
_folder: Path | None = None  # of the cluster that this module has started


class Connection:
    """Says whose cluster it is; `close` ends what this module has opened, when nobody else uses it."""

    def __init__(self, *, ours: bool, local: bool) -> None:
        self._ours = ours
        self.is_local = local  # a cluster for this run, which will not grow

    def close(self) -> None:
        """Ends the connection, and a cluster that was started for it."""
        global _users, _folder
        if not self._ours:
            return
        self._ours = False
        with _lock:
            _users -= 1
            if _users:
                return
            import ray

            ray.shutdown()
            if _folder is not None:
                shutil.rmtree(_folder, ignore_errors=True)
                _folder = None


def connect(address: str, workers: int) -> Connection:
    """Connects to the cluster at `address`, else at RAY_ADDRESS, else to a new one on this machine with
    `workers` cores. What the process is connected to already is used, and left as it is.

    Raises EngineError where there is no Ray, or no answer within CONNECT_SECONDS.
    """
    global _users
    try:
        import ray
    except ImportError as error:
        raise EngineError(
            f"engine ray needs Ray, which is not installed here ({error}): pip install ray"
        ) from error
    with _lock:
        if _users or not ray.is_initialized():
            if not _users:
                address = address or os.environ.get("RAY_ADDRESS", "")
                _open(address, workers)
            _users += 1
            return Connection(ours=True, local=_folder is not None)
        return Connection(ours=False, local=False)


def _open(address: str, workers: int) -> None:
    global _folder
    if not address or address == "local":
        for remaining in reversed(range(STARTS)):
            _folder = _make_folder()
            try:
                _start(workers, _folder)
                return
            except BaseException as error:
                _end_processes(_folder)
                shutil.rmtree(_folder, ignore_errors=True)
                _folder = None
                if not isinstance(error, Exception):
                    raise
                if not remaining:
                    told = f"no Ray cluster can be started on this machine: {_line(error)}"
                    raise EngineError(told) from error
    if "://" in address:
        raise EngineError(
            f"{address}: the driver of a run is part of the cluster; give the address that `ray start` told "
            "(host:6379) or auto, or send the job there with `thresher submit`"
        )
    _knock(address)
    _join(address)


def _start(workers: int, folder: Path) -> None:
    import ray

    with _loopback():
        # In this thread: Linux ends the processes of the cluster with the thread that started them.
        ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            _temp_dir=str(folder),
            **_quiet(),
        )


def _end_processes(folder: Path) -> None:
    """Ends what a start that failed has left behind: each is told the folder."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.fsencode(folder) in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def _join(address: str) -> None:
    """In a thread of its own, as Ray waits for minutes where something else listens at the address."""
    import ray

    failed: list[BaseException] = []

    def work() -> None:
        try:
            ray.init(address=address, **_quiet())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="thresher-ray-connect", daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if thread.is_alive():
        raise EngineError(f"{address}: no Ray cluster answers within {CONNECT_SECONDS} seconds")
    if failed:
        raise EngineError(f"{address}: cannot connect to the Ray cluster: {_line(failed[0])}") from failed[0]


def _quiet() -> dict[str, Any]:
    """What a person sees of a run is ours: Ray's own messages stay in its log files."""
    import ray._private.worker as driver

    if hasattr(driver, "print_to_stdstream"):
        driver.print_to_stdstream = lambda *message, **how: None
    return {"logging_level": logging.ERROR, "log_to_driver": False}


def _knock(address: str) -> None:
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), timeout=CONNECT_SECONDS / 6).close()
    except OSError as error:
        raise EngineError(
            f"{address}: no Ray cluster answers ({error.strerror or error}); is run.ray.address right, "
            "and does the cluster run?"
        ) from error


@contextmanager
def _loopback() -> Iterator[None]:
    """A cluster for one run is nobody else's: it listens only where this machine alone reaches it.

    Ray has that for systems where it does not support clusters of several machines, under one name for the
    processes that it starts and another in this one.
    """
    from ray._private import ray_constants

    variable = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    several, told = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(variable)
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[variable] = "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = several
        del os.environ[variable]
        if told is not None:
            os.environ[variable] = told


def _make_folder() -> Path:
    """For the cluster's sockets and logs; what killed runs have left goes."""
    parent = Path(tempfile.gettempdir())
    if len(os.fsencode(parent / f"{_PREFIX}1234567-12345678")) > _LONGEST_FOLDER:
        parent = Path("/tmp")
    for left in parent.glob(f"{_PREFIX}*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        with suppress(OSError):
            if owner.isdigit() and left.stat().st_uid == os.getuid() and not Path(f"/proc/{owner}").exists():
                shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))


def _line(error: BaseException) -> str:
    """The first line of what an error says: Ray's are pages."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
