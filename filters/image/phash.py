"""The perceptual hash of `imagehash.phash`, for a batch.

Its definition (github.com/JohannesBuchner/imagehash, hash_size 8, highfreq_factor 4): the grey image resized
to 32 × 32 with Pillow's Lanczos filter, the lowest 8 × 8 coefficients of its two-dimensional cosine
transform, and for each whether it is above the median of these 64. Resizing (`shrink`) gives Pillow's pixels,
and `hash_bits` the same bits, with one exception: where a coefficient equals the median, which symmetry
brings about, imagehash leaves it to rounding whether the bit is set, and here it is not.

The first coefficient, the mean, is the highest bit, and rows follow each other, so that the number in
hexadecimal is what imagehash prints.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..kernels import kernel

PHASH_VERSION: Final = 1  # changes whenever the signal `phash` of some image does
SIDE: Final = 32  # pixels of the resized image
_LOW: Final = 8  # frequencies of each direction that count
# Coefficients of 8-bit pixels are up to a million and rounded at about 1e-9; what differs by less is equal.
_EQUAL: Final = 1e-6
_PRECISION: Final = 22  # bits of Pillow's fixed-point weights (Pillow, src/libImaging/Resample.c)
_HALF: Final = 1 << (_PRECISION - 1)
_TALL: Final = (
    100  # times as high as wide: Pillow resizes the height of such an image first (PIL/Image.py, resize)
)
_LOBES: Final = 3.0  # half the width of the Lanczos filter, in pixels of the smaller image

_COSINES: Final = np.array(
    [[2.0 * np.cos(np.pi * wave * (2 * at + 1) / (2 * SIDE)) for at in range(SIDE)] for wave in range(_LOW)]
)
_COSINES.flags.writeable = False


@kernel("void(uint8[:, ::1], int64[::1], int32[:, ::1], uint8[:, ::1])")
def _resample(rows: Any, first: Any, weights: Any, out: Any) -> None:
    """Every column of `rows` resized to SIDE pixels."""
    width = rows.shape[1]
    sums = np.empty(width, np.int32)
    for at in range(SIDE):
        sums[:] = _HALF
        taps = min(weights.shape[1], rows.shape[0] - first[at])
        tap = 0
        while tap + 4 <= taps:  # four rows at a time: a third of the loads and stores of one at a time
            row = first[at] + tap
            a, b, c, d = weights[at, tap], weights[at, tap + 1], weights[at, tap + 2], weights[at, tap + 3]
            for x in range(width):
                upper = np.int32(np.int32(rows[row, x]) * a) + np.int32(np.int32(rows[row + 1, x]) * b)
                lower = np.int32(np.int32(rows[row + 2, x]) * c) + np.int32(np.int32(rows[row + 3, x]) * d)
                sums[x] = np.int32(sums[x] + np.int32(upper) + np.int32(lower))
            tap += 4
        while tap < taps:
            row, a = first[at] + tap, weights[at, tap]
            for x in range(width):
                sums[x] = np.int32(sums[x] + np.int32(np.int32(rows[row, x]) * a))
            tap += 1
        for x in range(width):
            out[at, x] = min(max(sums[x] >> _PRECISION, 0), 255)


@kernel("void(uint8[:, :, ::1], uint64[::1])")
def _hash(images: Any, out: Any) -> None:
    """The hashes of images of SIDE × SIDE."""
    half = np.empty((_LOW, SIDE), np.float64)
    found = np.empty(_LOW * _LOW, np.float64)
    for image in range(len(images)):
        half[:] = 0.0
        for wave in range(_LOW):
            for y in range(SIDE):
                factor = _COSINES[wave, y]
                for x in range(SIDE):
                    half[wave, x] += factor * images[image, y, x]
        for wave in range(_LOW):
            for other in range(_LOW):
                total = 0.0
                for x in range(SIDE):
                    total += half[wave, x] * _COSINES[other, x]
                found[wave * _LOW + other] = total
        ranked = np.sort(found)
        median = (ranked[_LOW * _LOW // 2 - 1] + ranked[_LOW * _LOW // 2]) / 2
        bits = np.uint64(0)
        for coefficient in found:
            bits = (bits << np.uint64(1)) | np.uint64(coefficient > median + _EQUAL)
        out[image] = bits


@lru_cache(maxsize=1024)
def _weights(size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """For each of SIDE pixels the first of `size` pixels that it is made of, and their weights."""
    step = size / SIDE
    scale = max(step, 1.0)
    reach = _LOBES * scale
    first = np.empty(SIDE, np.int64)
    weights = np.zeros((SIDE, 2 * int(np.ceil(reach)) + 1), np.int32)
    for at in range(SIDE):
        centre = (at + 0.5) * step
        low, high = max(0, int(centre - reach + 0.5)), min(size, int(centre + reach + 0.5))
        place = (np.arange(low, high) - centre + 0.5) / scale
        inside = (place >= -_LOBES) & (place < _LOBES)
        shape = np.where(inside, np.sinc(place) * np.sinc(place / _LOBES), 0.0)
        fixed = shape / shape.sum() * (1 << _PRECISION)
        first[at] = low
        weights[at, : high - low] = np.trunc(fixed + np.copysign(0.5, fixed))
    return first, weights


def shrink(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A grey image of any size as 32 × 32 pixels, as Pillow's Lanczos filter resizes it."""
    import cv2

    height, width = grey.shape
    if height > _TALL * width:
        lower = _resized(grey, height)
        return np.ascontiguousarray(_resized(cv2.transpose(lower), width).T)
    turned = _resized(cv2.transpose(grey), width)
    return _resized(cv2.transpose(turned), height)


def _resized(rows: npt.NDArray[Any], size: int) -> npt.NDArray[np.uint8]:
    small = np.empty((SIDE, rows.shape[1]), np.uint8)
    _resample(np.ascontiguousarray(rows), *_weights(size), small)
    return small


def hash_bits(small: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """The hash of each image of a stack of shape (images, 32, 32)."""
    hashes = np.empty(len(small), np.uint64)
    _hash(np.ascontiguousarray(small), hashes)
    return hashes
