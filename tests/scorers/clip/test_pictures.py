"""What a model is shown of an image, beside open_clip's own transform."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from thresher.schemas.contracts import AssetError
from thresher.scorers.clip.pictures import rows_of, shown, shown_images
from thresher.scorers.clip.preprocessing import Preprocessing, geometry, preprocessing_of

Encode = Callable[..., bytes]
Draw = Callable[[int, int, int], Image.Image]

SETTINGS: list[tuple[dict[str, Any], tuple[int, int]]] = [
    ({}, (32, 32)),
    ({"interpolation": "bilinear", "mean": [0.0] * 3, "std": [1.0] * 3}, (32, 32)),
    ({"resize_mode": "squash", "mean": 0.5, "std": 0.5}, (32, 32)),
    ({"resize_mode": "longest", "fill_color": 127}, (32, 32)),
    ({"resize_mode": "squash"}, (40, 24)),
    ({"resize_mode": "shortest", "interpolation": "bilinear"}, (40, 24)),
    ({"resize_mode": "longest"}, (24, 40)),
]
SIZES = [(32, 32), (33, 47), (120, 61), (20, 90), (17, 9), (101, 31), (63, 64)]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.mark.parametrize(("settings", "size"), SETTINGS, ids=str)
def test_a_model_is_shown_what_open_clips_transform_makes(
    settings: dict[str, Any], size: tuple[int, int], open_clip: Any, drawn: Draw, encoded: Encode
) -> None:
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from thresher.scorers.torch_images import Normaliser

    transform = image_transform_v2(PreprocessCfg(size=size, **settings), is_train=False)
    wanted = preprocessing_of(settings, size)
    normaliser = Normaliser(wanted.mean, wanted.std, torch.device("cpu"), "fp32")
    for width, height in SIZES:
        picture = drawn(width, height, width * height)
        for data in (encoded(picture), encoded(picture, "JPEG"), encoded(picture.convert("L"))):
            ours = normaliser(shown(data, wanted)[None])[0]
            theirs = transform(Image.open(io.BytesIO(data)))
            assert (ours - theirs).abs().max() <= 1e-6, (width, height)


def test_of_a_large_jpeg_a_part_of_its_pixels_is_near_enough(drawn: Draw, encoded: Encode) -> None:
    picture = drawn(900, 700, 3)
    data = encoded(picture, "JPEG", quality=90)
    found = shown(data, Preprocessing((64, 64))).astype(int)
    whole = Image.open(io.BytesIO(data)).resize((82, 64), Image.Resampling.BICUBIC).crop((9, 0, 73, 64))
    differences = np.abs(found - np.asarray(whole).astype(int))
    assert differences.max() > 0  # decoded at a quarter of its size
    assert differences.mean() < 1.0
    assert np.quantile(differences, 0.99) <= 12


def test_a_picture_is_shown_upright_and_its_transparency_on_white(encoded: Encode, drawn: Draw) -> None:
    picture = drawn(48, 32, 8)
    exif = Image.Exif()
    exif[0x0112] = 6
    wanted = Preprocessing((32, 32))
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    np.testing.assert_array_equal(shown(encoded(turned, exif=exif), wanted), shown(encoded(picture), wanted))
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    assert (shown(encoded(clear), wanted) == 255).all()


def test_images_come_back_in_their_order_and_null_where_there_is_no_picture(
    threads: ThreadPoolExecutor, encoded: Encode, drawn: Draw
) -> None:
    wanted = Preprocessing((16, 24))
    images = [encoded(drawn(30 + n, 20, n)) for n in range(11)]
    images[3], images[7] = images[3][:60], b"no picture"
    column = pa.array([*images, None], pa.binary())
    made = shown_images(column, wanted, threads)
    assert [row for row, value in enumerate(made) if not value.is_valid] == [3, 7, 11]
    pixels = rows_of(made.slice(4, 3), (16, 24, 3), np.uint8)
    for found, image in zip(pixels, images[4:7], strict=True):
        np.testing.assert_array_equal(found, shown(image, wanted))
    one = shown_images(column.cast(pa.large_binary()), wanted, threads)
    assert one.equals(made)
    assert len(shown_images(column.slice(0, 0), wanted, threads)) == 0


def test_of_a_ribbon_only_the_middle_is_made_larger(encoded: Encode) -> None:
    ribbon = np.zeros((1, 20_000, 3), np.uint8)
    ribbon[:, 10_000:] = 250
    assert geometry(20_000, 1, Preprocessing((224, 224))).scaled == (4_480_000, 224)
    found = shown(encoded(ribbon), Preprocessing((224, 224)))
    assert (found[:, 0] == 0).all()
    assert (found[:, -1] == 250).all()


@pytest.mark.parametrize(
    "settings",
    [{"resize_mode": "crop"}, {"interpolation": "nearest"}, {"mean": [1, 2]}, {"std": "wide"}],
    ids=str,
)
def test_preprocessing_that_open_clip_has_no_meaning_for_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(AssetError, match="of preprocess_cfg is"):
        preprocessing_of(settings, (32, 32))
