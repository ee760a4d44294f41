"""Pictures made smaller: each new pixel is the mean of the area of old ones that it covers.

A pass averages rows, which processors do in long vectors; turned on its side, the picture gets the same for
its columns. Everything is in integers, so that each machine gives the same pixels.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ..kernels import kernel
from .decoders import opencv

Pixels = npt.NDArray[np.uint8]

_BITS: Final = 24  # of a weight: 255 of them and a half fit into 32 bits


def mean_areas(pixels: Pixels, width: int, height: int) -> Pixels:
    """The picture (height, width, channels), no larger than it was in either direction.

    Rounded once for the rows and once for the columns, so that a sample is less than one level from the mean.
    """
    if height != len(pixels):
        pixels = _mean_rows(pixels, height)
    if width != pixels.shape[1]:
        turn = opencv().transpose
        pixels = turn(_mean_rows(turn(pixels), width))
    return pixels


def _mean_rows(pixels: Pixels, rows: int) -> Pixels:
    before, length, channels = pixels.shape
    made = np.empty((rows, length, channels), np.uint8)
    average_rows(np.ascontiguousarray(pixels).reshape(before, -1), made.reshape(rows, -1))
    return made


@kernel("void(Array(uint8, 2, 'C', readonly=True), uint8[:, ::1])")
def average_rows(rows: Pixels, made: Pixels) -> None:
    """Fills `made`, as long and with as many rows or fewer, with the means of the rows that each covers."""
    before, length = rows.shape
    after = len(made)
    sums = np.empty(length, np.uint32)
    for row in range(after):
        # Where it begins and ends, in units of which an old row is `after` high and a new one `before`.
        start = row * before
        end = start + before
        covered = 0
        sums[:] = np.uint32(1 << (_BITS - 1))
        for old in range(start // after, (end - 1) // after + 1):
            # Shares of what is covered so far, and not of each row, so that the weights make up one.
            up_to = ((min(end, (old + 1) * after) - start) << _BITS) // before
            weight = np.uint32(up_to - covered)
            covered = up_to
            for at in range(length):
                sums[at] += weight * np.uint32(rows[old, at])
        for at in range(length):
            made[row, at] = np.uint8(sums[at] >> np.uint32(_BITS))
