"""The header of a GIF (GIF89a specification): its blocks."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from .header_model import Header, ImageError, described

_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_CONTROL: Final = 0xF9
_SCREEN: Final = struct.Struct("<HHB")
_RECTANGLE: Final = struct.Struct("<HHHHB")


@dataclass
class Blocks:
    """What stands where in a GIF."""

    colours: int  # where the global colour table ends
    frames: int = 0
    transparent: bool = False  # whether some frame names a transparent colour
    control: tuple[int, int] = (0, 0)  # the first frame's graphic control extension
    image: tuple[int, int] = (0, 0)  # the first frame: its end is the data's where it breaks off


def blocks(data: bytes) -> Blocks:
    """Walks the blocks, as far as the data reach."""
    found = Blocks(13 + _table(data[10]))
    at, size = found.colours, len(data)
    while at < size and data[at] != _END:
        if data[at] == _EXTENSION and at + 5 <= size:
            if data[at + 1] == _CONTROL:
                found.transparent = found.transparent or bool(data[at + 3] & 1)
                if not found.frames:
                    found.control = (at, at + 8)
            at = _after(data, at + 2)
        elif data[at] == _IMAGE and at + 10 <= size:
            start = at
            at = _after(data, at + 11 + _table(data[at + 9]))
            found.frames += 1
            if found.frames == 1:
                found.image = (start, min(at, size))
        else:
            # Decoders look for the next block beyond what they do not know.
            at += 1
    return found


def _table(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after(data: bytes, at: int) -> int:
    """Where the sub-blocks that begin at `at` end; beyond the data where they break off."""
    try:
        while length := data[at]:
            at += length + 1
    except IndexError:
        return len(data) + 1
    return at + 1


def read_gif(data: bytes) -> Header:
    """The header; a first frame beyond the screen makes the picture larger. Raises ImageError."""
    width, height, flags = _SCREEN.unpack_from(data, 6)
    found = blocks(data)
    if not found.frames:
        reason = "bad_header" if data[-1] == _END else "truncated"
        raise ImageError(reason, "there is no frame")
    left, top, across, down, _ = _RECTANGLE.unpack_from(data, found.image[0] + 1)
    return described(
        "gif",
        max(width, left + across),
        max(height, top + down),
        frames=found.frames,
        has_alpha=found.transparent,
        mode="palette",
        bit_depth=(flags & 7) + 1 if flags & 0x80 else 8,
    )


def lean_gif(data: bytes) -> bytes:
    """The first frame alone, without comments, which Pillow joins piece by piece."""
    found = blocks(data)
    (start, stop), (first, last) = found.control, found.image
    end = b"\x3b" if last < len(data) or data[-1:] == b"\0" else b""
    return data[: found.colours] + data[start:stop] + data[first:last] + end
