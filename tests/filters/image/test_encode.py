"""What is written, read again by Pillow and OpenCV."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from thresher.filters.image.encode import encode
from thresher.filters.image.header import read_header

ROWS, COLUMNS = np.mgrid[:48, :64]
PIXELS = np.stack([COLUMNS * 4, ROWS * 5, (ROWS + COLUMNS) * 2], axis=2).astype(np.uint8)


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_the_format_is_the_one_that_was_asked_for_and_the_bytes_never_change(format: str) -> None:
    data = encode(PIXELS, format)  # type: ignore[arg-type]
    header = read_header(data)
    assert (header.format, header.width, header.height) == (format, 64, 48)
    assert encode(PIXELS.copy(), format) == data  # type: ignore[arg-type]
    seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(seen.astype(int) - PIXELS).mean() < (0.1 if format == "png" else 6)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_a_higher_quality_is_nearer_to_the_picture_and_larger(format: str) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    low, high = (encode(noise, format, quality) for quality in (20, 95))  # type: ignore[arg-type]
    far, near = (
        np.abs(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int) - noise).mean()
        for data in (low, high)
    )
    assert len(low) < len(high)
    assert near < far


def test_quality_is_libjpegs() -> None:
    ours = Image.open(io.BytesIO(encode(PIXELS, "jpeg", 77)))
    theirs = cv2.imencode(".jpg", PIXELS[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 77])[1].tobytes()
    assert ours.quantization == Image.open(io.BytesIO(theirs)).quantization  # type: ignore[attr-defined]
    sampling = [component[1:3] for component in ours.layer]  # type: ignore[attr-defined]
    assert sampling == [(2, 2), (1, 1), (1, 1)]


@pytest.mark.parametrize("format", ["png", "webp"])
def test_alpha_is_kept(format: str) -> None:
    pixels = np.dstack([PIXELS, COLUMNS.astype(np.uint8) * 4])
    data = encode(pixels, format)  # type: ignore[arg-type]
    assert read_header(data).has_alpha
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data)))[..., 3], pixels[..., 3])


def test_grey_is_written_as_grey() -> None:
    assert read_header(encode(PIXELS[..., 0], "jpeg")).mode == "grey"


def test_sides_that_the_format_has_no_room_for_are_refused() -> None:
    with pytest.raises(ValueError, match="webp has no room for 16384 x 1"):
        encode(np.zeros((1, 16_384, 3), np.uint8), "webp")
