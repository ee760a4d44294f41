"""Headers of tar members as POSIX.1-1988 (USTAR) has them, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)
RECORD: Final = 20 * BLOCK  # an archive ends on a multiple of this
_LARGEST: Final = 8**11 - 1  # bytes of a member whose size fits the eleven octal digits of its header
_NAME: Final = slice(0, 100)
_SIZE: Final = slice(124, 135)
_CHECKSUM: Final = slice(148, 154)


def _octal(number: int, width: int) -> bytes:
    return b"%0*o" % (width - 1, number) + bytes(1)


def _template() -> npt.NDArray[np.uint8]:
    """A header without a name, of a file without bytes; its checksum is still the blanks it is taken with."""
    fields = (
        bytes(100),
        _octal(0o644, 8),
        _octal(0, 8),  # owner
        _octal(0, 8),  # group
        _octal(0, 12),  # size
        _octal(0, 12),  # time
        b" " * 8,  # checksum
        b"0".ljust(101, b"\0"),  # a regular file; no link name
        b"ustar".ljust(6, b"\0"),
        b"00".ljust(66, b"\0"),  # version; no names of owner and group
        _octal(0, 8),  # device numbers
        _octal(0, 8),
        bytes(167),  # no prefix; padding
    )
    return np.frombuffer(b"".join(fields), np.uint8)


_TEMPLATE: Final = _template()
_TEMPLATE_SUM: Final = int(_TEMPLATE.sum()) - int(_TEMPLATE[_SIZE].sum())


def ustar_headers(names: Sequence[str], sizes: Sequence[int]) -> bytes:
    """The header blocks, one behind the other, of regular files: mode 0644, of nobody, without a time.

    Raises ValueError for a name or a size that does not fit.
    """
    if not names:
        return b""
    if max(map(len, names)) > 100 or max(sizes) > _LARGEST:
        name, size = max(zip(names, sizes, strict=True), key=lambda pair: (len(pair[0]) > 100, pair[1]))
        raise ValueError(f"{name}: {size} bytes are more than a tar member of this format can hold")
    blocks = np.tile(_TEMPLATE, (len(names), 1))
    encoded = np.array([name.encode("ascii") for name in names], "S100")
    blocks[:, _NAME] = encoded.view(np.uint8).reshape(len(names), 100)
    blocks[:, _SIZE] = _digits(np.array(sizes, np.int64), 11)
    sums = blocks[:, _NAME].sum(1, np.int64) + blocks[:, _SIZE].sum(1, np.int64) + _TEMPLATE_SUM
    blocks[:, _CHECKSUM] = _digits(sums, 6)
    blocks[:, _CHECKSUM.stop] = 0
    return blocks.tobytes()


def _digits(numbers: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.uint8]:
    shifts = 3 * np.arange(width - 1, -1, -1)
    return ((numbers[:, None] >> shifts & 7) + ord("0")).astype(np.uint8)
