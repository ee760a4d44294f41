"""Text painted over in the colour of what is around it."""

from __future__ import annotations

import numpy as np
import pytest
from thresher.scorers.clip.masking import without_text


def test_a_box_gets_the_mean_of_the_ring_around_it() -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, :15] = (10, 20, 30)
    pixels[:, 15:] = (110, 60, 30)
    pixels[5:15, 10:20] = 255
    found = without_text(pixels, [(10 / 30, 0.25, 20 / 30, 0.75)])
    assert (found[5:15, 10:20] == (60, 40, 30)).all()  # as much of the left as of the right
    outside = np.ones((20, 30), bool)
    outside[5:15, 10:20] = False
    np.testing.assert_array_equal(found[outside], pixels[outside])
    assert (pixels[5:15, 10:20] == 255).all()


def test_a_wider_ring_sees_more() -> None:
    pixels = np.full((100, 100, 3), 200, np.uint8)
    pixels[38:62, 38:62] = 100
    pixels[40:60, 40:60] = 0
    box = [(0.4, 0.4, 0.6, 0.6)]
    assert (without_text(pixels, box, ring=0.1)[40:60, 40:60] == 100).all()
    near = np.zeros((100, 100), bool)
    near[30:70, 30:70] = True
    near[40:60, 40:60] = False
    expected = np.rint(pixels[near].mean(axis=0))
    assert (without_text(pixels, box, ring=0.5)[40:60, 40:60] == expected).all()


def test_what_lies_in_another_box_is_no_part_of_a_ring_and_the_order_of_boxes_does_not_matter() -> None:
    pixels = np.full((40, 40, 3), 80, np.uint8)
    pixels[10:20, 10:30] = 255
    boxes = [(10 / 40, 10 / 40, 20 / 40, 20 / 40), (20 / 40, 10 / 40, 30 / 40, 20 / 40)]
    assert (without_text(pixels, boxes) == 80).all()
    np.testing.assert_array_equal(without_text(pixels, boxes), without_text(pixels, boxes[::-1]))


def test_a_box_around_which_there_is_nothing_takes_the_rest_and_a_full_one_the_whole() -> None:
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[:, 5:] = 100
    assert (without_text(pixels, [(-3.0, 0.0, 9.0, 1.0)]) == 50).all()
    # The ring of the inner box lies in the outer one, and the rest is on the right.
    wide = np.zeros((30, 60, 3), np.uint8)
    wide[:, 40:] = 70
    nested = [(0.0, 0.0, 40 / 60, 1.0), (10 / 60, 0.3, 20 / 60, 0.6)]
    assert (without_text(wide, nested)[:, :40] == 70).all()


@pytest.mark.parametrize("box", [(0.5, 0.5, 0.5, 0.9), (0.8, 0.1, 0.2, 0.9), (1.2, 0.0, 1.5, 1.0)])
def test_a_box_without_pixels_changes_nothing(box: tuple[float, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(without_text(pixels, [box]), pixels)


@pytest.mark.parametrize("box", [(0.1, 0.2, 0.3), (0.0, 0.0, float("nan"), 1.0), (0.0, None, 1.0, 1.0)])
def test_what_is_no_box_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="four numbers"):
        without_text(np.zeros((4, 4, 3), np.uint8), [box])
