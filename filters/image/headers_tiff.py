"""The header of a TIFF (TIFF 6.0) or BigTIFF: its image file directories."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from .header_model import Header, ImageError, Mode, described
from .orientation import TAG as ORIENTATION

MAX_PAGES: Final = 10_000  # more are not counted
_MAX_TAGS: Final = 4_096
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES, _EXTRA = 256, 257, 258, 262, 277, 338
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_MODES: Final[dict[int, Mode]] = {0: "grey", 1: "grey", 2: "rgb", 3: "palette", 5: "cmyk", 6: "rgb", 8: "lab"}
_NUMBERS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}  # BYTE, SHORT, LONG, LONG8


class _Shape(NamedTuple):
    """How directories are laid out: as struct formats, and the bytes of an entry and of its value."""

    order: str
    number: str  # of entries
    offset: str
    entry: int
    value: int


def _shape(data: bytes) -> tuple[_Shape, int]:
    """The layout, and where the first directory is."""
    order = "<" if data[:2] == b"II" else ">"
    (version,) = struct.unpack_from(order + "H", data, 2)
    if version == 43:
        size, zero, first = struct.unpack_from(order + "HHQ", data, 4)
        if (size, zero) != (8, 0):
            raise ImageError("bad_header", f"BigTIFF with offsets of {size} bytes")
        return _Shape(order, "Q", "Q", 20, 8), first
    return _Shape(order, "H", "I", 12, 4), struct.unpack_from(order + "I", data, 4)[0]


def read_tiff(data: bytes) -> Header:
    """The header of the first page; `frames` are the pages. Raises ImageError."""
    shape, first = _shape(data)
    tags = _tags(data, shape, first)
    if _WIDTH not in tags or _HEIGHT not in tags:
        raise ImageError("bad_header", "the first directory gives no size")
    photometric, samples = tags.get(_PHOTOMETRIC, 1), tags.get(_SAMPLES, 1)
    orientation = tags.get(ORIENTATION, 1)
    mode = _MODES.get(photometric, "rgb")
    two_greys = mode == "grey" and samples == 2
    depth = tags.get(_BITS, 1)
    # Decoders hold a tile whole, which may be much larger than the picture.
    tile = tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_HEIGHT, 0) * samples * depth / 8
    return described(
        "tiff",
        tags[_WIDTH],
        tags[_HEIGHT],
        orientation if 1 <= orientation <= 8 else 1,
        frames=_pages(data, shape, first),
        has_alpha=tags.get(_EXTRA, 0) in (1, 2) or two_greys,
        bit_depth=depth,
        mode=mode,
        buffered=tile / max(1, tags[_WIDTH] * tags[_HEIGHT]),
    )


def _tags(data: bytes, shape: _Shape, at: int) -> dict[int, int]:
    """The first number of each tag of a directory that has one."""
    (count,) = struct.unpack_from(shape.order + shape.number, data, at)
    if count > _MAX_TAGS:
        raise ImageError("bad_header", f"a directory of {count} tags")
    at += struct.calcsize(shape.number)
    found: dict[int, int] = {}
    for entry in range(at, at + count * shape.entry, shape.entry):
        tag, kind, values = struct.unpack_from(shape.order + "HH" + shape.offset, data, entry)
        number = _NUMBERS.get(kind)
        if number is None or tag in found:
            continue
        place = entry + shape.entry - shape.value
        if values * struct.calcsize(number) > shape.value:
            (place,) = struct.unpack_from(shape.order + shape.offset, data, place)
            if tag not in (_BITS, _EXTRA):
                continue
        (found[tag],) = struct.unpack_from(shape.order + number, data, place)
    return found


def _pages(data: bytes, shape: _Shape, at: int) -> int:
    """How many directories the chain has, as far as it can be followed; a ring is gone round once."""
    seen: set[int] = set()
    while at and at not in seen and len(seen) < MAX_PAGES:
        try:
            (count,) = struct.unpack_from(shape.order + shape.number, data, at)
            after = at + struct.calcsize(shape.number) + count * shape.entry
            seen.add(at)
            (at,) = struct.unpack_from(shape.order + shape.offset, data, after)
        except (struct.error, OverflowError):
            break
    return max(len(seen), 1)
