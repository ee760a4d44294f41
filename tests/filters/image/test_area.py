"""Means of areas: beside sums of fractions in Python, and beside OpenCV."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from thresher.filters.image.area import mean_areas


def noise(width: int, height: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(width).integers(0, 256, (height, width, channels), np.uint8)


def overlap(old: int, new: int, before: int, after: int) -> Fraction:
    """The share that an old row has in a new one, of rows of any height."""
    start, end = Fraction(new * before, after), Fraction((new + 1) * before, after)
    return max(Fraction(0), min(end, Fraction(old + 1)) - max(start, Fraction(old))) / (end - start)


def weights(before: int, after: int) -> npt.NDArray[np.float64]:
    return np.array(
        [[float(overlap(old, new, before, after)) for old in range(before)] for new in range(after)]
    )


SIZES = [
    ((30, 20), (17, 11)),
    ((31, 64), (30, 1)),
    ((7, 90), (7, 13)),
    ((90, 7), (13, 7)),
    ((40, 40), (8, 10)),
]


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_each_pixel_is_the_mean_of_what_it_covers(
    old: tuple[int, int], new: tuple[int, int], channels: int
) -> None:
    pixels = noise(*old, channels)
    down, across = weights(old[1], new[1]), weights(old[0], new[0])
    exact = np.einsum("yr,rcs,xc->yxs", down, pixels.astype(float), across)
    made = mean_areas(pixels, *new)
    assert made.shape == (new[1], new[0], channels)
    assert np.abs(made - exact).max() <= 1.001
    assert np.abs(made - exact).mean() < 0.4


@pytest.mark.parametrize(
    ("old", "new"), [((400, 300), (341, 256)), ((800, 600), (341, 256)), ((513, 512), (256, 255))]
)
def test_pixels_are_those_of_opencv_within_one_level(old: tuple[int, int], new: tuple[int, int]) -> None:
    pixels = noise(*old)
    difference = mean_areas(pixels, *new) - cv2.resize(pixels, new, interpolation=cv2.INTER_AREA).astype(
        float
    )
    assert np.abs(difference).max() <= 1
    assert abs(difference.mean()) < 0.02


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
@pytest.mark.parametrize("height", [65_500, 3_001])
def test_what_is_even_stays_so_however_much_is_averaged(level: int, height: int) -> None:
    pixels = np.full((height, 5, 3), level, np.uint8)
    for rows in (1, 7, height - 1):
        assert (mean_areas(pixels, 3, rows) == level).all()


def test_pictures_may_be_read_only_and_anywhere_in_memory() -> None:
    pixels = noise(60, 40)
    turned = pixels.swapaxes(0, 1)[::-1]
    turned.flags.writeable = False
    np.testing.assert_array_equal(mean_areas(turned, 11, 17), mean_areas(turned.copy(), 11, 17))
