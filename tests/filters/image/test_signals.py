"""Signals of images against Pillow and a few lines of numpy."""

from __future__ import annotations

import hashlib
import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from PIL import Image
from thresher.filters.image.families import image_versions
from thresher.filters.signals import SIGNALS, compute_signals
from thresher.schemas.contracts import AssetError

Grey = npt.NDArray[np.uint8]

PIXELS = [name for name, spec in SIGNALS.items() if spec.family == "pixels"]
OF_IMAGES = [name for name, spec in SIGNALS.items() if spec.inputs == ("image",)]


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    made = io.BytesIO()
    image.save(made, kind, **options)
    return made.getvalue()


def shapes(seed: int, width: int, height: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def signals(images: list[bytes | None], *names: str) -> dict[str, list[Any]]:
    columns = {"image": pa.array(images, pa.binary())}
    return {name: found.to_pylist() for name, found in compute_signals(columns, names).items()}


def test_headers_and_bytes_say_what_pillow_says() -> None:
    kinds = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]
    images: list[bytes | None] = [encoded(shapes(n, 30 + n, 70), kind) for n, kind in enumerate(kinds)]
    found = signals(images, *(name for name in OF_IMAGES if name not in PIXELS))
    for row, data in enumerate(images):
        assert data is not None
        image = Image.open(io.BytesIO(data))
        width, height = image.size
        assert {name: column[row] for name, column in found.items()} == {
            "width": width,
            "height": height,
            "min_side": width,
            "pixels": width * height,
            "aspect": height / width,
            "image_format": str(image.format).lower(),
            "bytes_per_pixel": len(data) / (width * height),
            "frames": 1,
            "has_alpha": False,
            "image_bytes": len(data),
            "image_sha256": hashlib.sha256(data).hexdigest(),
        }


def test_frames_and_transparency_are_told() -> None:
    frames = [shapes(seed, 20, 20) for seed in range(3)]
    animation = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 100))
    found = signals(
        [animation, encoded(clear), encoded(clear, "WEBP")], "frames", "has_alpha", "image_format"
    )
    assert found["frames"] == [3, 1, 1]
    assert found["has_alpha"][1:] == [True, True]
    assert found["image_format"] == ["gif", "png", "webp"]


def laplacian_variance(grey: Grey) -> float:
    padded = np.pad(grey.astype(np.int64), 1, mode="reflect")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return float(np.var(around - 4 * padded[1:-1, 1:-1]))


def entropy(grey: Grey) -> float:
    shares = [count / grey.size for count in np.bincount(grey.ravel()) if count]
    return -sum(share * math.log2(share) for share in shares)


@pytest.mark.parametrize("size", [(256, 180), (40, 256), (33, 21), (2, 2)])
def test_pixels_are_measured_as_defined(size: tuple[int, int]) -> None:
    image = shapes(4, *size).convert("L")
    grey = np.asarray(image)
    found = signals([encoded(image)], "brightness", "contrast", "image_entropy", "blur")
    assert found["brightness"] == [pytest.approx(grey.mean())]
    assert found["contrast"] == [pytest.approx(grey.std())]
    assert found["image_entropy"] == [pytest.approx(entropy(grey), abs=1e-9)]
    assert found["blur"] == [pytest.approx(laplacian_variance(grey))]


def test_a_large_picture_is_measured_at_256_pixels() -> None:
    image = shapes(5, 768, 513).convert("L")
    blocks = np.asarray(image).reshape(171, 3, 256, 3).mean(axis=(1, 3))
    found = signals([encoded(image)], "brightness", "contrast", "blur")
    assert found["brightness"][0] == pytest.approx(blocks.mean(), abs=0.2)
    assert found["contrast"][0] == pytest.approx(blocks.std(), abs=0.2)
    assert found["blur"][0] == pytest.approx(laplacian_variance(np.rint(blocks).astype(np.uint8)), rel=0.1)


def test_a_large_jpeg_that_is_decoded_at_reduced_scale_is_measured_nearly_as_the_whole() -> None:
    whole = shapes(6, 2000, 1500)
    names = ("brightness", "contrast", "image_entropy", "phash")
    found = signals([encoded(whole, "JPEG", quality=95), encoded(whole)], *names)
    for name in names[:3]:
        assert found[name][0] == pytest.approx(found[name][1], rel=0.02)
    assert (found["phash"][0] ^ found["phash"][1]).bit_count() <= 2


def test_transparent_pixels_are_white_and_the_orientation_is_applied() -> None:
    clear = Image.new("RGBA", (50, 40), (0, 0, 0, 0))
    left = shapes(2, 96, 64)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(left, "JPEG", quality=95, exif=exif)
    upright = encoded(left.rotate(-90, expand=True), "JPEG", quality=95)
    assert signals([encoded(clear)], "brightness", "near_uniform") == {
        "brightness": [255.0],
        "near_uniform": [True],
    }
    found = signals([turned, upright, encoded(left, "JPEG", quality=95)], "phash")["phash"]
    assert (found[0] ^ found[1]).bit_count() <= 2
    assert (found[0] ^ found[2]).bit_count() > 8


def test_noise_is_uniform_and_a_faint_drawing_is_not() -> None:
    noise = np.random.default_rng(0).normal(128, 6, (300, 400)).clip(0, 255).astype(np.uint8)
    drawing = np.full((300, 400), 250, np.uint8)
    drawing[100:200, 100:200] = 225
    images: list[bytes | None] = [
        encoded(Image.new("RGB", (400, 300), "teal"), "JPEG"),
        encoded(Image.fromarray(noise), "JPEG", quality=75),
        encoded(Image.fromarray(drawing), "JPEG", quality=75),
    ]
    found = signals(images, "near_uniform", "phash")
    assert found["near_uniform"] == [True, True, False]
    assert [value is None for value in found["phash"]] == [True, True, False]


def test_a_blurred_copy_has_a_lower_variance() -> None:
    sharp = Image.fromarray(np.random.default_rng(1).integers(0, 256, (200, 200), dtype=np.uint8))
    soft = sharp.resize((50, 50)).resize((200, 200), Image.Resampling.BICUBIC)
    blur = signals([encoded(sharp), encoded(soft)], "blur")["blur"]
    assert blur[0] > 20 * blur[1]


def test_null_and_unreadable_images_have_null_signals() -> None:
    bomb = encoded(Image.new("1", (8000, 8000)))
    broken = encoded(shapes(1, 100, 100))[:200]
    images: list[bytes | None] = [None, b"", b"<html></html>", broken, bomb]
    found = signals(images, *OF_IMAGES)
    for name in PIXELS:
        assert found[name] == [None] * 5, name
    assert found["width"] == [None, None, None, 100, 8000]
    assert found["image_bytes"] == [None if data is None else len(data) for data in images]
    assert found["image_sha256"][1] == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("name", OF_IMAGES)
def test_a_signal_does_not_depend_on_the_batch_or_on_what_else_is_asked_for(name: str) -> None:
    images: list[bytes | None] = [encoded(shapes(n, 300 + n, 200), "JPEG") for n in range(4)]
    together = signals([None, *images], *OF_IMAGES)[name]
    assert together == [None, *(signals([data], name)[name][0] for data in images)]
    assert compute_signals({"image": pa.array([], pa.binary())}, [name])[name].type == SIGNALS[name].type


def test_pdq_is_that_of_pdqhash_and_near_that_of_the_whole_picture() -> None:
    pdqhash = pytest.importorskip("pdqhash")
    small, large = shapes(8, 400, 300), shapes(9, 1600, 1200)
    found = signals([encoded(small), encoded(large)], "pdq", "pdq_quality")
    bits, quality = pdqhash.compute(np.asarray(small.convert("L").convert("RGB")))
    assert found["pdq"][0] == f"{int(''.join(map(str, bits)), 2):064x}"
    assert found["pdq_quality"][0] == quality
    whole, _ = pdqhash.compute(np.asarray(large))
    apart = int(found["pdq"][1], 16) ^ int("".join(map(str, whole)), 2)
    assert apart.bit_count() <= 16


def test_fingerprints_name_the_libraries_of_pixel_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert image_versions({"width": "header", "word_count": "measure"}) == {}
    assert set(image_versions({"blur": "pixels"})) == {"decoding"}
    monkeypatch.setattr(
        "thresher.filters.image.families.find_spec", lambda name: None if name == "pdqhash" else object()
    )
    with pytest.raises(AssetError, match="pdq needs pdqhash; run `pip install pdqhash`"):
        image_versions({"pdq": "pixels", "width": "header"})
