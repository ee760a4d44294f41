"""The header of a JPEG (ITU-T T.81): its markers up to the first scan."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from .header_model import Header, ImageError, described
from .orientation import exif_orientation

# Cameras write up to some hundreds (profiles and previews come in pieces of 64 KB); 20 MB have room for
# millions, each of which costs time.
MAX_SEGMENTS: Final = 5_000
_MARKER: Final = re.compile(rb"\xff[^\xff\x00]", re.DOTALL)
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a segment
_SCAN, _EXIF, _ADOBE = 0xDA, 0xE1, 0xEE


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Each marker up to the first scan's, with the start and the end of its payload.

    Raises ImageError if there is no scan.
    """
    at = 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None:
            raise ImageError("truncated", "the data end before the first scan")
        at = found.end()
        marker = data[at - 1]
        if marker in _ALONE:
            continue
        if 0xD8 <= marker <= 0xD9:
            raise ImageError("bad_header", f"marker {marker:x} before the first scan")
        length = data[at] << 8 | data[at + 1]
        if length < 2:
            raise ImageError("bad_header", f"a segment of length {length}")
        yield marker, at + 2, at + length
        if marker == _SCAN:
            return
        at += length
    raise ImageError("bad_header", f"more than {MAX_SEGMENTS} segments")


def read_jpeg(data: bytes) -> Header:
    """The header; orientation is that of the first EXIF block. Raises ImageError."""
    frame: tuple[int, int] | None = None
    orientation, in_scan, exif = 1, 0, False
    for marker, start, end in segments(data):
        if marker in _FRAMES and frame is None:
            frame = marker, start
        elif marker == _EXIF and not exif and data.startswith(b"Exif\0", start):
            exif = True
            orientation = exif_orientation(data, start + 6, end)
        elif marker == _SCAN:
            in_scan = data[start]
    if frame is None:
        raise ImageError("bad_header", "a scan without a frame")
    marker, at = frame
    depth, components = data[at], data[at + 5]
    height, width = data[at + 1] << 8 | data[at + 2], data[at + 3] << 8 | data[at + 4]
    mode = {1: "grey", 3: "rgb", 4: "cmyk"}.get(components)
    if mode is None:
        raise ImageError("bad_header", f"{components} components")
    # Where components come in scans of their own, decoders collect all coefficients, two bytes each.
    collects = marker & 3 == 2 or in_scan < components
    buffered = 2 * _samples(data, at + 6, components) if collects else 0.0
    return described("jpeg", width, height, orientation, bit_depth=depth, mode=mode, buffered=buffered)


def _samples(data: bytes, at: int, components: int) -> float:
    """Samples a pixel, of all components."""
    factors = [data[at + 3 * n + 1] for n in range(components)]
    across, down = max(f >> 4 for f in factors), max(f & 15 for f in factors)
    return sum((f >> 4) * (f & 15) for f in factors) / max(across * down, 1)


def lean_jpeg(data: bytes) -> bytes:
    """The same picture without what decoders read beside it: EXIF, profiles, comments.

    Pillow joins such segments one by one, which takes for ever where there are many.
    """
    kept: list[bytes] = [data[:2]]
    dropped = False
    for marker, start, end in segments(data):
        if marker == _SCAN:
            if not dropped:
                return data
            kept.append(data[start - 4 :])
        elif (0xE1 <= marker <= 0xEF or marker == 0xFE) and not (
            marker == _ADOBE and data.startswith(b"Adobe", start)
        ):
            dropped = True
        else:
            kept.append(data[start - 4 : end])
    return b"".join(kept)
