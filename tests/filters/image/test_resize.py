"""The modes of img2dataset: its sizes as it gave them once, its pixels where it can be asked."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from thresher.filters.image.header import ImageError
from thresher.filters.image.resize import Mode, decode_resized, resize

MODES: tuple[Mode, ...] = ("no", "border", "keep_ratio", "keep_ratio_largest", "center_crop")
CASES = [(mode, only_larger) for mode in MODES for only_larger in (False, True)]
# Width and height that img2dataset 1.47.0 (albumentations 1.4.24) made of pictures of these sizes with
# image_size 256, in the order of CASES.
SIZES = {
    (640, 480): [
        (640, 480),
        (640, 480),
        (256, 256),
        (256, 256),
        (341, 256),
        (341, 256),
        (256, 192),
        (256, 192),
        (256, 256),
        (256, 256),
    ],
    (480, 640): [
        (480, 640),
        (480, 640),
        (256, 256),
        (256, 256),
        (256, 341),
        (256, 341),
        (192, 256),
        (192, 256),
        (256, 256),
        (256, 256),
    ],
    (300, 200): [
        (300, 200),
        (300, 200),
        (256, 256),
        (256, 256),
        (384, 256),
        (300, 200),
        (256, 171),
        (256, 171),
        (256, 256),
        (300, 200),
    ],
    (100, 75): [
        (100, 75),
        (100, 75),
        (256, 256),
        (100, 75),
        (341, 256),
        (100, 75),
        (256, 192),
        (100, 75),
        (256, 256),
        (100, 75),
    ],
    (256, 256): [
        (256, 256),
        (256, 256),
        (256, 256),
        (256, 256),
        (256, 256),
        (256, 256),
        (256, 256),
        (256, 256),
        (256, 256),
        (256, 256),
    ],
    (997, 331): [
        (997, 331),
        (997, 331),
        (256, 256),
        (256, 256),
        (771, 256),
        (771, 256),
        (256, 85),
        (256, 85),
        (256, 256),
        (256, 256),
    ],
    (200, 30): [
        (200, 30),
        (200, 30),
        (256, 256),
        (200, 30),
        (1707, 256),
        (200, 30),
        (256, 38),
        (200, 30),
        (256, 256),
        (200, 30),
    ],
    (257, 256): [
        (257, 256),
        (257, 256),
        (256, 256),
        (256, 256),
        (257, 256),
        (257, 256),
        (256, 255),
        (256, 255),
        (256, 256),
        (257, 256),
    ],
}


def picture(width: int, height: int) -> npt.NDArray[np.uint8]:
    rows, columns = np.mgrid[:height, :width]
    waves = 128 + 90 * np.sin(columns / 17) * np.cos(rows / 23)
    bands = [waves, columns * 255 / width, rows * 255 / height]
    return np.stack(bands, axis=2).astype(np.uint8)


def written(pixels: npt.NDArray[np.uint8], format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **options)
    return out.getvalue()


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_those_of_img2dataset(size: tuple[int, int]) -> None:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    made = [resize(pixels, mode, 256, only_larger=only_larger).shape[1::-1] for mode, only_larger in CASES]
    assert made == SIZES[size]


def test_going_down_each_pixel_is_the_mean_of_its_area() -> None:
    pixels = picture(512, 768)
    small = resize(np.ascontiguousarray(pixels), "keep_ratio", 256)
    boxes = pixels.reshape(384, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - boxes).max() <= 0.5


def test_going_up_is_by_lanczos() -> None:
    pixels = picture(100, 75)
    expected = cv2.resize(pixels, (341, 256), interpolation=cv2.INTER_LANCZOS4)
    np.testing.assert_array_equal(resize(pixels, "keep_ratio", 256), expected)


def test_a_border_is_around_the_picture_in_the_middle() -> None:
    pixels = np.zeros((200, 100, 3), np.uint8)
    framed = resize(pixels, "border", 101, border=(9, 8, 7))
    # 50 pixels wide by rounding half to even, so that 25 columns stand on the left and 26 on the right.
    assert (framed[:, 25:75] == 0).all()
    assert (framed[:, :25] == (9, 8, 7)).all()
    assert (framed[:, 75:] == (9, 8, 7)).all()


def test_the_middle_is_cropped() -> None:
    pixels = picture(300, 100)
    np.testing.assert_array_equal(resize(pixels, "center_crop", 100), pixels[:, 100:200])


def test_invisible_colours_do_not_shine_through() -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, ::2] = (255, 0, 0, 255)
    pixels[:, 1::2] = (0, 255, 0, 0)
    small = resize(pixels, "keep_ratio", 4)
    assert np.abs(small.astype(int) - (255, 0, 0, 128)).max() <= 1


@pytest.mark.parametrize("size", [(1024, 683), (1024, 768), (1600, 1200), (2560, 1600)])
def test_decoding_at_a_reduced_scale_is_near_to_the_full_one(size: tuple[int, int]) -> None:
    data = written(picture(*size), "JPEG", quality=90)
    reduced = decode_resized(data, "keep_ratio", 256)
    full = resize(np.asarray(Image.open(io.BytesIO(data))), "keep_ratio", 256)
    assert reduced.shape == full.shape
    difference = reduced.astype(float) - full
    assert 10 * np.log10(255**2 / (difference**2).mean()) > 40
    assert abs(difference.mean()) < 0.2


@pytest.mark.parametrize(("mode", "only_larger"), CASES)
def test_the_size_is_that_of_the_whole_picture_where_less_is_decoded(mode: Mode, only_larger: bool) -> None:
    for size in ((1023, 1021), (700, 97), (150, 100)):
        data = written(picture(*size), "JPEG")
        made = decode_resized(data, mode, 100, only_larger=only_larger)
        assert made.shape == resize(picture(*size), mode, 100, only_larger=only_larger).shape


def test_a_line_is_not_made_into_a_giant() -> None:
    data = written(np.zeros((1, 16_000, 3), np.uint8), "PNG")
    with pytest.raises(ImageError, match="too_many_pixels: 4096000 x 256"):
        decode_resized(data, "keep_ratio", 256)
    assert decode_resized(data, "keep_ratio", 256, only_larger=True).shape == (1, 16_000, 3)
    assert decode_resized(data, "keep_ratio_largest", 256).shape == (1, 256, 3)


ASK = """
import io, sys
import numpy as np
from img2dataset.resizer import Resizer
data = open(sys.argv[1], "rb").read()
made = {}
for mode in sys.argv[2].split(","):
    for only_larger in (False, True):
        image, width, height, *_, error = Resizer(
            256, mode, only_larger, encode_format="png", encode_quality=1)(io.BytesIO(data))
        assert error is None, error
        made[f"{mode} {only_larger}"] = np.frombuffer(image, np.uint8)
np.savez(sys.argv[3], **made)
"""


@pytest.mark.skipif(
    "THRESHER_IMG2DATASET_PYTHON" not in os.environ,
    reason="THRESHER_IMG2DATASET_PYTHON names no Python that has img2dataset",
)
@pytest.mark.parametrize("size", [(640, 480), (97, 331), (300, 200), (150, 100)])
@pytest.mark.parametrize("alpha", [False, True])
def test_pixels_are_those_of_img2dataset(size: tuple[int, int], alpha: bool, tmp_path: Path) -> None:
    pixels = picture(*size)
    if alpha:
        pixels = np.dstack([pixels, np.linspace(0, 255, size[0]).astype(np.uint8)[None].repeat(size[1], 0)])
    source, result = tmp_path / "image.png", tmp_path / "made.npz"
    source.write_bytes(written(pixels, "PNG"))
    python = os.environ["THRESHER_IMG2DATASET_PYTHON"]
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    command = [python, "-c", ASK, str(source), ",".join(MODES), str(result)]
    asked = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    with np.load(result) as theirs:
        for mode, only_larger in CASES:
            expected = cv2.imdecode(theirs[f"{mode} {only_larger}"], cv2.IMREAD_COLOR_RGB)
            made = decode_resized(source.read_bytes(), mode, 256, only_larger=only_larger)
            assert made.shape == expected.shape
            assert np.abs(made.astype(int) - expected).max() <= 1, (mode, only_larger)
