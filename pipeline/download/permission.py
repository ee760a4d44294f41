"""robots.txt of each origin, asked for once."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from ...schemas.images import Download
from .address import Target
from .client import AGENT, Client, Redirect
from .outcome import Failed
from .robots import MOST_BYTES, Robots

_MOST: Final = 10_000  # origins that are kept
_REDIRECTS: Final = 5  # that are followed at least (RFC 9309, section 2.3.1.2)
_REFUSED: Final = re.compile(r"http_4\d\d")


@dataclass
class _Origin:
    """The rules of one origin once they are known, or why they are not."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    rules: Robots | None = None
    unreachable: str = ""


class Permission:
    """Says what robots.txt lets us ask for, in one event loop."""

    def __init__(self, client: Client, options: Download) -> None:
        self._client, self._options = client, options
        self._origins: OrderedDict[str, _Origin] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    async def refusal(self, target: Target) -> str | None:
        """Why the address may not be asked for; None where it may."""
        origin = self._origins.get(target.origin)
        if origin is None:
            origin = self._origins[target.origin] = _Origin()
            task = asyncio.create_task(self._learn(target, origin))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            while len(self._origins) > _MOST:
                self._origins.popitem(last=False)
        self._origins.move_to_end(target.origin)
        await origin.done.wait()
        if origin.unreachable:
            return f"{target.origin}/robots.txt: {origin.unreachable}"
        assert origin.rules is not None
        return None if origin.rules.allows(target.path) else f"{target.origin}/robots.txt"

    async def _learn(self, target: Target, origin: _Origin) -> None:
        # What cannot be reached for now disallows all, and what does not exist nothing (section 2.3.1).
        origin.unreachable = "not read"
        try:
            async with asyncio.timeout(self._options.deadline):
                origin.rules = Robots(await self._fetch(target), AGENT)
            origin.unreachable = ""
        except TimeoutError:
            origin.unreachable = "deadline"
        except Failed as failed:
            if _REFUSED.fullmatch(failed.reason) and failed.reason != "http_429":
                origin.rules, origin.unreachable = Robots(b"", AGENT), ""
            else:
                origin.unreachable = " ".join(filter(None, (failed.reason, failed.value)))
        finally:
            origin.done.set()

    async def _fetch(self, target: Target) -> bytes:
        at = Target(target.scheme, target.host, target.port, "/robots.txt", target.ip)
        for _ in range(_REDIRECTS + 1):
            found = await self._client.text(at, MOST_BYTES)
            if not isinstance(found, Redirect):
                return found
            at = found.target
        return b""  # more redirects than are followed count as no robots.txt
