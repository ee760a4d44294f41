"""Downloads in a thread of their own, with an event loop: bounded, and in any order."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from ...schemas.images import Download
from .address import BadAddress, Target, parse
from .bodies import Bodies, ScratchFailure
from .names import Lookup, system_lookup
from .outcome import Outcome, now

if TYPE_CHECKING:
    from .scheduler import Scheduler

_PATIENCE: Final = 5.0  # seconds that the thread has to end
_AT_ONCE: Final = 256  # addresses that are handed over, so that the loop is never busy with that for long


class Downloader(Protocol):
    """Takes addresses by row and gives their outcomes, in whatever order they are asked for."""

    def submit(self, rows: Sequence[tuple[int, str | None]]) -> None:
        """Addresses with their rows, which grow from call to call."""

    def outcome(self, row: int) -> Outcome:
        """Waits for the outcome of a row that was submitted; may be asked for once."""

    def close(self) -> None:
        """Gives up what is on its way."""


class Pool:
    """A thread with an event loop that downloads what is submitted.

    At most `concurrency` requests at a time, and at most so many bytes in memory as `bodies` lets: what comes
    beyond that lies in scratch files until it is asked for. While whoever asks is busy with what there is,
    nothing new begins once half of that memory is taken.
    """

    def __init__(
        self, options: Download, bodies: Bodies | None = None, lookup: Lookup = system_lookup
    ) -> None:
        self.bodies = bodies or Bodies()
        self._options, self._lookup = options, lookup
        self._found: queue.SimpleQueue[tuple[int, Outcome] | BaseException] = queue.SimpleQueue()
        self._outcomes: dict[int, Outcome] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduler: Scheduler | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._work, name="thresher-download", daemon=True)
        self._thread.start()
        self._started.wait()

    def submit(self, rows: Sequence[tuple[int, str | None]]) -> None:
        """See Downloader.submit."""
        targets: list[tuple[int, Target]] = []
        for row, url in rows:
            try:
                targets.append((row, parse(url)))
            except BadAddress as error:
                self._outcomes[row] = Outcome(now(), "bad_url", str(error))
        for start in range(0, len(targets), _AT_ONCE):
            self._call(self._add, targets[start : start + _AT_ONCE])

    def outcome(self, row: int) -> Outcome:
        """See Downloader.outcome. Raises what has broken the thread, or a ScratchFailure's OSError."""
        scheduler = self._scheduler
        if scheduler is not None:
            scheduler.first = row
            if scheduler.held_up and not self.bodies.crowded:
                self._call(scheduler.go_on)
        while row not in self._outcomes:
            found = self._next(scheduler)
            if isinstance(found, BaseException):
                self._found.put(found)  # also for whoever asks next
                cause = found.__cause__ if isinstance(found, ScratchFailure) else None
                raise cause or found
            self._outcomes[found[0]] = found[1]
        return self._outcomes.pop(row)

    def _next(self, scheduler: Scheduler | None) -> tuple[int, Outcome] | BaseException:
        with suppress(queue.Empty):
            return self._found.get_nowait()
        if scheduler is None:
            return self._found.get()
        scheduler.awaited = True
        if scheduler.held_up:
            self._call(scheduler.go_on)
        try:
            return self._found.get()
        finally:
            scheduler.awaited = False

    def close(self) -> None:
        """Ends the thread and its connections, and removes what nobody has asked for."""
        self._call(self._stop)
        self._thread.join(_PATIENCE)
        with suppress(queue.Empty):
            while True:
                found = self._found.get_nowait()
                if not isinstance(found, BaseException):
                    self._outcomes[found[0]] = found[1]
        for outcome in self._outcomes.values():
            if outcome.body is not None:
                outcome.body.drop()
        self._outcomes.clear()

    def _call(self, function: object, *arguments: object) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has ended: `outcome` says why
                loop.call_soon_threadsafe(function, *arguments)  # type: ignore[arg-type]

    def _work(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # told to the one who asks
            self._found.put(error)
        finally:
            self._started.set()

    async def _main(self) -> None:
        from .client import Client
        from .scheduler import Scheduler

        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        client = Client(self._options, self.bodies, self._lookup)
        scheduler = Scheduler(client, self._options, self.bodies, self._tell, self._break)
        self._scheduler = scheduler
        self._started.set()
        try:
            await self._ended
        finally:
            await scheduler.close()
            await client.close()

    # In the loop's thread:

    def _add(self, targets: Sequence[tuple[int, Target]]) -> None:
        assert self._scheduler is not None
        for row, target in targets:
            self._scheduler.add(row, target)
        self._scheduler.advance()

    def _tell(self, row: int, outcome: Outcome) -> None:
        self._found.put((row, outcome))

    def _break(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _stop(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
