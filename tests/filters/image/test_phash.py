"""The perceptual hash against imagehash and Pillow, and its definition where these leave it to rounding."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from thresher.filters.image.phash import hash_bits, shrink

imagehash = pytest.importorskip("imagehash")

Grey = npt.NDArray[np.uint8]


def drawn(seed: int, width: int, height: int) -> Grey:
    """A picture of soft shapes without symmetry."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 5), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def theirs(grey: Grey) -> int:
    return int(str(imagehash.phash(Image.fromarray(grey))), 16)


def ours(grey: Grey) -> int:
    return int(hash_bits(shrink(grey)[None])[0])


def differing(a: int, b: int) -> int:
    return (a ^ b).bit_count()


@example(2, 201, 0)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_resizing_is_that_of_pillows_lanczos_filter(width: int, height: int, seed: int) -> None:
    grey = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    resized = Image.fromarray(grey).resize((32, 32), Image.Resampling.LANCZOS)
    assert np.array_equal(shrink(grey), np.asarray(resized))


def test_hashes_of_a_batch_are_those_of_imagehash_in_its_order_of_bits() -> None:
    images = np.random.default_rng(0).integers(0, 256, (500, 32, 32), dtype=np.uint8)
    assert [int(found) for found in hash_bits(images)] == [theirs(image) for image in images]


def test_hashes_of_pictures_of_all_shapes_are_those_of_imagehash() -> None:
    sizes = [(32, 32), (256, 192), (100, 400), (31, 33), (7, 300), (640, 480)]
    for seed, (width, height) in enumerate(sizes):
        grey = drawn(seed, width, height)
        assert ours(grey) == theirs(grey)


def test_a_coefficient_that_is_the_median_has_no_bit() -> None:
    half = drawn(1, 16, 32)
    mirrored = np.concatenate([half, half[:, ::-1]], axis=1)
    place, wave = np.arange(32, dtype=np.longdouble), np.arange(8, dtype=np.longdouble)
    pi = 4 * np.arctan(np.longdouble(1))
    cosines = 2 * np.cos(pi * wave[:, None] * (2 * place + 1) / 64)
    coefficients = (cosines @ mirrored.astype(np.longdouble) @ cosines.T).ravel()
    median = np.sort(coefficients)[31:33].sum() / 2
    bits = [bool(c > median and not np.isclose(float(c - median), 0, atol=1e-8)) for c in coefficients]
    assert np.isclose([float(c) for c in coefficients[1::2]], 0, atol=1e-8).all()
    assert ours(mirrored) == int("".join("01"[bit] for bit in bits), 2)


def test_the_hash_does_not_depend_on_the_batch() -> None:
    images = np.stack([shrink(drawn(seed, 90, 60)) for seed in range(40)])
    together = hash_bits(images)
    assert together.tolist() == [hash_bits(image[None])[0] for image in images]
    assert hash_bits(images[:0]).tolist() == []


@pytest.mark.parametrize(("quality", "scale"), [(95, 1.0), (60, 1.0), (85, 0.5), (75, 2.0)])
def test_the_hash_survives_encoding_and_resizing(quality: int, scale: float) -> None:
    moved = []
    for seed in range(30):
        grey = drawn(seed, 320, 240)
        copy = io.BytesIO()
        size = round(320 * scale), round(240 * scale)
        Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).save(copy, "JPEG", quality=quality)
        moved.append(differing(ours(grey), ours(np.asarray(Image.open(copy)))))
    assert max(moved) <= 4
    assert sum(moved) <= 30


def test_different_pictures_are_far_apart() -> None:
    hashes = [ours(drawn(seed, 200, 150)) for seed in range(60)]
    apart = [differing(a, b) for at, a in enumerate(hashes) for b in hashes[:at]]
    assert min(apart) > 8
    assert 28 < np.mean(apart) < 36


@pytest.mark.slow
def test_hashes_of_real_pictures_at_256_pixels_are_those_of_imagehash_at_full_size(shared_data: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    folder = shared_data / "images" / "openclipart"
    pairs = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    small = [pair for pair in pairs if pair["width"] * pair["height"] < 1_500_000]
    apart = []
    for pair in random.Random(7).sample(small, 60):
        image = Image.open(folder / pair["file"]).convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        grey = np.asarray(white.convert("L"))
        scale = min(1.0, 256 / max(grey.shape))
        size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
        apart.append(differing(ours(cv2.resize(grey, size, interpolation=cv2.INTER_AREA)), theirs(grey)))
    assert sum(found == 0 for found in apart) >= 54
    assert sum(found > 4 for found in apart) <= 2
