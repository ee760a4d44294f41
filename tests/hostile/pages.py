"""Writes WARC files of pages."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path


def html(body: str) -> bytes:
    """An HTTP response with a page."""
    page = f"<html><head><title>t</title></head><body>{body}</body></html>"
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page.encode()


def html_gzip(body: bytes) -> bytes:
    """The same with a body that is sent compressed."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n"
    return head + gzip.compress(body, 9)


def paragraphs(text: str) -> str:
    return "".join(f"<p>{line}</p>" for line in text.split("\n"))


def write(path: Path, found: Mapping[str, bytes]) -> Path:
    """A WARC file with a response for each name, which its id ends in, one gzip member each."""
    with path.open("wb") as file:
        for name, block in found.items():
            head = (
                f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:{name}>\r\n"
                f"WARC-Target-URI: https://example.org/{name}\r\nWARC-Date: 2024-01-02T03:04:05Z\r\n"
                f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
            )
            file.write(gzip.compress(head.encode() + block + b"\r\n\r\n", 1))
    return path
