"""Exact duplicates among images: 128-bit hashes of bytes, of pixels, and of pairs of URL and caption."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa
from xxhash import xxh3_128, xxh3_128_digest

from .exact import Normalization, text_key, url_key

VERSION: Final = 1  # changes whenever the key of some image or pair does

Halves = tuple[pa.UInt64Array, pa.UInt64Array]


def image_key(images: pa.Array) -> Halves:
    """The 128-bit xxh3 of each encoded image, as (key, low): its upper and lower 64 bits, null for null."""
    return _halves(images, xxh3_128_digest)


def pixel_key(images: pa.Array) -> Halves:
    """The same of what each image shows: its size, and its pixels as `decode` gives them.

    Null for null, and for what cannot be decoded.
    """
    from ..image.decode import decode
    from ..image.header import ImageError

    def digest(image: bytes) -> bytes | None:
        try:
            pixels = decode(image)
        except ImageError:
            return None
        said = xxh3_128(np.array(pixels.shape, "<u4").tobytes())
        said.update(np.ascontiguousarray(pixels).data)
        return said.digest()

    return _halves(images, digest)


def pair_key(urls: pa.Array, captions: pa.Array, normalize: Normalization = "whitespace") -> Halves:
    """The same of each canonical URL (`url_key`) together with its caption, normalised as in `text_key`.

    Null where the URL is null or none, and where the caption is null.
    """
    parts = [*url_key(urls), *text_key(captions, normalize)]
    values = np.stack([part.fill_null(0).to_numpy() for part in parts], axis=1).astype("<u8")
    there = parts[0].is_valid().to_numpy(zero_copy_only=False) & parts[2].is_valid().to_numpy(
        zero_copy_only=False
    )
    found = [xxh3_128_digest(row) if valid else None for row, valid in zip(values, there, strict=True)]
    return _split(found)


def decoder() -> str:
    """What decodes images here: pixels that another version gives may differ, if by little."""
    from ..image.decode import DECODE_VERSION
    from ..image.libraries import image_libraries

    return f"{DECODE_VERSION} {image_libraries()}"


def _halves(images: pa.Array, digest: Callable[[bytes], bytes | None]) -> Halves:
    return _split([None if image is None else digest(image) for image in images.to_pylist()])


def _split(digests: list[bytes | None]) -> Halves:
    halves = np.frombuffer(b"".join(d or bytes(16) for d in digests), ">u8").astype(np.uint64).reshape(-1, 2)
    none = np.array([digest is None for digest in digests], np.bool_)
    return pa.array(halves[:, 0], mask=none), pa.array(halves[:, 1], mask=none)
