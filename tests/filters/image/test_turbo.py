"""libjpeg-turbo by itself, beside Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from thresher.filters.image.decode import decode, decode_grey
from thresher.filters.image.decoders import by_turbo
from thresher.filters.image.header import ImageError, read_header


def picture(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width).integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def drafted(data: bytes, scale: int, mode: str) -> npt.NDArray[np.uint8]:
    """Pillow's picture at a reduced scale."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft(mode, (max(1, image.width // scale), max(1, image.height // scale)))
        return np.asarray(image.convert(mode))


OPTIONS: list[dict[str, Any]] = [
    {},
    {"progressive": True},
    {"subsampling": 0},
    {"subsampling": 1},
    {"keep_rgb": True},
    {"restart_marker_rows": 2},
    {"comment": b"x" * 60_000},
]


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(64, 64), (65, 1001), (203, 150)])
@pytest.mark.parametrize("options", OPTIONS)
def test_pixels_are_those_of_pillow(options: dict[str, Any], size: tuple[int, int], scale: int) -> None:
    data = jpeg(picture(*size), **options)
    for mode, grey in (("RGB", False), ("L", True)):
        made = by_turbo(data, read_header(data), scale, grey)
        assert made is not None
        np.testing.assert_array_equal(made, drafted(data, scale, mode))


@pytest.mark.parametrize("scale", [1, 2])
def test_grey_pictures_are_those_of_pillow(scale: int) -> None:
    data = jpeg(picture(203, 150).convert("L"))
    for mode, grey in (("RGB", False), ("L", True)):
        made = by_turbo(data, read_header(data), scale, grey)
        assert made is not None
        np.testing.assert_array_equal(made, drafted(data, scale, mode))


def test_what_is_tiny_or_for_print_is_left_to_pillow() -> None:
    for data in (jpeg(picture(63, 200)), jpeg(picture(200, 200).convert("CMYK"))):
        assert by_turbo(data, read_header(data), 1, grey=False) is None
        assert decode(data).shape[2] == 3


@pytest.mark.parametrize("progressive", [False, True])
def test_what_is_damaged_is_what_pillow_says(progressive: bool, capfd: pytest.CaptureFixture[str]) -> None:
    whole = jpeg(picture(400, 300), progressive=progressive, quality=95)
    header = read_header(whole)
    random = np.random.default_rng(7)
    for cut in (len(whole) // 2, len(whole) - 100, len(whole) - 2):
        assert by_turbo(whole[:cut], header, 1, grey=False) is None
        with pytest.raises(ImageError, match="truncated"):
            decode(whole[:cut])
    for _ in range(60):
        data = bytearray(whole)
        for at in random.integers(len(whole) // 4, len(whole), 3):
            data[at] = random.integers(0, 256)
        try:
            expected = drafted(bytes(data), 1, "RGB")
        except OSError:
            with pytest.raises(ImageError):
                decode(bytes(data))
        else:
            np.testing.assert_array_equal(decode(bytes(data)), expected)
            np.testing.assert_array_equal(decode_grey(bytes(data)), drafted(bytes(data), 1, "L"))
    assert capfd.readouterr().err == ""


def test_a_frame_of_another_size_than_the_header_says_is_left_to_pillow() -> None:
    data = jpeg(picture(200, 100))
    assert by_turbo(data, read_header(jpeg(picture(100, 200))), 1, grey=False) is None
