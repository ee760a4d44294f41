"""The header of a PNG (ISO/IEC 15948 and APNG): its chunks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from .header_model import Header, ImageError, Mode, described
from .orientation import exif_orientation

MAX_CHUNKS: Final = 100_000  # of 8 KB, as libpng writes them, this is 800 MB
_HEADER: Final = struct.Struct(">IIBBBBB")
_CHUNK: Final = struct.Struct(">I4s")
_DEPTHS: Final[dict[int, tuple[Mode, frozenset[int]]]] = {
    0: ("grey", frozenset({1, 2, 4, 8, 16})),
    2: ("rgb", frozenset({8, 16})),
    3: ("palette", frozenset({1, 2, 4, 8})),
    4: ("grey", frozenset({8, 16})),
    6: ("rgb", frozenset({8, 16})),
}
_PICTURE: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each chunk's payload, up to IEND or as far as there are whole ones.

    Raises ImageError where there are too many.
    """
    at, room = 8, len(data) - 12
    for _ in range(MAX_CHUNKS):
        if at > room:
            return
        length, kind = _CHUNK.unpack_from(data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            return
        yield kind, at + 8, end
        if kind == b"IEND":
            return
        at = end + 4
    raise ImageError("bad_header", f"more than {MAX_CHUNKS} chunks")


def read_png(data: bytes) -> Header:
    """The header; `frames` are those that acTL announces. Raises ImageError."""
    if data[8:16] != b"\0\0\0\rIHDR":
        raise ImageError("truncated" if len(data) < 16 else "bad_header", "does not begin with IHDR")
    width, height, depth, colour, compression, filter_, interlace = _HEADER.unpack_from(data, 16)
    mode, depths = _DEPTHS.get(colour, ("rgb", frozenset[int]()))
    if depth not in depths or compression or filter_ or interlace > 1 or max(width, height) >> 31:
        raise ImageError("bad_header", f"IHDR of colour type {colour}, {depth} bits, {width} x {height}")
    has_alpha, frames, orientation = colour >= 4, 1, 1
    pixels = False
    for kind, start, end in chunks(data):
        if kind == b"IDAT":
            pixels = True
        elif kind == b"tRNS" and not pixels:
            has_alpha = True
        elif kind == b"acTL" and not pixels and end - start >= 4:
            frames = max(1, int(struct.unpack_from(">I", data, start)[0]))
        elif kind == b"eXIf":
            orientation = exif_orientation(data, start, end)
    more = {"frames": frames, "has_alpha": has_alpha, "bit_depth": depth, "mode": mode}
    return described("png", width, height, orientation, **more)


def lean_png(data: bytes) -> bytes:
    """The same picture, the first of an animation, without the chunks that are not pixels.

    Profiles and texts are compressed, so that a small chunk may grow without end where a decoder opens it.
    """
    kept, last, dropped, pixels = [data[:8]], 8, False, False
    for kind, start, end in chunks(data):
        if kind in _PICTURE:
            kept.append(data[start - 8 : end + 4])
            pixels = pixels or kind == b"IDAT"
        else:
            dropped = True
        last = end + 4
    if not dropped:
        return data
    if last + 8 <= len(data) and data[last + 4 : last + 8] == b"IDAT":  # a chunk that breaks off
        kept.append(data[last:])
    return b"".join(kept)
