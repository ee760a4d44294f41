"""The definitions of the signals of images and of their captions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from ..signal_spec import Family, SignalSpec

_IMAGE: Final = ("image",)
# A picture whose grey levels deviate less from their mean shows nothing: what remains is the noise of a
# camera or of JPEG, and the bits of a perceptual hash would follow it. Noise of six levels in a picture of
# 400 × 300 gives three; of 115 pieces of clip art that are not blank the faintest has nine.
UNIFORM_CONTRAST: Final = 4.0


def image_signals() -> Iterator[SignalSpec]:
    """The signals that are computed from an image, or from what stands beside it."""
    yield from _of_header()
    yield from _of_bytes()
    yield from _of_pixels()
    yield from _of_caption()


def _image(name: str, kind: pa.DataType, unit: str, doc: str, family: Family, source: str = "") -> SignalSpec:
    return SignalSpec(name, kind, unit, doc, source, family, _IMAGE)


def _of_header() -> Iterator[SignalSpec]:
    whole, pixels = pa.int64(), "pixels"
    yield _image("width", whole, pixels, "Width as shown: once its orientation is applied.", "header")
    yield _image("height", whole, pixels, "Height as shown.", "header")
    yield _image("min_side", whole, pixels, "The smaller of width and height.", "header")
    yield _image("pixels", whole, pixels, "Width times height.", "header")
    yield _image("aspect", pa.float64(), "ratio, 1 or more", "The larger side by the smaller.", "header")
    doc = "jpeg, png, gif, webp, bmp, tiff, jpeg2000 or avif, told by the content."
    yield _image("image_format", pa.string(), "text", doc, "header")
    doc = "Bytes of the encoded image for each pixel of a frame."
    yield _image("bytes_per_pixel", pa.float64(), "bytes per pixel", doc, "header")
    yield _image("frames", whole, "frames", "Pictures of an animation; 1 of others.", "header")
    yield _image(
        "has_alpha",
        pa.bool_(),
        "true or false",
        "Whether the header says that pixels may be transparent.",
        "header",
    )


def _of_bytes() -> Iterator[SignalSpec]:
    yield _image("image_bytes", pa.int64(), "bytes", "Bytes of the encoded image.", "bytes")
    doc = "SHA-256 of the encoded image, in hexadecimal."
    yield _image("image_sha256", pa.string(), "text", doc, "bytes")


def _of_pixels() -> Iterator[SignalSpec]:
    real = pa.float64()
    picture = "Of the image in grey on white, its longer side reduced to 256 pixels"
    doc = f"{picture}: variance of the Laplacian, low where it is blurred."
    yield _image("blur", real, "squared grey levels", doc, "pixels", "Pech-Pacheco et al. 2000")
    doc = f"{picture}: Shannon entropy of the 256 grey levels."
    yield _image("image_entropy", real, "bits, 0 to 8", doc, "pixels")
    yield _image("brightness", real, "grey level, 0 to 255", f"{picture}: mean.", "pixels")
    yield _image("contrast", real, "grey levels", f"{picture}: standard deviation.", "pixels")
    doc = f"{picture}: whether its contrast is below {UNIFORM_CONTRAST:g}: a blank, or a placeholder."
    yield _image("near_uniform", pa.bool_(), "true or false", doc, "pixels")
    doc = (
        f"{picture}: perceptual hash (imagehash.phash), the mean's bit the highest; null where the image is "
        "near uniform."
    )
    source = "github.com/JohannesBuchner/imagehash, phash"
    yield _image("phash", pa.uint64(), "64 bits", doc, "pixels", source)
    source = "github.com/facebook/ThreatExchange, pdq"
    doc = (
        "Of the image in grey on white, its longer side reduced to 512 pixels: PDQ hash in hexadecimal; null "
        "where the image is near uniform. Needs pdqhash."
    )
    yield _image("pdq", pa.string(), "256 bits", doc, "pixels", source)
    doc = "Quality that PDQ gives its hash; its authors leave out hashes below 50. Needs pdqhash."
    yield _image("pdq_quality", pa.int64(), "0 to 100", doc, "pixels", source)


def _of_caption() -> Iterator[SignalSpec]:
    doc = (
        "Whether the caption is the name of a file, such as IMG_2041.jpg or IMG_2041, or a number or hash as "
        "programs name files."
    )
    yield SignalSpec("caption_is_file_name", pa.bool_(), "true or false", doc, "", "caption")
    doc = 'Whether the caption says nothing of the image, such as "thumbnail for version as of".'
    source = (
        "Sharma et al. 2018 (Conceptual Captions), section 3; Jia et al. 2021, arXiv:2102.05918, section 3"
    )
    yield SignalSpec("caption_is_boilerplate", pa.bool_(), "true or false", doc, source, "caption")
    doc = "Chinese characters of the caption: those of the Unicode script Han."
    yield SignalSpec("han_char_count", pa.int64(), "characters", doc, "", "caption")
