"""Pixels become encoded images: the same bytes each time, and nothing in them but the picture."""

from __future__ import annotations

import io
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from .decoders import opencv

Format = Literal["jpeg", "png", "webp"]

ENCODE_VERSION: Final = 1  # changes whenever pixels give other bytes
_LARGEST: Final = {"jpeg": 65_500, "png": 2**31 - 1, "webp": 16_383}  # pixels of a side


def encode(pixels: npt.NDArray[np.uint8], format: Format, quality: int = 95) -> bytes:
    """The picture, grey or of three channels, or for PNG and WebP also of four, encoded.

    `quality` is libjpeg's or libwebp's, from 1 to 100; PNG has none. Colours of a JPEG have half the
    resolution (4:2:0) at each quality, as OpenCV and so img2dataset write them.

    Raises ValueError for pixels that the format has no room for.
    """
    if max(pixels.shape[:2]) > _LARGEST[format]:
        raise ValueError(f"{format} has no room for {pixels.shape[1]} x {pixels.shape[0]} pixels")
    if format == "jpeg":
        return _jpeg(pixels, quality)
    from PIL import Image

    options: dict[str, Any] = {"quality": quality} if format == "webp" else {}
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, format, **options)
    return written.getvalue()


def _jpeg(pixels: npt.NDArray[np.uint8], quality: int) -> bytes:
    """By OpenCV, whose bytes are those of Pillow, in less time."""
    cv2 = opencv()
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, quality),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
    ]
    written: npt.NDArray[np.uint8] = cv2.imencode(".jpg", pixels, options)[1]
    return written.tobytes()
