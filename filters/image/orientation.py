"""Orientation: how a stored picture must be turned or mirrored to be shown, as EXIF numbers it."""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

TAG: Final = 0x0112
_INTEGERS: Final = {3: "H", 4: "I"}  # the types SHORT and LONG


def exif_orientation(data: bytes, start: int, end: int) -> int:
    """The orientation in an EXIF block, which is the TIFF header at `start` and what follows up to `end`.

    1, as it is, where the block says nothing, cannot be read, or says something else than 1 to 8.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[start : start + 2])
    if order is None or end - start < 14 or end > len(data):
        return 1
    entries = start + int(struct.unpack_from(order + "I", data, start + 4)[0])
    if entries + 2 > end:
        return 1
    (count,) = struct.unpack_from(order + "H", data, entries)
    stop = entries + 2 + 12 * min(count, (end - entries - 2) // 12)
    for at in range(entries + 2, stop, 12):
        tag, kind = struct.unpack_from(order + "HH", data, at)
        if tag == TAG:
            known = _INTEGERS.get(kind)
            value = struct.unpack_from(order + known, data, at + 8)[0] if known else 1
            return value if 1 <= value <= 8 else 1
    return 1


def oriented(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """The pixels (height, width, ...) as they are to be shown; in one piece of memory.

    2: mirrored left to right, 3: turned by 180 degrees, 4: mirrored top to bottom, 5: mirrored along the main
    diagonal, 6: turned by 90 degrees clockwise, 7: mirrored along the other diagonal, 8: turned by 90 degrees
    anticlockwise.
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    # Of the swapped picture these are the flips that remain.
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
