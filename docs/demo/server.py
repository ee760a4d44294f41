"""An HTTP server on loopback that misbehaves as the web does.

    python docs/demo/server.py FOLDER

It prints the port that it has found free and serves until it is ended. `FOLDER/served.json` says what each
path answers: `status`, `headers`, `file` (a name in `FOLDER/pictures`) with its `type`, `first` (another
answer, to the first request alone) and `drips` (a byte now and then, without end).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

DRIP = 0.3  # seconds from one byte to the next


class Site:
    """The answers, and the paths that were asked for before."""

    def __init__(self, folder: Path) -> None:
        self._pictures = folder / "pictures"
        self._answers: dict[str, dict[str, Any]] = json.loads(
            (folder / "served.json").read_text(encoding="utf-8")
        )
        self._asked: set[str] = set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Does what is written down for the path."""
        found = self._answers.get(request.path, {"status": 404})
        if "first" in found and request.path not in self._asked:
            self._asked.add(request.path)
            found = found["first"]
        headers = dict(found.get("headers", {}))
        if found.get("drips"):
            return await self._drip(request, found)
        body = (self._pictures / found["file"]).read_bytes() if "file" in found else b""
        if body:
            headers["Content-Type"] = found["type"]
        return web.Response(status=found.get("status", 200), headers=headers, body=body)

    async def _drip(self, request: web.Request, found: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": found["type"]})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for byte in (self._pictures / found["file"]).read_bytes():
                await response.write(bytes([byte]))
                await asyncio.sleep(DRIP)
        return response


async def serve(folder: Path) -> None:
    """Serves a folder on a free port of 127.0.0.1 until cancelled."""
    application = web.Application()
    application.router.add_get("/{path:.*}", Site(folder).answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Path(sys.argv[1])))
