"""Host names and their addresses: looked up once, kept for a while, and none given out that is not public."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Final

from .address import RefusedAddress
from .networks import IP, kind_of

Lookup = Callable[[str], Sequence[str]]  # the addresses of a name; raises OSError. May block.

_SECONDS: Final = 300.0  # an answer holds; getaddrinfo does not tell for how long it may
_PATIENCE: Final = 10.0  # seconds that a lookup may take; it goes on for those who ask later
_FAILURE_SECONDS: Final = 30.0
_MOST: Final = 20_000  # names that are kept
_THREADS: Final = 32  # lookups at a time


class NameFailure(Exception):
    """A name without an address; `again` says whether another attempt may find one."""

    def __init__(self, detail: str, again: bool) -> None:
        super().__init__(detail)
        self.again = again


class _Answer:
    def __init__(self, ips: asyncio.Future[tuple[IP, ...]]) -> None:
        self.ips = ips
        self.until = float("inf")


def system_lookup(name: str) -> list[str]:
    """The addresses that the system finds."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Names:
    """Answers for one event loop.

    Whoever asks for a name while it is looked up waits for the same answer. Of the addresses of a name only
    the public ones are given out, so that a name with both kinds is connected to a public one. `allow` names
    hosts (or host:port) that may be anywhere.
    """

    def __init__(
        self,
        allow: Collection[str] = (),
        lookup: Lookup = system_lookup,
        patience: float = _PATIENCE,
        seconds: float = _SECONDS,
        most: int = _MOST,
    ) -> None:
        self._allow, self._lookup = frozenset(allow), lookup
        self._patience, self._seconds, self._most = patience, seconds, most
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._free = asyncio.Semaphore(_THREADS)
        self._tasks: set[asyncio.Task[None]] = set()

    async def addresses(self, name: str, port: int) -> list[IP]:
        """Where the host may be connected to. Raises NameFailure or RefusedAddress."""
        try:
            async with asyncio.timeout(self._patience):
                ips = await self._all(name)
        except TimeoutError:
            raise NameFailure(f"{name}: no answer in {self._patience:g} s", True) from None
        if not self._allow.isdisjoint((name, f"{name}:{port}")):
            return list(ips)
        public = [ip for ip in ips if kind_of(ip) is None]
        if not public:
            raise RefusedAddress(f"{name} is at {ips[0]}, which is {kind_of(ips[0])}")
        return public

    async def _all(self, name: str) -> tuple[IP, ...]:
        known = self._answers.get(name)
        if known is None or known.until < time.monotonic():
            known = self._answers[name] = _Answer(asyncio.get_running_loop().create_future())
            task = asyncio.create_task(self._ask(name, known))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            while len(self._answers) > self._most:
                self._answers.popitem(last=False)
        self._answers.move_to_end(name)
        return await asyncio.shield(known.ips)

    async def _ask(self, name: str, answer: _Answer) -> None:
        seconds = self._seconds
        async with self._free:
            try:
                ips = tuple(ipaddress.ip_address(text) for text in await _in_thread(self._lookup, name))
                if not ips:
                    raise NameFailure(f"{name}: has no address", False)
            except asyncio.CancelledError:
                answer.ips.cancel()
                raise
            except (OSError, ValueError, NameFailure) as error:
                seconds = min(seconds, _FAILURE_SECONDS)
                passing = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
                if passing:
                    seconds = 0.0
                if not isinstance(error, NameFailure):
                    error = NameFailure(f"{name}: {error}", passing)
                answer.ips.set_exception(error)
                answer.ips.exception()  # it is known: nobody may be waiting any more
            else:
                answer.ips.set_result(ips)
        answer.until = time.monotonic() + seconds


async def _in_thread(lookup: Lookup, name: str) -> Sequence[str]:
    """Calls it in a thread that nobody waits for at the end: a resolver may be silent for half a minute."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Sequence[str]] = loop.create_future()

    def tell(result: Sequence[str] | None, error: BaseException | None) -> None:
        if found.done():
            return
        if error is not None:
            found.set_exception(error)
        else:
            found.set_result(result or ())

    def work() -> None:
        result, error = None, None
        try:
            result = lookup(name)
        except Exception as raised:
            error = raised
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=work, name="thresher-lookup", daemon=True).start()
    return await found
