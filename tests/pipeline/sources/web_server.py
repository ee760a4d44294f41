"""A web server on this machine that fails as it is told to."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Given the request and its number, from 0, for its path: True if it has answered in its own way.
Fault = Callable[["Handler", int], bool]


class Server(ThreadingHTTPServer):
    """Serves `files` by path; keeps the method, path and range of every request and counts body bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, Fault] = {}
        self.every: Fault | None = None  # asked for a path that has no fault of its own
        self.ranges = True
        self.requests: list[tuple[str, str, str | None]] = []
        self.headers: list[dict[str, str]] = []
        self.body_bytes = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"

    def asked(self, name: str) -> int:
        return sum(path == f"/{name}" for _, path, _ in self.requests)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD as RFC 9110 says, unless a fault answers first."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        number = sum(path == seen for _, seen, _ in self.server.requests)
        self.server.requests.append((self.command, path, self.headers["Range"]))
        self.server.headers.append(dict(self.headers))
        fault = self.server.faults.get(path.lstrip("/"), self.server.every)
        if fault is not None and fault(self, number):
            return
        data = self.server.files.get(path.lstrip("/"))
        if data is None:
            self.refuse(404)
        else:
            self.give(data)

    do_POST = do_GET  # noqa: N815
    do_HEAD = do_GET  # noqa: N815 - the name is the base class's

    def refuse(self, status: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def give(self, data: bytes, cut: int | None = None, length: int | None = None, pause: float = 0) -> None:
        """The file or the range asked for. The connection ends after `cut` bytes; `length` is claimed."""
        asked = (
            re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "") if self.server.ranges else None
        )
        body = data
        if asked:
            start, stop = int(asked[1]), min(len(data), int(asked[2] or len(data)) + 1)
            if start >= len(data):
                self.refuse(416, Content_Range=f"bytes */{len(data)}")
                return
            body = data[start:stop]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{length or len(data)}")
        else:
            self.send_response(200)
        self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(body) if asked or length is None else length))
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = body if cut is None else body[:cut]
        self.server.body_bytes += len(sent)
        try:
            for begin in range(0, len(sent), 1 << 16):
                self.wfile.write(sent[begin : begin + (1 << 16)])
                time.sleep(pause)
            if len(sent) < len(body) or (length is not None and not asked):
                self.hang_up()
        except OSError:
            self.close_connection = True

    def hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving() -> Iterator[Server]:
    """A server, until the end of the block."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
