"""Undoes the codings of an HTTP body: chunks, gzip, deflate, brotli, zstd, with limits on what comes out."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final

# chunk-size [chunk-ext] CRLF (RFC 9112, section 7.1); servers that send a bare LF exist.
_CHUNK_SIZE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
_FEED: Final = 16 << 10
_UNCODED: Final = ("", "identity", "none", "utf-8", "binary")  # the last three are met in the wild


@dataclass(frozen=True)
class Limits:
    """What one page may cost. The defaults are choices of ours, not anybody's rule."""

    payload_bytes: int = 32 << 20  # of a body, before and after decoding
    ratio: float = 500.0  # decoded bytes per coded byte, asked once a body exceeds `ratio_free_bytes`
    ratio_free_bytes: int = 1 << 20


class BodyError(Exception):
    """A body whose codings cannot be undone; `reason` is `bad_content_encoding` or `decompression_bomb`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def decode_body(
    body: bytes,
    transfer_encoding: str | None,
    content_encoding: str | None,
    limits: Limits = Limits(),
    cut: bool = False,
) -> bytes:
    """The body as its author wrote it.

    Crawlers often store a body decoded and leave the headers as they came, so a body that does not begin as its
    coding demands is taken as it is (brotli has no such mark: it must decode). `cut` says that the crawler
    stored only the beginning (`WARC-Truncated`): then what can be decoded of it is enough. Raises BodyError.
    """
    if transfer_encoding and "chunked" in transfer_encoding.lower():
        body = join_chunks(body)
    codings = [coding.strip().lower() for coding in (content_encoding or "").split(",")]
    for coding in reversed(codings):
        if coding not in _UNCODED and body:
            body = _decode(body, coding, limits, cut)
    return body


def join_chunks(body: bytes) -> bytes:
    """The data of a chunked body; a body that does not begin with a chunk is returned as it is.

    A body that ends early, or breaks off between chunks, gives the chunks up to there.
    """
    parts: list[bytes] = []
    at = 0
    while header := _CHUNK_SIZE.match(body, at):
        size = int(header[1], 16)
        start = header.end()
        if not parts and start + size > len(body):
            return (
                body  # a page that happens to begin with a hexadecimal number, or one cut in its first chunk
            )
        if size == 0:
            return b"".join(parts)
        parts.append(body[start : start + size])
        at = start + size
        if body.startswith(b"\r\n", at):
            at += 2
        elif body.startswith(b"\n", at):
            at += 1
    return b"".join(parts) if parts else body


def _decode(body: bytes, coding: str, limits: Limits, cut: bool) -> bytes:
    match coding:
        case "gzip" | "x-gzip":
            return _inflate(body, (31,), limits, cut) if body.startswith(b"\x1f\x8b") else body
        case "deflate":
            # zlib format says the standard, raw deflate say some servers (RFC 9110, section 8.4.1.2).
            return _inflate(body, (15, -15), limits, cut)
        case "br":
            return _brotli(body, limits, cut)
        case "zstd":
            return _zstd(body, limits, cut) if body.startswith(b"\x28\xb5\x2f\xfd") else body
    raise BodyError("bad_content_encoding", f"unknown content coding {coding[:40]!r}")


class _Budget:
    """Collects decoded pieces and refuses the one that breaks a limit."""

    def __init__(self, coded: int, limits: Limits) -> None:
        self._most = min(limits.payload_bytes, max(limits.ratio_free_bytes, int(coded * limits.ratio)))
        self._coded = coded
        self._size = 0
        self._parts: list[bytes] = []

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._most:
            raise BodyError(
                "decompression_bomb", f"{self._coded} coded bytes make more than {self._most} decoded bytes"
            )
        self._parts.append(piece)

    def joined(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


def _inflate(body: bytes, formats: tuple[int, ...], limits: Limits, cut: bool) -> bytes:
    for wbits in formats:
        budget = _Budget(len(body), limits)
        decoder = zlib.decompressobj(wbits=wbits)
        data = body
        try:
            while data and not decoder.eof:
                budget.add(decoder.decompress(data, 1 << 20))
                data = decoder.unconsumed_tail
            budget.add(decoder.flush())
        except zlib.error as error:
            if wbits == formats[-1] and not (cut and budget.joined()):
                raise BodyError("bad_content_encoding", str(error)) from error
            if not budget.joined():
                continue
        if not decoder.eof and not cut:
            raise BodyError("bad_content_encoding", "the coded body ends early")
        return budget.joined()
    raise AssertionError("unreachable: the last format raises or returns")


def _brotli(body: bytes, limits: Limits, cut: bool) -> bytes:
    import brotli

    budget = _Budget(len(body), limits)
    decoder = brotli.Decompressor()
    try:
        # The limit is per call; an empty call asks for what the decoder still holds.
        data = body
        while not decoder.is_finished():
            piece = decoder.process(data, output_buffer_limit=1 << 20)
            data = b""
            budget.add(piece)
            if not piece and decoder.can_accept_more_data():
                break
    except brotli.error as error:
        if not (cut and budget.joined()):
            raise BodyError("bad_content_encoding", f"brotli: {error}") from error
        return budget.joined()
    if not decoder.is_finished() and not cut:
        raise BodyError("bad_content_encoding", "the coded body ends early")
    return budget.joined()


def _zstd(body: bytes, limits: Limits, cut: bool) -> bytes:
    import zstandard

    budget = _Budget(len(body), limits)
    reader = zstandard.ZstdDecompressor(max_window_size=limits.payload_bytes).stream_reader(
        body, read_across_frames=True
    )
    try:
        while piece := reader.read(_FEED):
            budget.add(piece)
    except zstandard.ZstdError as error:
        if not (cut and budget.joined()):
            raise BodyError("bad_content_encoding", f"zstd: {error}") from error
    return budget.joined()
