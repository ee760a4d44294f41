"""The header of a JPEG 2000 (ISO/IEC 15444-1): the boxes of a JP2 file, and the codestream's SIZ."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from .header_model import Header, ImageError, Mode, described

_CODESTREAM: Final = b"\xff\x4f\xff\x51"
_GREY: Final = 17


def boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each box's payload between two places, as far as they can be read.

    ISO base media files, and so AVIF, are made of the same boxes.
    """
    end = min(end, len(data))
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1:
            if at + 16 > end:
                return
            (length,) = struct.unpack_from(">Q", data, at + 8)
            start = at + 16
        stop = end if length == 0 else at + length
        if stop < start:
            return
        yield kind, start, stop
        at = stop


def read_jpeg2000(data: bytes) -> Header:
    """The header: size, depth and components are those of the codestream. Raises ImageError."""
    if data.startswith(_CODESTREAM):
        return _read_codestream(data, 0, None, False)
    mode: Mode | None = None
    has_alpha = False
    for kind, start, end in boxes(data, 0, len(data)):
        if kind == b"jp2h":
            mode, has_alpha = _read_boxes(data, start, end)
        elif kind == b"jp2c":
            return _read_codestream(data, start, mode, has_alpha)
    raise ImageError("truncated", "there is no codestream")


def _read_boxes(data: bytes, at: int, end: int) -> tuple[Mode | None, bool]:
    mode: Mode | None = None
    has_alpha = False
    for kind, start, stop in boxes(data, at, end):
        if kind == b"pclr":
            mode = "palette"
        elif kind == b"colr" and mode is None and data[start] == 1:
            (space,) = struct.unpack_from(">I", data, start + 3)
            mode = {_GREY: "grey", 12: "cmyk"}.get(space, "rgb")  # type: ignore[assignment]
        elif kind == b"cdef":
            (channels,) = struct.unpack_from(">H", data, start)
            stop = min(stop, start + 2 + 6 * channels)
            kinds = [data[at + 3] for at in range(start + 2, stop - 5, 6)]
            has_alpha = any(kind in (1, 2) for kind in kinds)
    return mode, has_alpha


def _read_codestream(data: bytes, at: int, mode: Mode | None, has_alpha: bool) -> Header:
    if not data.startswith(_CODESTREAM, at):
        raise ImageError("bad_header" if len(data) >= at + 4 else "truncated", "no codestream")
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    components, depth = struct.unpack_from(">HB", data, at + 40)
    if not 1 <= components <= 4:
        raise ImageError("unsupported_format", f"{components} components")
    if mode is None:
        mode = "grey" if components <= 2 else "rgb"
        has_alpha = components in (2, 4)
    more = {"bit_depth": (depth & 0x7F) + 1, "mode": mode, "has_alpha": has_alpha}
    return described("jpeg2000", right - left, bottom - top, **more)
