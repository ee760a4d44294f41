"""A web server on 127.0.0.1 that answers as a test says, byte by byte, and remembers what was asked."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from thresher.pipeline.accounts import Accounts
from thresher.pipeline.download.names import Lookup, system_lookup
from thresher.pipeline.download.outcome import Outcome
from thresher.pipeline.download.pool import Pool
from thresher.pipeline.operator import Output
from thresher.schemas.images import Download

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00" + bytes(range(256))
HERE = "127.0.0.1"


@dataclass
class Asked:
    """One request: the path, its headers with lower-case names, and when it came."""

    path: str
    headers: dict[str, str]
    at: float = field(default_factory=time.monotonic)


Handler = Callable[[asyncio.StreamWriter, Asked], Awaitable[None]]
Answer = bytes | Handler | Sequence[bytes]  # a sequence is given out one by one, its last for ever


def answer(
    body: bytes = JPEG,
    status: int = 200,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    content_type: str = "image/jpeg",
) -> bytes:
    """A well-formed answer."""
    more = list(headers.items() if isinstance(headers, Mapping) else headers)
    lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in more]
    return "\r\n".join([*lines, "", ""]).encode("utf-8") + body


def redirect(to: str, status: int = 302) -> bytes:
    return answer(b"", status, {"Location": to})


class Site:
    """Answers by path, the query included; a path that it does not know is 404."""

    def __init__(self, routes: Mapping[str, Answer], tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.routes = dict(routes)
        self.asked: list[Asked] = []
        self.connections = self.open = self.most_open = 0
        self.port = 0
        self._ready = threading.Event()

    def __enter__(self) -> Site:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def url(self, path: str, host: str = HERE) -> str:
        return f"http://{host}:{self.port}{path}"

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    async def _main(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, HERE, 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                pairs = (line.partition(":") for line in head[1:] if line)
                asked = Asked(head[0].split(" ")[1], {k.lower(): v.strip() for k, _, v in pairs})
                self.asked.append(asked)
                await self._answer(writer, asked)
                if asked.headers.get("connection") == "close":
                    return
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            return
        finally:
            self.open -= 1
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, asked: Asked) -> None:
        found = self.routes.get(asked.path, answer(b"no", 404))
        if isinstance(found, bytes):
            writer.write(found)
            await writer.drain()
        elif callable(found):
            await found(writer, asked)
        else:
            index = self.paths().count(asked.path) - 1
            writer.write(found[min(index, len(found) - 1)])
            await writer.drain()


def options(**more: object) -> Download:
    """Settings that let loopback pass and give up early."""
    return Download.model_validate({"allow": [HERE], "timeout": 2.0, "deadline": 10.0, "retries": 0, **more})


def fetch(
    urls: Sequence[str | None], settings: Download | None = None, lookup: Lookup = system_lookup
) -> list[Outcome]:
    """The outcomes of addresses, in their order."""
    pool = Pool(settings or options(), lookup=lookup)
    try:
        pool.submit(list(enumerate(urls)))
        return [pool.outcome(row) for row in range(len(urls))]
    finally:
        pool.close()


class Collected(Output):
    """What an operator writes, in memory."""

    def __init__(self) -> None:
        self.accounts = Accounts()
        self.rows_in = 0
        self.streams: dict[str, list[pa.RecordBatch]] = {}

    def emit(self, stream: str, batch: pa.RecordBatch) -> None:
        self.streams.setdefault(stream, []).append(batch)

    def new_file(self, name: str) -> object:  # type: ignore[override]
        raise AssertionError("downloads write no files of their own")

    def attach(self, stream: str, file: object) -> None:
        raise AssertionError("downloads write no files of their own")

    def rows(self, stream: str) -> list[dict[str, object]]:
        return [row for batch in self.streams.get(stream, []) for row in batch.to_pylist()]


def records(urls: Sequence[str | None], images: Sequence[bytes | None] | None = None) -> pa.RecordBatch:
    """Records as they come to a download step."""
    count = len(urls)
    return pa.RecordBatch.from_pydict(
        {
            "position": pa.array(range(count), pa.uint64()),
            "id": pa.array([f"id{row}" for row in range(count)], pa.string()),
            "source": pa.array([f"list:{row}" for row in range(count)], pa.string()),
            "text": pa.array([f"caption {row}" for row in range(count)], pa.string()),
            "url": pa.array(urls, pa.string()),
            "image": pa.array(images if images is not None else [None] * count, pa.binary()),
        }
    )
