"""Undoes the codings of an HTTP body: chunks, gzip, deflate, brotli, zstd, with limits on what comes out."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from typing import Final

from .compression import GZIP_MAGIC, ZSTD_MAGIC, Decoded
from .limits import ReadLimits

# chunk-size [chunk-ext] CRLF (RFC 9112, section 7.1); servers that send a bare LF exist.
_CHUNK_SIZE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
_PIECE: Final = 1 << 20
_UNCODED: Final = ("", "identity", "none", "utf-8", "binary")  # the last three are met in the wild


class BodyError(Exception):
    """A body whose codings cannot be undone; `reason` is `bad_content_encoding` or `decompression_bomb`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def decode_body(
    body: bytes,
    transfer_encoding: str | None,
    content_encoding: str | None,
    limits: ReadLimits = ReadLimits(),  # noqa: B008 - frozen
    cut: bool = False,
) -> bytes:
    """The body as its author wrote it.

    Crawlers often store a body decoded and leave the headers as they came, so a body that does not begin as
    its coding demands is taken as it is (brotli has no such mark: it must decode). `cut` says that the
    crawler stored only the beginning (`WARC-Truncated`): then what can be decoded of it is enough. Raises
    BodyError.
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


def _decode(body: bytes, coding: str, limits: ReadLimits, cut: bool) -> bytes:
    match coding:
        case "gzip" | "x-gzip":
            return _collect(_inflate(body, 31), body, limits, cut) if body.startswith(GZIP_MAGIC) else body
        case "deflate":
            # The standard says zlib format, some servers send raw deflate (RFC 9110, section 8.4.1.2).
            try:
                return _collect(_inflate(body, 15), body, limits, cut=False)
            except BodyError as error:
                if error.reason != "bad_content_encoding":
                    raise
            return _collect(_inflate(body, -15 if body[0] & 15 != 8 else 15), body, limits, cut)
        case "br":
            return _collect(_brotli(body), body, limits, cut)
        case "zstd":
            return _collect(_zstd(body), body, limits, cut) if body.startswith(ZSTD_MAGIC) else body
    raise BodyError("bad_content_encoding", f"unknown content coding {coding[:40]!r}")


def _collect(pieces: Iterator[bytes], body: bytes, limits: ReadLimits, cut: bool) -> bytes:
    """Joins decoded pieces until one breaks a limit. A codec's error is whatever `pieces` raises."""
    most = min(limits.max_payload_bytes, max(limits.ratio_free_bytes, int(len(body) * limits.max_ratio)))
    parts: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            size += len(piece)
            if size > most:
                detail = f"{len(body)} coded bytes make more than {most} decoded bytes"
                raise BodyError("decompression_bomb", detail)
            parts.append(piece)
    except BodyError:
        raise
    except Exception as error:  # zlib's, brotli's and zstd's own classes
        if not (cut and size):
            raise BodyError("bad_content_encoding", str(error)) from error
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _inflate(body: bytes, wbits: int) -> Iterator[bytes]:
    decoder = zlib.decompressobj(wbits=wbits)
    data = body
    while data and not decoder.eof:
        yield decoder.decompress(data, _PIECE)
        data = decoder.unconsumed_tail
    yield decoder.flush()
    if not decoder.eof:
        raise EOFError("the coded body ends early")


def _brotli(body: bytes) -> Iterator[bytes]:
    import brotli

    decoder = brotli.Decompressor()
    yield decoder.process(body, output_buffer_limit=_PIECE)
    while not decoder.is_finished() and not decoder.can_accept_more_data():
        yield decoder.process(b"", output_buffer_limit=_PIECE)
    if not decoder.is_finished():
        raise EOFError("the coded body ends early")


def _zstd(body: bytes) -> Iterator[bytes]:
    stream = Decoded(io.BytesIO(body), "zstd")
    yield from stream.pieces()
    if stream.fault is not None:
        raise EOFError(stream.fault.detail)
