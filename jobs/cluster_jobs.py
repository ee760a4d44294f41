"""Jobs on a Ray cluster, through the HTTP service of its dashboard: submitted, followed, stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DASHBOARD_PORT: Final = 8265
CLIENT_PORT: Final = 10001
STOPPED: Final = 130
FAILED: Final = 1
_CONNECT_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 1.0
# Attempts to go on with a log whose connection broke.
_PATIENCE: Final = 5
# Ray lets these replace the address that it is given.
_ADDRESSES: Final = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
# Loggers of Ray's that tell of every upload and every closed connection.
_TALKATIVE: Final = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
# The exit status with which a shell says so.
_NO_COMMAND: Final = 127
_ENDED: Final = ("SUCCEEDED", "FAILED", "STOPPED")


class ClusterError(Exception):
    """A cluster cannot be asked, or does not do what it is asked; the message says what to do."""


@dataclass(frozen=True)
class Address:
    """The dashboard of a cluster; `note` says so where another address was given for it."""

    url: str
    note: str = ""

    @classmethod
    def of(cls, given: str) -> Address:
        """The dashboard of http://HOST:PORT, or of the cluster that ray://HOST:PORT is a client port of.

        Jobs are submitted by HTTP. ray:// is the protocol of Ray Client, which takes the very same versions
        of Python and Ray on both sides; what it names is the host, where the dashboard is on port 8265.
        Raises ClusterError.
        """
        parts = urlsplit(given)
        try:
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ClusterError(f"--to {given}: {error}") from None
        if parts.scheme not in ("http", "https", "ray") or not host:
            raise ClusterError(
                f"--to {given}: write http://HOST:{DASHBOARD_PORT}, the address of the cluster's dashboard, "
                f"or ray://HOST:{CLIENT_PORT}"
            )
        if parts.scheme != "ray":
            return cls(given.rstrip("/"))
        url = f"http://{f'[{host}]' if ':' in host else host}:{DASHBOARD_PORT}"
        if port == DASHBOARD_PORT:
            return cls(url)
        return cls(
            url,
            f"{given} is the port of Ray Client; jobs are submitted to the dashboard, so to {url} "
            "(where it has another port, give its http:// address)",
        )


def find_token(file: Path | None = None) -> str:
    """The token of a cluster, or "": of `file`, RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token.

    Ray itself looks for it in the last three. Raises ClusterError where a file that is named has none.
    """
    given = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    if file is None and given:
        return given
    named = str(file or "") or os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        if not named:
            return ""
        raise ClusterError(f"no token in {path}: {getattr(error, 'strerror', None) or error}") from None
    if named and not token:
        raise ClusterError(f"no token in {path}: the file is empty")
    return token


class Cluster:
    """A Ray cluster that takes jobs. Methods raise ClusterError."""

    def __init__(
        self, address: Address, headers: Mapping[str, str] | None = None, token_file: Path | None = None
    ) -> None:
        self.address = address.url
        sent = dict(headers or {})
        if not any(name.lower() == "authorization" for name in sent):
            token = find_token(token_file)
            if token:
                sent["Authorization"] = f"Bearer {token}"
        self._has_token = any(name.lower() == "authorization" for name in sent)
        self._client = self._connect(sent)

    def submit(self, command: Sequence[str], environment: Mapping[str, Any], name: str) -> str:
        """Starts a command in a runtime environment of Ray's; returns the id of the job."""
        with self._told(f"the job {name} was not submitted"):
            return str(
                self._client.submit_job(
                    entrypoint=shlex.join(command), runtime_env=dict(environment), metadata={"thresher": name}
                )
            )

    def status(self, job: str) -> dict[str, Any]:
        """What the cluster says of a job: `state`, `exit` (None while it runs), `message`, times."""
        with self._told(job):
            return _described(self._client.get_job_info(job))

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs that were submitted to the cluster, the oldest first."""
        with self._told("the list of jobs"):
            found = [_described(one) for one in self._client.list_jobs() if one.submission_id]
        return sorted(found, key=lambda one: str(one["started"]))

    def stop(self, job: str) -> bool:
        """Interrupts a job; False where it does not run."""
        with self._told(job):
            return bool(self._client.stop_job(job))

    def log(self, job: str) -> str:
        """What a job has printed so far."""
        with self._told(job):
            return str(self._client.get_job_logs(job))

    def follow(self, job: str, show: Callable[[str], None]) -> dict[str, Any]:
        """Shows what a job prints until it ends; returns its status then."""
        shown = failures = 0

        def show_new(text: str) -> None:
            nonlocal shown
            shown += len(text)
            show(text)

        while True:
            before = shown
            try:
                asyncio.run(self._tail(job, show_new, shown))
            except Exception:
                # The connection may break while the job goes on; the next one begins the log again.
                failures = 0 if shown > before else failures + 1
                if failures > _PATIENCE:
                    raise
            status = self.status(job)
            if status["state"] in _ENDED:
                with suppress(ClusterError):
                    rest = self.log(job)[shown:]
                    if rest:
                        show(rest)
                return status
            time.sleep(_POLL_SECONDS)

    async def _tail(self, job: str, show: Callable[[str], None], skip: int) -> None:
        """Shows the log beyond its first `skip` characters, as it grows."""
        seen = 0
        with self._told(job):
            async for piece in self._client.tail_job_logs(job):
                new = piece[max(skip - seen, 0) :]
                seen += len(piece)
                if new:
                    show(new)

    def _connect(self, headers: Mapping[str, str]) -> JobSubmissionClient:
        try:
            from ray.job_submission import JobSubmissionClient
        except ImportError as error:
            raise ClusterError(
                f"submitting takes Ray with its dashboard ({error}): pip install 'thresher[ray]'"
            ) from None
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        _reach(self.address)
        kept = {name: os.environ.pop(name) for name in _ADDRESSES if name in os.environ}
        try:
            with self._told("the cluster"):
                return JobSubmissionClient(self.address, headers=dict(headers))
        finally:
            os.environ.update(kept)

    @contextmanager
    def _told(self, subject: str) -> Iterator[None]:
        try:
            yield
        except ClusterError:
            raise
        except Exception as error:  # of Ray, of requests and of aiohttp, which Ray lets through
            raise ClusterError(self._explain(error, subject)) from error

    def _explain(self, error: Exception, subject: str) -> str:
        text, status = str(error), _status_of(error)
        if status in (401, 403) or type(error).__name__ == "AuthenticationError":
            missing = (
                "the token that was sent is not the cluster's"
                if self._has_token
                else "no token was found to send"
            )
            return (
                f"{self.address} refuses access: {missing}; it takes RAY_AUTH_TOKEN, --token-file, or what "
                "its proxy asks for with --header NAME=VALUE (`ray get-auth-token` prints it on the cluster)"
            )
        if status == 404 and ("does not exist" in text or "/logs/tail" in text):
            return (
                f"there is no job {subject} on {self.address}; "
                f"`thresher jobs status --to {self.address}` lists those that there are"
            )
        if "ray[default]" in text:
            return "submitting takes Ray with its dashboard: pip install 'thresher[ray]'"
        if status == 413 or "exceeds the maximum size" in text:
            return f"{subject}: the cluster does not take packages of this size; put large files in a store"
        if status in (None, 404) or isinstance(error, ValueError):
            why = "404, not found" if status == 404 else _first_line(text)
            return (
                f"{self.address} does not answer as a Ray dashboard does ({why}); give --to "
                f"the address that `ray start --head` prints for it, as in http://HOST:{DASHBOARD_PORT}"
            )
        return f"{subject}: {self.address} answers with {_first_line(text)}"


def exit_status(status: Mapping[str, Any]) -> int:
    """The exit status of the job behind a status; of one that a signal ended, as a shell tells it."""
    code = status["exit"]
    if status["state"] == "STOPPED":
        return STOPPED
    if status["state"] == "SUCCEEDED":
        return 0
    return FAILED if not code else 128 - code if code < 0 else int(code)


def told(status: Mapping[str, Any]) -> str:
    """A status as one or two lines of text."""
    ended = "" if status["exit"] is None else f", exit status {exit_status(status)}"
    times = " to ".join(str(status[key]) for key in ("started", "ended") if status[key])
    first = f"{status['job']}  {status['name'] or '-'}  {status['state']}{ended}  {times}".rstrip()
    if status["state"] != "FAILED" or status["exit"] not in (None, _NO_COMMAND):
        return first
    # Where the job itself ran and failed, its log says why.
    why = "there is no such command on the cluster; see --python" if status["exit"] else status["message"]
    return f"{first}\n  {_first_line(why)}"


def _described(info: Any) -> dict[str, Any]:
    return {
        "job": info.submission_id or info.job_id,
        "name": (info.metadata or {}).get("thresher", ""),
        "state": str(getattr(info.status, "value", info.status)),
        "exit": info.driver_exit_code,
        "message": info.message or "",
        "started": _time(info.start_time),
        "ended": _time(info.end_time),
        "command": info.entrypoint,
    }


def _time(milliseconds: int | None) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _reach(url: str) -> None:
    """Raises ClusterError where nothing listens; without it a wrong host takes minutes to be noticed."""
    from requests.utils import get_environ_proxies

    if get_environ_proxies(url):
        return
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((str(parts.hostname), port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"nothing answers at {url} ({error.strerror or error}); give --to the address of the cluster's "
            f"dashboard, as in http://HOST:{DASHBOARD_PORT}. `ray start --head` opens it to this machine "
            "alone: from another one use --dashboard-host there, or forward its port"
        ) from None


def _status_of(error: Exception) -> int | None:
    """The HTTP status that lies behind an error."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None) or getattr(error, "status", None)
    if isinstance(status, int):
        return status
    match = re.search(r"status code (\d{3})|check returned (\d{3})", str(error))
    return int(match[1] or match[2]) if match else None


def _first_line(text: str) -> str:
    """What went wrong, of a message that may be a traceback."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()] or ["no reason"]
    line = lines[-1] if any(one.startswith("Traceback") for one in lines) else lines[0]
    return line if len(line) <= 300 else line[:297] + "..."
