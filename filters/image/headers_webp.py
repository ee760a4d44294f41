"""The header of a WebP (RFC 9649): its chunks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from .header_model import Header, ImageError, described
from .orientation import exif_orientation

_CHUNK: Final = struct.Struct("<4sI")
_ALPHA_FLAG: Final = 0x10


def chunks(data: bytes, at: int = 12, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each chunk's payload; the last one may reach beyond the data."""
    end = len(data) if end is None else min(end, len(data))
    while at + 8 <= end:
        kind, length = _CHUNK.unpack_from(data, at)
        yield kind, at + 8, at + 8 + length
        at += 8 + length + (length & 1)


def _number(data: bytes, at: int) -> int:
    return data[at] | data[at + 1] << 8 | data[at + 2] << 16


def read_webp(data: bytes) -> Header:
    """The header; of an animation the canvas. Raises ImageError."""
    size: tuple[int, int] | None = None
    has_alpha, frames, orientation, extended = False, 0, 1, False
    for kind, start, end in chunks(data):
        if kind == b"VP8X":
            size = _number(data, start + 4) + 1, _number(data, start + 7) + 1
            has_alpha, extended = bool(data[start] & _ALPHA_FLAG), True
        elif kind in (b"VP8 ", b"VP8L"):
            frames = max(frames, 1)
            if size is None:
                size, has_alpha = _lossy(data, start) if kind == b"VP8 " else _lossless(data, start)
            if not extended:  # then nothing follows
                break
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            begin = start + 6 if data.startswith(b"Exif\0\0", start) else start
            orientation = exif_orientation(data, begin, end)
    if size is None:
        raise ImageError("truncated" if len(data) < 30 else "bad_header", "there is no picture")
    return described("webp", *size, orientation, frames=max(frames, 1), has_alpha=has_alpha)


def _lossy(data: bytes, at: int) -> tuple[tuple[int, int], bool]:
    if data[at] & 1 or data[at + 3 : at + 6] != b"\x9d\x01\x2a":
        raise ImageError("bad_header" if len(data) >= at + 10 else "truncated", "VP8 without a key frame")
    width, height = struct.unpack_from("<HH", data, at + 6)
    return (width & 0x3FFF, height & 0x3FFF), False


def _lossless(data: bytes, at: int) -> tuple[tuple[int, int], bool]:
    signature, bits = struct.unpack_from("<BI", data, at)
    if signature != 0x2F:
        raise ImageError("bad_header", "VP8L without its signature")
    return ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1), bool(bits >> 28 & 1)


# Bytes of the headers of a frame and of the canvas (developers.google.com/speed/webp, container).
_FIELDS: Final = {b"ANMF": 16, b"VP8X": 10}


def still_webp(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """The picture, or the first frame of an animation, as a file of its own, and where it is on the canvas.

    Raises ImageError where there is none.
    """
    pieces: list[tuple[bytes, int, int]] = []
    place, size = (0, 0), (0, 0)
    for kind, start, end in chunks(data):
        if len(data) < start + _FIELDS.get(kind, 0):
            raise ImageError("truncated", "the file ends inside a header")
        if kind == b"ANMF":
            place = 2 * _number(data, start), 2 * _number(data, start + 3)
            size = _number(data, start + 6) + 1, _number(data, start + 9) + 1
            pieces = list(_pictures(data, start + 16, end))
            break
        if kind == b"VP8X":
            size = _number(data, start + 4) + 1, _number(data, start + 7) + 1
    else:
        pieces = list(_pictures(data, 12, len(data)))
    if not pieces or pieces[-1][0] == b"ALPH":
        raise ImageError("bad_header", "there is no picture")
    if pieces[-1][2] > len(data):
        raise ImageError("truncated", f"{pieces[-1][2] - len(data)} bytes are missing")
    body = b"".join(_chunk(kind, data[start:end]) for kind, start, end in pieces)
    if len(pieces) > 1:
        if min(size) < 1:
            raise ImageError("bad_header", "transparency without a canvas")
        across, down = ((side - 1).to_bytes(3, "little") for side in size)
        body = _chunk(b"VP8X", bytes([_ALPHA_FLAG, 0, 0, 0]) + across + down) + body
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body, place


def _pictures(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of one picture: its alpha, if that is apart, and its pixels."""
    alpha: tuple[bytes, int, int] | None = None
    for chunk in chunks(data, at, end):
        if chunk[0] == b"ALPH" and alpha is None:
            alpha = chunk
        elif chunk[0] in (b"VP8 ", b"VP8L"):
            if alpha is not None and chunk[0] == b"VP8 ":
                yield alpha
            yield chunk
            return


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return _CHUNK.pack(kind, len(payload)) + payload + b"\0" * (len(payload) & 1)
