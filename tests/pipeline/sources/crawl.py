"""Makes small WARC files, byte by byte, so that a test can break them where it wants."""

from __future__ import annotations

import gzip
from collections.abc import Iterable


def record(
    kind: str,
    block: bytes,
    number: int = 0,
    content_type: str = "application/http; msgtype=response",
    headers: Iterable[str] = (),
) -> bytes:
    """One WARC record, uncompressed, whose id and URL end in `number`."""
    lines = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        f"WARC-Record-ID: <urn:uuid:{number}>",
        f"WARC-Target-URI: https://example.org/{number}",
        "WARC-Date: 2024-01-02T03:04:05Z",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(block)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + block + b"\r\n\r\n"


def http(body: bytes, *headers: str, status: str = "200 OK", content_type: str | None = "text/html") -> bytes:
    """An HTTP response."""
    lines = [f"HTTP/1.1 {status}", *([f"Content-Type: {content_type}"] if content_type else []), *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def page(number: int, size: int = 200) -> bytes:
    """A response record whose body is different for each number."""
    body = f"<html><p>page {number}</p>".encode() + b"%08d" % number * (size // 8)
    return record("response", http(body), number)


def members(records: Iterable[bytes]) -> list[bytes]:
    """One gzip member per record."""
    return [gzip.compress(one, mtime=0) for one in records]
