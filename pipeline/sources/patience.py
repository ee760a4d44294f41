"""How long a remote file is asked for before it is given up."""

from __future__ import annotations

import email.utils
import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

Found = TypeVar("Found")

_VARIABLES: Final = {
    "attempts": "THRESHER_READ_ATTEMPTS",
    "backoff": "THRESHER_READ_BACKOFF",
    "longest": "THRESHER_READ_LONGEST_WAIT",
    "timeout": "THRESHER_READ_TIMEOUT",
}
# What another attempt does not change; by name, exceptions of packages that need not be installed.
_LASTING: Final = (FileNotFoundError, PermissionError, IsADirectoryError, ImportError, ValueError, TypeError)
_LASTING_NAMES: Final = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "FileExpired",
    "ParamValidationError",
}


class ReadError(OSError):
    """A remote file could not be read; the message names its URL. Never a statement about its content."""


class Refused(Exception):
    """The server said no for now (429, 5xx); `wait` is its Retry-After in seconds, if it gave one."""

    def __init__(self, detail: str, wait: float | None = None) -> None:
        super().__init__(detail)
        self.wait = wait


@dataclass(frozen=True)
class Patience:
    """Attempts without progress, seconds of the first wait (each later one is twice as long), the longest
    wait, also where the server asks for more, and seconds without a byte before a connection counts as dead.

    Nothing of it changes what is read, so it comes from the environment and not from the job: the variables
    THRESHER_READ_ATTEMPTS, THRESHER_READ_BACKOFF, THRESHER_READ_LONGEST_WAIT and THRESHER_READ_TIMEOUT.
    """

    attempts: int = 6
    backoff: float = 0.5
    longest: float = 60.0
    timeout: float = 60.0

    @classmethod
    def from_environment(cls) -> Patience:
        """The defaults, with what the environment sets. Raises ReadError for what is not a number."""
        given: dict[str, float] = {}
        for name, variable in _VARIABLES.items():
            if value := os.environ.get(variable):
                try:
                    given[name] = float(value)
                except ValueError as error:
                    raise ReadError(f"{variable}={value}: is not a number") from error
        attempts = int(given.pop("attempts", cls.attempts))
        return cls(attempts=max(1, attempts), **given)

    def wait(self, failures: int, error: BaseException) -> None:
        """Sleeps before the attempt that follows this many failures in a row."""
        asked = error.wait if isinstance(error, Refused) and error.wait is not None else 0.0
        time.sleep(min(self.longest, max(asked, self.backoff * 2 ** (failures - 1))))


def persist(url: str, patience: Patience, action: Callable[[], Found]) -> Found:
    """What `action` returns, tried again after failures that may pass.

    FileNotFoundError, PermissionError and other lasting failures are raised as they are; ReadError, naming
    the URL, when patience is at its end.
    """
    for failures in range(1, patience.attempts + 1):
        try:
            return action()
        except Exception as error:
            if not may_pass(error):
                raise
            if failures == patience.attempts:
                raise given_up(url, failures, error) from error
            patience.wait(failures, error)
    raise AssertionError("unreachable: there is at least one attempt")


def given_up(url: str, attempts: int, error: BaseException) -> ReadError:
    """The error that says so."""
    return ReadError(f"{url}: given up after {attempts} attempts: {type(error).__name__}: {error}")


def may_pass(error: BaseException) -> bool:
    """Whether another attempt could succeed. Unknown failures count as passing: attempts are bounded."""
    if isinstance(error, (ReadError, *_LASTING)) or type(error).__name__ in _LASTING_NAMES:
        return False
    return not (isinstance(error, OSError) and error.errno == errno.EINVAL)


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After field: a number, or a date (RFC 9110, section 10.2.3)."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
