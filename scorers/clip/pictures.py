"""Encoded images become what a model is shown: decoded, masked, resized and cropped, in several threads.

The pixels are those of open_clip's transform by Pillow, to the last bit, but for three things: a JPEG of more
than MARGIN times the pixels in each direction is decoded at a half, a quarter or an eighth of its size; the
orientation of EXIF is applied; and transparent pixels are laid on white, where Pillow shows whatever colour
is below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...filters.image.decode import decode
from ...filters.image.header import ImageError, read_header
from ...filters.image.resampling import resampled
from .masking import RING, Box, without_text
from .preprocessing import Preprocessing, geometry

Pixels = npt.NDArray[np.uint8]

MARGIN: Final = 2.0
_TOGETHER: Final = 4  # images that a thread takes at a time


def shown(
    data: bytes, wanted: Preprocessing, boxes: Sequence[Box] | None = None, ring: float = RING
) -> Pixels:
    """The pixels (height, width, 3) that a model is shown of an encoded image, its `boxes` painted over.

    Raises ImageError where it cannot be decoded.
    """
    header = read_header(data)
    plan = geometry(header.width, header.height, wanted)
    share = MARGIN * max(plan.scaled[0] / header.width, plan.scaled[1] / header.height)
    least = math.ceil(share * min(header.width, header.height))
    pixels = decode(data, at_least=least, header=header)
    if boxes:
        pixels = without_text(pixels, boxes, ring)
    taken = resampled(pixels, *plan.scaled, wanted.interpolation, plan.window)
    height, width = wanted.size
    if taken.shape[:2] == (height, width):
        return taken
    whole = np.full((height, width, 3), wanted.fill_color, np.uint8)
    left, top = plan.place
    whole[top : top + len(taken), left : left + taken.shape[1]] = taken
    return whole


def shown_images(
    images: pa.Array,
    wanted: Preprocessing,
    executor: Executor,
    boxes: pa.Array | None = None,
    ring: float = RING,
) -> pa.Array:
    """What a model is shown of each image, as binary values of one size, in the order of `images`.

    Null where there is none, or where it cannot be decoded; and, where there are `boxes`, where these are
    null.
    """
    height, width = wanted.size
    pixels = np.zeros((len(images), height, width, 3), np.uint8)
    valid = np.zeros(len(images), np.bool_)

    def show(start: int) -> None:
        for row in range(start, min(start + _TOGETHER, len(images))):
            known = boxes is None or boxes[row].is_valid
            if not images[row].is_valid or not known:
                continue
            found = None if boxes is None else boxes[row].as_py()
            try:
                pixels[row] = shown(images[row].as_py(), wanted, found, ring)
            except ImageError:
                continue
            valid[row] = True

    list(executor.map(show, range(0, len(images), _TOGETHER)))
    return as_column(pixels, valid)


def as_column(rows: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_]) -> pa.Array:
    """The rows of an array as binary values of one size; null where not valid."""
    size = int(np.prod(rows.shape[1:])) * rows.dtype.itemsize
    bits = pa.py_buffer(np.packbits(valid, bitorder="little"))
    values = pa.py_buffer(np.ascontiguousarray(rows).reshape(-1))
    return pa.Array.from_buffers(pa.binary(size), len(rows), [bits, values])


def rows_of(column: pa.Array, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The rows of `as_column`, those that are null too, without copying."""
    whole = np.frombuffer(column.buffers()[1], dtype).reshape(-1, *shape)
    return whole[column.offset : column.offset + len(column)]


def decoders_of(threads: int | None) -> ThreadPoolExecutor:
    """Threads that decode, as many as torch computes in unless `threads` says otherwise."""
    if threads is None:
        import torch

        threads = torch.get_num_threads()
    return ThreadPoolExecutor(threads, "thresher-decode")
