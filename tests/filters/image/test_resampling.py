"""Pictures resized as Pillow does it; the oracle is Pillow itself."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from thresher.filters.image.resampling import Pixels, resampled

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
Filter = Literal["bicubic", "bilinear"]


def noise(width: int, height: int, seed: int = 0) -> Pixels:
    """Black and white and all between: sums of the kernel go beyond both ends."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels[random.random((height, width)) < 0.4] = 255
    pixels[random.random((height, width)) < 0.4] = 0
    return pixels


def by_pillow(pixels: Pixels, width: int, height: int, filter: Filter) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((width, height), FILTERS[filter]))


@settings(max_examples=60)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from(["bicubic", "bilinear"]),
)
def test_every_pixel_is_pillows(width: int, height: int, across: int, down: int, filter: Filter) -> None:
    pixels = noise(width, height)
    np.testing.assert_array_equal(
        resampled(pixels, across, down, filter), by_pillow(pixels, across, down, filter)
    )


@pytest.mark.parametrize(
    ("width", "height", "across", "down"),
    [
        (1500, 1000, 336, 224),
        (340, 256, 297, 224),
        (5000, 3, 224, 3),
        (30, 2900, 300, 11),
        (2100, 40, 2100, 9),
    ],
)
def test_pictures_longer_than_what_is_summed_at_a_time_are_pillows_too(
    width: int, height: int, across: int, down: int
) -> None:
    pixels = noise(width, height)
    np.testing.assert_array_equal(resampled(pixels, across, down), by_pillow(pixels, across, down, "bicubic"))


@settings(max_examples=40)
@given(st.data())
def test_a_window_is_what_the_whole_has_there(data: st.DataObject) -> None:
    width, height, across, down = (data.draw(st.integers(1, 50)) for _ in range(4))
    left, top = data.draw(st.integers(0, across - 1)), data.draw(st.integers(0, down - 1))
    right, bottom = data.draw(st.integers(left + 1, across)), data.draw(st.integers(top + 1, down))
    pixels = noise(width, height)
    whole = by_pillow(pixels, across, down, "bicubic")
    np.testing.assert_array_equal(
        resampled(pixels, across, down, window=(left, top, right, bottom)), whole[top:bottom, left:right]
    )


def test_pixels_that_lie_apart_in_memory_and_cannot_be_written_are_taken() -> None:
    pixels = noise(40, 30)[::2, ::-1]
    pixels.flags.writeable = False
    np.testing.assert_array_equal(resampled(pixels, 11, 9), by_pillow(pixels, 11, 9, "bicubic"))


def test_only_the_window_of_a_picture_that_would_be_huge_is_computed() -> None:
    pixels = noise(2, 3000)
    made = resampled(pixels, 224, 336_000, window=(0, 168_000, 224, 168_224))
    assert made.shape == (224, 224, 3)
