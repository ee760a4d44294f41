"""The header of a BMP (Windows bitmap, and those of OS/2)."""

from __future__ import annotations

import struct
from typing import Final

from .header_model import Header, ImageError, described

SIZES: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})  # of the known headers
_BIT_FIELDS: Final = 3


def is_bmp(data: bytes) -> bool:
    """Whether the data begin as a bitmap does: two letters alone may begin a text."""
    return data[:2] == b"BM" and len(data) >= 18 and int.from_bytes(data[14:18], "little") in SIZES


def read_bmp(data: bytes) -> Header:
    """The header. Raises ImageError."""
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if bits not in (1, 2, 4, 8, 16, 24, 32) or compression > 6:
        raise ImageError("bad_header", f"{bits} bits a pixel, compression {compression}")
    masks = compression == _BIT_FIELDS and size >= 56
    alpha = masks and bits == 32 and struct.unpack_from("<I", data, 66)[0] != 0
    more = {"has_alpha": alpha, "mode": "palette" if bits <= 8 else "rgb", "bit_depth": min(bits, 8)}
    return described("bmp", width, abs(height), **more)
