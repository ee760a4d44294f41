"""What is measured of an image's pixels, from a small grey picture of it.

That picture is the image decoded to grey on white, its orientation applied, and reduced (never enlarged)
until its longer side is 256 pixels, each pixel the mean of the area that it covers. PDQ alone has one of its
own, of 512 pixels: of 256 it would leave a tenth of its bits. So what a signal says does not depend on which
others are asked for, and one decoding at reduced scale serves all but PDQ.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..signal_spec import Requests
from .decode import decode_grey
from .header import ImageError, read_header
from .phash import SIDE, hash_bits, shrink
from .signals import UNIFORM_CONTRAST

Grey = npt.NDArray[np.uint8]

LONGER_SIDE: Final = 256
PDQ_SIDE: Final = 512
_PDQ: Final = frozenset({"pdq", "pdq_quality"})
_LEVELS: Final = np.arange(256)


def grey_picture(image: bytes, side: int = LONGER_SIDE) -> Grey:
    """An encoded image in grey, its longer side at most `side`. Raises ImageError where it is not decoded."""
    import cv2

    header = read_header(image)
    longer, smaller = max(header.width, header.height), min(header.width, header.height)
    if longer <= side:
        return decode_grey(image, header=header)
    grey = decode_grey(image, at_least=-(-side * smaller // longer), header=header)
    height, width = grey.shape
    if max(height, width) <= side:
        return grey
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def measure_pixels(images: pa.Array, requests: Requests) -> dict[str, pa.Array]:
    """The signals of the family `pixels` under the names that are asked for.

    Null where the image is null or cannot be decoded.
    """
    import cv2

    cv2.setNumThreads(1)  # processes share the cores, not threads
    wanted = {spec.name for _, spec in requests}
    rows: list[dict[str, Any] | None] = []
    small = np.zeros((len(images), SIDE, SIDE), np.uint8)
    hashed = np.zeros(len(images), np.bool_)
    for row, image in enumerate(images):
        try:
            found = _measured(image.as_py(), wanted, small[row]) if image.is_valid else None
        except ImageError:
            found = None
        rows.append(found)
        hashed[row] = found is not None and not found["near_uniform"]
    columns = {
        name: pa.array([None if found is None else found[name] for found in rows], spec.type)
        for name, spec in ((spec.name, spec) for _, spec in requests)
        if name != "phash"
    }
    if "phash" in wanted:
        columns["phash"] = pa.array(hash_bits(small), pa.uint64(), mask=~hashed)
    return {name: columns[spec.name] for name, spec in requests}


def _measured(image: bytes, wanted: set[str], small: Grey) -> dict[str, Any]:
    """Every signal of one image but phash, for which `small` is filled; the costly ones where wanted.

    Raises ImageError where it cannot be decoded.
    """
    import cv2

    picture = grey_picture(image)
    counts = cv2.calcHist([picture], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    pixels = int(counts.sum())
    total, squares = int(counts @ _LEVELS), int(counts @ (_LEVELS * _LEVELS))
    contrast = math.sqrt(max(0, squares * pixels - total * total)) / pixels
    found: dict[str, Any] = {
        "brightness": total / pixels,
        "contrast": contrast,
        "near_uniform": contrast < UNIFORM_CONTRAST,
    }
    if "phash" in wanted:
        small[:] = shrink(picture)
    if "image_entropy" in wanted:
        shares = counts[counts > 0] / pixels
        found["image_entropy"] = max(0.0, -float((shares * np.log2(shares)).sum()))
    if "blur" in wanted:
        found["blur"] = cv2.meanStdDev(cv2.Laplacian(picture, cv2.CV_16S))[1].item() ** 2
    if wanted & _PDQ:
        bits, quality = _pdq(grey_picture(image, PDQ_SIDE))
        found["pdq"] = None if found["near_uniform"] else bits
        found["pdq_quality"] = quality
    return found


def _pdq(picture: Grey) -> tuple[str, int]:
    import pdqhash  # type: ignore[import-untyped]

    bits, quality = pdqhash.compute(np.repeat(picture[:, :, None], 3, axis=2))  # it takes colours only
    return np.packbits(bits).tobytes().hex(), int(quality)
