"""Arrays of large binary values, made with one copy of their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa

_MOST: Final = 2**31 - 1  # bytes that 32-bit offsets have room for


def binary_array(values: Sequence[bytes | None]) -> pa.Array:
    """The values as an array of `binary`; Arrow's own builder moves what it has at each growth.

    Raises pa.ArrowCapacityError where they have more than 2 GiB.
    """
    lengths = np.fromiter((len(value or b"") for value in values), np.int64, len(values))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if offsets[-1] > _MOST:
        raise pa.ArrowCapacityError(f"{offsets[-1]} bytes in one array")
    there = np.fromiter((value is not None for value in values), bool, len(values))
    known = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little").tobytes())
    data = pa.py_buffer(b"".join(value for value in values if value is not None))
    places = pa.py_buffer(offsets.astype(np.int32).tobytes())
    return pa.Array.from_buffers(pa.binary(), len(values), [known, places, data])
