"""Text in pictures painted over, so that a model has to look at the rest.

T-MARS (Maini et al. 2023, arXiv:2307.03132) fills what a detector of text has found with the mean colour of
the pixels around it, and scores the pair anew: pairs whose caption only matches what is written in the
picture fall behind. How wide that surrounding is the paper leaves open, and its published code ends at the
boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Box = Sequence[float]  # left, top, right, bottom, as shares of width and height

# Of a box's shorter side, and at least two pixels: our choice.
RING: Final = 0.1
_LEAST: Final = 2


def without_text(pixels: Pixels, boxes: Sequence[Box], ring: float = RING) -> Pixels:
    """A copy of the picture (height, width, 3) in which each box has the mean colour of the ring around it.

    `ring` is the ring's width as a share of the box's shorter side. What lies in any box is no part of a
    ring; where that leaves nothing, the colour is the mean of all that is in no box, and where everything is
    in boxes, of the picture. Boxes may reach beyond the picture. Raises ValueError for one that has not four
    finite numbers.
    """
    height, width = pixels.shape[:2]
    places = [place for box in boxes if (place := _place(box, width, height)) is not None]
    covered = np.zeros((height, width), np.bool_)
    for left, top, right, bottom in places:
        covered[top:bottom, left:right] = True
    painted = pixels.copy()
    for left, top, right, bottom in places:
        wide = max(_LEAST, round(ring * min(right - left, bottom - top)))
        around = slice(max(0, top - wide), bottom + wide), slice(max(0, left - wide), right + wide)
        seen = pixels[around][~covered[around]]
        if not len(seen):
            seen = pixels[~covered] if not covered.all() else pixels.reshape(-1, pixels.shape[2])
        painted[top:bottom, left:right] = np.rint(seen.mean(axis=0))
    return painted


def _place(box: Box, width: int, height: int) -> tuple[int, int, int, int] | None:
    """The pixels that a box touches, or None where these are none of the picture's."""
    if len(box) != 4 or not all(number is not None and math.isfinite(number) for number in box):
        raise ValueError(f"a box of text is {list(box)!r}; it has four numbers: left, top, right, bottom")
    left, right = (min(max(number, 0.0), 1.0) * width for number in (box[0], box[2]))
    top, bottom = (min(max(number, 0.0), 1.0) * height for number in (box[1], box[3]))
    if left >= right or top >= bottom:
        return None
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
