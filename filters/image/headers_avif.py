"""The header of an AVIF (AV1 Image File Format 1.1, in boxes of ISO/IEC 23008-12)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from .header_model import Header, ImageError, Mode, described
from .headers_jpeg2000 import boxes

BRANDS: Final = frozenset({b"avif", b"avis"})
_ALPHA: Final = (
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
    b"urn:mpeg:hevc:2015:auxid:1",
)
# EXIF's number for a turn of so many quarters anticlockwise, and then no mirror, one top to bottom, or one
# left to right.
_ORIENTATIONS: Final = ((1, 4, 2), (8, 5, 7), (3, 2, 4), (6, 7, 5))


def brands(data: bytes) -> frozenset[bytes]:
    """The brands of an ISO base media file: the major one and those that it is compatible with."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4], "big"), len(data), 4096)
    return frozenset({data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))})


@dataclass
class _Found:
    """What the boxes say."""

    primary: int = 0
    properties: list[tuple[bytes, int, int]] = field(default_factory=list)
    of_item: dict[int, list[int]] = field(default_factory=dict)  # item -> numbers of its properties, from 1
    frames: int = 0
    track: tuple[int, int] | None = None  # size of the first track's pictures


def read_avif(data: bytes) -> Header:
    """The header: of a sequence without a still picture that of its track. Raises ImageError."""
    found = _Found()
    for kind, start, end in boxes(data, 0, len(data)):
        if kind == b"meta":
            _read_meta(data, start + 4, end, found)
        elif kind == b"moov":
            _read_movie(data, start, end, found)
    frames = max(found.frames, 1)
    size, depth, mode, orientation = _of_primary(data, found)
    if size is None:
        size = found.track
    if size is None:
        raise ImageError("truncated" if not found.properties else "bad_header", "no picture has a size")
    alpha = any(kind == b"auxC" and data.startswith(_ALPHA, start + 4) for kind, start, _ in found.properties)
    width, height = size
    return described(
        "avif", width, height, orientation, frames=frames, has_alpha=alpha, bit_depth=depth, mode=mode
    )


def _of_primary(data: bytes, found: _Found) -> tuple[tuple[int, int] | None, int, Mode, int]:
    size: tuple[int, int] | None = None
    depth, turns, mirror = 8, 0, 0
    mode: Mode = "rgb"
    for number in found.of_item.get(found.primary, []):
        if not 0 < number <= len(found.properties):
            continue
        kind, start, _ = found.properties[number - 1]
        if kind == b"ispe":
            size = struct.unpack_from(">II", data, start + 4)
        elif kind == b"av1C":
            flags = data[start + 2]
            depth = 12 if flags & 0x60 == 0x60 else 10 if flags & 0x40 else 8
            mode = "grey" if flags & 0x10 else "rgb"
        elif kind == b"irot":
            turns = data[start] & 3
        elif kind == b"imir":
            mirror = 1 + (data[start] & 1)
    return size, depth, mode, _ORIENTATIONS[turns][mirror]


def _read_meta(data: bytes, at: int, end: int, found: _Found) -> None:
    for kind, start, stop in boxes(data, at, end):
        if kind == b"pitm":
            wide = data[start] > 0
            (found.primary,) = struct.unpack_from(">I" if wide else ">H", data, start + 4)
        elif kind == b"iprp":
            for inner, first, last in boxes(data, start, stop):
                if inner == b"ipco" and not found.properties:
                    found.properties = list(boxes(data, first, last))
                elif inner == b"ipma":
                    _read_associations(data, first, min(last, len(data)), found)


def _read_associations(data: bytes, at: int, end: int, found: _Found) -> None:
    version, flags = data[at], data[at + 3]
    (count,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    identity, width = (">I", 4) if version else (">H", 2)
    for _ in range(count):
        if at + width >= end:
            return
        (item,) = struct.unpack_from(identity, data, at)
        number = data[at + width]
        at += width + 1
        if flags & 1:
            numbers = [value & 0x7FFF for value in struct.unpack_from(f">{number}H", data, at)]
        else:
            numbers = [value & 0x7F for value in data[at : at + number]]
        at += number * (2 if flags & 1 else 1)
        found.of_item.setdefault(item, numbers)


def _read_movie(data: bytes, at: int, end: int, found: _Found) -> None:
    """The size and the number of the pictures of the first track."""
    for kind, start, stop in boxes(data, at, end):
        if kind != b"trak" or found.track is not None:
            continue
        for inner, first, last in boxes(data, start, stop):
            if inner == b"tkhd" and last <= len(data):
                width, height = struct.unpack_from(">II", data, last - 8)
                found.track = width >> 16, height >> 16
            elif inner == b"mdia":
                found.frames = _samples(data, first, last)


def _samples(data: bytes, at: int, end: int) -> int:
    path = (b"minf", b"stbl", b"stsz")
    for name in path:
        for kind, start, stop in boxes(data, at, end):
            if kind == name:
                at, end = start, stop
                break
        else:
            return 0
    return int(struct.unpack_from(">I", data, at + 8)[0])
