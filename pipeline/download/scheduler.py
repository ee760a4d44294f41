"""Which request is next: in the order of rows, as far as limits, politeness and failures let it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from ...schemas.images import Download
from .address import Target
from .bodies import Bodies
from .client import Client, Image, Redirect
from .outcome import OPTED_OUT, Failed, Outcome, now
from .permission import Permission

_BACKOFF: Final = 0.5  # seconds before the first further attempt, twice as many before each that follows
# Addresses of one host that fail one after another as hosts do that are gone, before the others are given up.
_GONE: Final = 32
_SIGNS_OF_GONE: Final = ("connection_failed", "timeout", "deadline", "http_429", "http_503")


@dataclass(slots=True)
class Address:
    """One address on its way. `spent` are seconds of its deadline, without waits for a free place."""

    row: int
    target: Target
    hops: int = 0
    seen: set[str] = field(default_factory=set)
    attempts: int = 0
    requests: int = 0
    spent: float = 0.0
    began: float | None = None
    status: int | None = None


@dataclass(slots=True)
class _Host:
    waiting: list[tuple[int, Address]] = field(default_factory=list)
    active: int = 0
    not_before: float = 0.0
    timer: asyncio.TimerHandle | None = None
    failures: int = 0  # in a row


class Scheduler:
    """Runs in an event loop; `done` is told the outcome of every row, in the order in which they end.

    Nobody waits behind anybody: an address that waits for its host, or before its next attempt, holds none of
    the places that `concurrency` counts.
    """

    def __init__(
        self,
        client: Client,
        options: Download,
        bodies: Bodies,
        done: Callable[[int, Outcome], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._client, self._options, self._bodies = client, options, bodies
        self._done, self._broken = done, broken
        self._permission = Permission(client, options) if options.robots else None
        self._loop = asyncio.get_running_loop()
        self._hosts: dict[str, _Host] = {}
        self._ready: list[tuple[int, str]] = []  # the row that a host has next; it may have moved on since
        self._running: set[asyncio.Task[None]] = set()
        self.first = 0  # the row that everybody waits for
        self.held_up = False  # whether something would have begun, were there not too much of what is done
        self.awaited = True  # whether somebody waits for `first`, and does not work on what there is

    def add(self, row: int, target: Target) -> None:
        """Takes an address; `advance` begins what may begin."""
        self._enqueue(Address(row, target))

    def advance(self) -> None:
        """Begins requests as far as there are places."""
        at = time.monotonic()
        while self._ready and len(self._running) < self._options.concurrency:
            row, name = self._ready[0]
            host = self._hosts[name]
            if not self._may_begin(host, at) or host.waiting[0][0] != row:
                heappop(self._ready)
                continue
            # Said before it is known: whoever begins to wait meanwhile must see it, or be seen.
            self.held_up = True
            if self._too_much(row):
                return
            self.held_up = False
            heappop(self._ready)
            _, address = heappop(host.waiting)
            self._begin(host, address, at)
            self._offer(name, host)

    def _too_much(self, row: int) -> bool:
        """Whether what is done has to be taken first.

        Were there no exception for the first row, what lies in files would wait for it for ever. And files
        are only for those who cannot take what there is.
        """
        if row <= self.first:
            return False
        return self._bodies.full or (self._bodies.crowded and not self.awaited)

    def go_on(self) -> None:
        """Looks again whether there is too much."""
        self.held_up = False
        self.advance()

    async def close(self) -> None:
        """Gives up what is on its way."""
        for host in self._hosts.values():
            if host.timer is not None:
                host.timer.cancel()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _enqueue(self, address: Address) -> None:
        name = address.target.host
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host()
        if host.failures >= _GONE:
            self._give_up(address, host)
            return
        heappush(host.waiting, (address.row, address))
        self._offer(name, host)

    def _offer(self, name: str, host: _Host) -> None:
        if not host.waiting or host.active >= self._options.per_host:
            return
        wait = host.not_before - time.monotonic()
        if wait <= 0:
            heappush(self._ready, (host.waiting[0][0], name))
        elif host.timer is None:
            host.timer = self._loop.call_later(wait, self._wake, name, host)

    def _may_begin(self, host: _Host, at: float) -> bool:
        return bool(host.waiting) and host.active < self._options.per_host and host.not_before <= at

    def _wake(self, name: str, host: _Host) -> None:
        host.timer = None
        self._offer(name, host)
        self.advance()

    def _begin(self, host: _Host, address: Address, at: float) -> None:
        host.active += 1
        if self._options.delay:
            host.not_before = max(host.not_before, at + self._options.delay)
        if address.began is None:
            address.began = at
        task = self._loop.create_task(self._run(host, address))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._broken(error)
        else:
            self.advance()

    async def _run(self, host: _Host, address: Address) -> None:
        name, began = address.target.host, time.monotonic()
        found: Image | Redirect | Failed
        try:
            found = await self._request(address, keep_alive=bool(host.waiting) or host.active > 1)
        except Failed as failed:
            found = failed
        finally:
            address.spent += time.monotonic() - began
            host.active -= 1
        if found.status is not None:
            address.status = found.status
        self._judge(host, found)
        try:
            match found:
                case Image():
                    self._finish(address, found)
                case Redirect():
                    self._redirect(address, found)
                case Failed():
                    self._retry(host, address, found)
        except Failed as failed:
            self._finish(address, failed)
        self._offer(name, host)

    async def _request(self, address: Address, keep_alive: bool) -> Image | Redirect:
        left = self._options.deadline - address.spent
        try:
            async with asyncio.timeout(left):
                if self._permission is not None:
                    refusal = await self._permission.refusal(address.target)
                    if refusal is not None:
                        raise Failed(OPTED_OUT, refusal)
                address.requests += 1
                return await self._client.image(address.target, keep_alive)
        except TimeoutError:
            raise Failed("deadline", f"not done after {self._options.deadline:g} s") from None

    def _judge(self, host: _Host, found: Image | Redirect | Failed) -> None:
        """A host that only fails is given up: its addresses would take a deadline each."""
        if not isinstance(found, Failed) or found.reason not in _SIGNS_OF_GONE:
            host.failures = 0
            return
        host.failures += 1
        if host.failures == _GONE:
            for _, address in host.waiting:
                self._give_up(address, host)
            host.waiting.clear()

    def _give_up(self, address: Address, host: _Host) -> None:
        value = f"{address.target.host}: {host.failures} requests failed one after another"
        self._finish(address, Failed("host_unavailable", value))

    def _redirect(self, address: Address, found: Redirect) -> None:
        address.hops += 1
        if address.hops > self._options.max_redirects:
            raise Failed("too_many_redirects", f"more than {self._options.max_redirects}")
        address.seen.add(address.target.url)
        if found.target.url in address.seen:
            raise Failed("too_many_redirects", f"a loop, back to {found.target.url}")
        address.target = found.target
        self._enqueue(address)

    def _retry(self, host: _Host, address: Address, failed: Failed) -> None:
        """Tries again later. Raises the failure where it lasts or the deadline comes first."""
        left = self._options.deadline - address.spent
        if failed.wait is not None:
            pause = time.monotonic() + min(failed.wait, self._options.deadline)
            host.not_before = max(host.not_before, pause)
        # The jitter keeps those that failed together from coming back together.
        wait = max(_BACKOFF * 2**address.attempts * random.uniform(0.5, 1.0), failed.wait or 0.0)
        if not failed.again or address.attempts >= self._options.retries or wait >= left:
            raise failed
        address.attempts += 1
        address.spent += wait
        self._loop.call_later(wait, self._come_back, address)

    def _come_back(self, address: Address) -> None:
        self._enqueue(address)
        self.advance()

    def _finish(self, address: Address, found: Image | Failed) -> None:
        asked = address.requests > 0
        failed = found if isinstance(found, Failed) else None
        body = None if isinstance(found, Failed) else found.body
        outcome = Outcome(
            time=now(),
            reason=failed.reason if failed else None,
            value=failed.value if failed else None,
            body=body,
            size=body.size if body is not None else 0,
            final_url=address.target.url if asked else None,
            status=address.status,
            content_type=found.content_type,
            attempts=address.attempts + asked,
            seconds=None if address.began is None else time.monotonic() - address.began,
        )
        self._done(address.row, outcome)
