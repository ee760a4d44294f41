"""A web proxy before a local S3 server that keeps what is asked of it and fails as it is told to."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Given the handler and how often the same method and path came before: None to forward the request.
Fault = Callable[["Handler", int], str | None]

REFUSE, CUT_BEFORE, CUT_AFTER, CORRUPT = "refuse", "cut before", "cut after", "corrupt"
SWALLOW, ANSWERED = "swallow", "answered"


class Proxy(ThreadingHTTPServer):
    """Forwards to the S3 server at `host:port`; `requests` are (method, path) in the order of arrival."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.host, self.port = host, port
        self.requests: list[tuple[str, str]] = []
        self.fault: Fault | None = None
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def puts(self, pattern: str = "") -> list[str]:
        """The paths that were written to."""
        return [path for method, path in self.requests if method == "PUT" and re.search(pattern, path)]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed leave broken connections; that is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    """One request; whatever a fault does not answer is forwarded."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        body = self._body()
        bare = self.path.partition("?")[0]
        with self.server.lock:
            number = self.server.requests.count((self.command, bare))
            self.server.requests.append((self.command, bare))
        fault = self.server.fault(self, number) if self.server.fault else None
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("expect",)}
        if fault == ANSWERED:
            return
        if fault == REFUSE:
            self.answer(503, b"<Error><Code>ServiceUnavailable</Code></Error>")
            return
        if fault in (CUT_BEFORE, SWALLOW):
            if fault == CUT_BEFORE:
                self.hang_up()
            else:
                threading.Event().wait(60)
            return
        if fault == CORRUPT:
            body = bytes([body[0] ^ 1]) + body[1:]
            checks = re.compile(r"content-md5|x-amz-checksum.*|x-amz-sdk-checksum.*", re.IGNORECASE)
            headers = {name: value for name, value in headers.items() if not checks.fullmatch(name)}
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=60)
        headers = {name: value for name, value in headers.items() if name.lower() != "transfer-encoding"}
        headers["Content-Length"] = str(len(body))
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        data = response.read()
        if fault == CUT_AFTER:
            self.hang_up()
            return
        self.answer(response.status, data, response.getheaders())

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - the names are the base class's

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, status: int, data: bytes, headers: list[tuple[str, str]] | None = None) -> None:
        self.send_response_only(status)
        length = str(len(data))
        for name, value in headers or []:
            if name.lower() == "content-length":
                length = value if self.command == "HEAD" else length
            elif name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxying(host: str, port: int) -> Iterator[Proxy]:
    """A proxy, until the end of the block."""
    proxy = Proxy(host, port)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
