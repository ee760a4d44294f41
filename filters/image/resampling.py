"""Pictures resized as Pillow does it, to the last bit: each new pixel is a weighted mean of those around its
place, of as many more of them as the picture is made smaller (github.com/python-pillow/Pillow, Resample.c).

First the rows are made of their new length, then the columns, each pass rounded to eight bits. A pass mixes
whole rows, which processors do in long vectors; for the first one the picture is turned on its side. Pillow
takes the columns of pictures more than a hundred times as high as wide first since 2026, which differs by a
level or two.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from ..kernels import kernel
from .decoders import opencv

Pixels = npt.NDArray[np.uint8]
Weights = npt.NDArray[np.int32]
Filter = Literal["bicubic", "bilinear"]

_BITS: Final = 22  # of a weight: with 8 of a sample and 2 for sums beyond 0 and 1 they fill 32
_SUPPORT: Final = {"bilinear": 1.0, "bicubic": 2.0}  # pixels to either side, of a picture made larger
_STRIPE: Final = 2048  # samples of a row that are summed at a time: the sums stay in the fastest cache


def resampled(
    pixels: Pixels,
    width: int,
    height: int,
    filter: Filter = "bicubic",
    window: tuple[int, int, int, int] | None = None,
) -> Pixels:
    """The picture (height, width, channels) in a new size, or of that only the `window`: left, top, right and
    bottom in new pixels, inside it. What is not in the window is not computed."""
    left, top, right, bottom = window or (0, 0, width, height)
    rows, columns = pixels.shape[:2]
    if height == rows:
        pixels = pixels[top:bottom]
    firsts, weights = _weights(rows, height, top, bottom, filter)
    if width == columns:
        pixels = pixels[:, left:right]
    else:
        if height != rows:  # only the rows that the second pass looks at
            start, stop = int(firsts[0]), int(firsts[-1]) + weights.shape[1]
            pixels, firsts = pixels[start : min(stop, rows)], firsts - start
        turn = opencv().transpose
        across, share = _weights(columns, width, left, right, filter)
        pixels = turn(_mixed(turn(np.ascontiguousarray(pixels)), across, share))
    return np.ascontiguousarray(pixels) if height == rows else _mixed(pixels, firsts, weights)


def _mixed(pixels: Pixels, firsts: Weights, weights: Weights) -> Pixels:
    made = np.empty((len(firsts), *pixels.shape[1:]), np.uint8)
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    mix_rows(rows, firsts, weights, made.reshape(len(firsts), -1))
    return made


@lru_cache(maxsize=256)  # pictures of a collection often share their size
def _weights(before: int, after: int, start: int, stop: int, filter: Filter) -> tuple[Weights, Weights]:
    """For the new rows from `start` to `stop` the first old one that each is made of, and their weights."""
    cubic = filter == "bicubic"
    taps = int(np.ceil(_SUPPORT[filter] * max(before / after, 1.0))) * 2 + 1
    firsts = np.empty(stop - start, np.int32)
    weights = np.zeros((stop - start, taps), np.int32)
    weigh(before, after, start, _SUPPORT[filter], cubic, firsts, weights)
    used = int(np.flatnonzero(weights.any(axis=0))[-1]) + 1
    return firsts, np.ascontiguousarray(weights[:, :used])


@kernel("void(int64, int64, int64, float64, boolean, int32[::1], int32[:, ::1])")
def weigh(
    before: int, after: int, start: int, support: float, cubic: bool, firsts: Weights, weights: Weights
) -> None:
    """Fills `firsts` and `weights`, in Pillow's order of operations, since sums of floats depend on it."""
    scale = before / after
    wide = max(scale, 1.0)
    reach = support * wide
    shares = np.empty(weights.shape[1], np.float64)
    for row in range(len(firsts)):
        centre = (start + row + 0.5) * scale
        first = max(0, int(centre - reach + 0.5))
        taps = min(before, int(centre + reach + 0.5)) - first
        total = 0.0
        for tap in range(taps):
            far = abs((tap + first - centre + 0.5) * (1.0 / wide))
            share = 0.0
            if not cubic:
                share = 1.0 - far if far < 1.0 else 0.0
            elif far < 1.0:
                share = ((-0.5 + 2.0) * far - (-0.5 + 3.0)) * far * far + 1
            elif far < 2.0:
                share = (((far - 5) * far + 8) * far - 4) * -0.5
            shares[tap] = share
            total += share
        firsts[row] = first
        for tap in range(taps):
            share = (shares[tap] / total if total != 0.0 else shares[tap]) * (1 << _BITS)
            weights[row, tap] = int(share - 0.5) if share < 0 else int(share + 0.5)


@kernel("void(Array(uint8, 2, 'C', readonly=True), int32[::1], int32[:, ::1], uint8[:, ::1])")
def mix_rows(rows: Pixels, firsts: Weights, weights: Weights, made: Pixels) -> None:
    """Fills each row of `made` with the sum of as many of `rows` as there are weights, from its first on."""
    before, length = rows.shape
    for begin in range(0, length, _STRIPE):
        end = min(begin + _STRIPE, length)
        sums = np.empty(end - begin, np.int32)
        for row in range(len(made)):
            first = firsts[row]
            taps = min(weights.shape[1], before - first)
            sums[:] = 1 << (_BITS - 1)
            tap = 0
            while tap + 4 <= taps:  # fewer ways to the sums and back
                # Views, so that no index can be negative and all is done in vectors.
                a = rows[first + tap, begin:end]
                b = rows[first + tap + 1, begin:end]
                c = rows[first + tap + 2, begin:end]
                d = rows[first + tap + 3, begin:end]
                of_a, of_b = weights[row, tap], weights[row, tap + 1]
                of_c, of_d = weights[row, tap + 2], weights[row, tap + 3]
                for at in range(end - begin):
                    sums[at] += (
                        of_a * np.int32(a[at])
                        + of_b * np.int32(b[at])
                        + of_c * np.int32(c[at])
                        + of_d * np.int32(d[at])
                    )
                tap += 4
            while tap < taps:
                a = rows[first + tap, begin:end]
                of_a = weights[row, tap]
                for at in range(end - begin):
                    sums[at] += of_a * np.int32(a[at])
                tap += 1
            out = made[row, begin:end]
            for at in range(end - begin):
                out[at] = np.uint8(min(max(sums[at] >> _BITS, 0), 255))
