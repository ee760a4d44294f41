"""Encoded images become pixels: upright, of eight bits, in sRGB's order of channels.

Of an animation the first frame is taken, of several pages the first. Samples of sixteen bits give their
higher byte. Colour profiles (ICC), gamma and EXIF's colour space are not applied: pixels are taken for sRGB,
and CMYK is turned into RGB without a profile, as the product of what its inks leave. Samples of 32 bits and
the Lab space are refused as unsupported_format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt

from .decoders import Samples, by_opencv, by_pillow, by_turbo, takes_opencv
from .header import ImageError, read_header
from .header_model import Header
from .orientation import oriented

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Truncated = Literal["refuse", "keep"]

DECODE_VERSION: Final = 1  # changes whenever an image gives other pixels
MAX_PIXELS: Final = 50_000_000
WHITE: Final[Colour] = (255, 255, 255)
BYTES_PER_PIXEL: Final = 8  # of memory, for each of the pixels that are allowed

_AT_ONCE: Final = 1 << 20  # pixels of a picture that is converted in one piece
_STRIP: Final = 1 << 18
# Bytes that decoding holds for each pixel, as measured; of other formats it is BYTES_PER_PIXEL or less.
_HELD: Final = {"avif": 16, "jpeg2000": 28}


def decode(
    data: bytes,
    *,
    at_least: int | None = None,
    max_pixels: int = MAX_PIXELS,
    matte: Colour | None = WHITE,
    truncated: Truncated = "refuse",
    header: Header | None = None,
) -> Pixels:
    """The pixels (height, width, 3) in the order red, green, blue, as they are to be shown.

    Transparent pixels are laid on `matte`; without a matte, an image that has transparency gives a fourth
    channel, alpha. With `at_least` the smaller side may have any number of pixels from that on, which
    decodes a JPEG at 1/2, 1/4 or 1/8 of its size; an image that is smaller stays as it is. With `truncated`
    keep, JPEG, PNG, GIF, BMP and TIFF whose data break off give what there is, the rest grey or black. Give
    `header` where it is known. The result may be read only.

    Raises ImageError: the reasons of `read_header`; too_many_pixels, before anything is decoded, where there
    are more than `max_pixels` or where decoding takes more memory than 8 bytes for each of these;
    truncated; undecodable.
    """
    return _decoded(data, "RGB", at_least, max_pixels, matte, truncated, header)


def decode_grey(
    data: bytes,
    *,
    at_least: int | None = None,
    max_pixels: int = MAX_PIXELS,
    matte: Colour = WHITE,
    truncated: Truncated = "refuse",
    header: Header | None = None,
) -> Pixels:
    """The grey picture (height, width): luma as ITU-R BT.601 weighs red, green and blue.

    Of a JPEG it is what its luma says, and its colours are not decoded. The arguments and errors are those of
    `decode`.
    """
    return _decoded(data, "L", at_least, max_pixels, matte, truncated, header)


def _decoded(
    data: bytes,
    mode: Literal["RGB", "L"],
    at_least: int | None,
    max_pixels: int,
    matte: Colour | None,
    truncated: Truncated,
    header: Header | None,
) -> Pixels:
    header = header or read_header(data)
    scale = _scale(header, at_least)
    _check(header, scale, max_pixels)
    if takes_opencv(header):
        return oriented(_of_opencv(data, header, matte, mode), header.orientation)
    grey = mode == "L"
    pixels = by_turbo(data, header, scale, grey=grey)
    if pixels is None:
        image = by_pillow(data, header, scale, grey=grey, keep=truncated == "keep")
        pixels = _converted(image, header, matte, mode)
        del image
    return _upright(pixels, header)


def _scale(header: Header, at_least: int | None) -> int:
    """The part of its size at which a JPEG is decoded: 1, 2, 4 or 8."""
    if at_least is None or header.format != "jpeg":
        return 1
    smaller = min(header.width, header.height)
    return next((scale for scale in (8, 4, 2) if -(-smaller // scale) >= at_least), 1)


def _check(header: Header, scale: int, max_pixels: int) -> None:
    pixels = header.width * header.height
    if pixels > max_pixels:
        raise ImageError("too_many_pixels", f"{header.width} x {header.height}")
    # What is buffered is given back before the result is made of Pillow's four bytes a pixel.
    held = max(_HELD.get(header.format, BYTES_PER_PIXEL) / scale**2, 4 / scale**2 + header.buffered)
    if held > BYTES_PER_PIXEL and pixels * held > max_pixels * BYTES_PER_PIXEL:
        raise ImageError(
            "too_many_pixels", f"{header.width} x {header.height}, each of which takes {held:.0f} bytes"
        )


def _upright(pixels: Pixels, header: Header) -> Pixels:
    # Pillow turns TIFFs itself.
    return pixels if header.format == "tiff" else oriented(pixels, header.orientation)


def _converted(image: Image.Image, header: Header, matte: Colour | None, mode: str) -> Pixels:
    """The pixels in `mode`, RGB or L, or RGBA where transparency is to stay.

    Large pictures go strip by strip, so that beside the picture only the result takes memory.
    """
    width, height = image.size
    rows = height if width * height <= _AT_ONCE else max(1, _STRIP // width)
    result: Pixels | None = None
    for top in range(0, height, rows):
        whole = rows >= height
        strip = image if whole else image.crop((0, top, width, min(top + rows, height)))
        piece = np.asarray(_plain(strip, header, matte, mode))
        if whole:
            return piece
        if result is None:
            result = np.empty((height, *piece.shape[1:]), np.uint8)
        result[top : top + rows] = piece
    assert result is not None, "headers of pictures without pixels are refused"
    return result


def _plain(image: Image.Image, header: Header, matte: Colour | None, mode: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = _of_sixteen_bits(image, header)
    elif image.mode in ("I", "F", "LAB", "HSV"):
        raise ImageError("unsupported_format", f"samples of mode {image.mode}")
    elif header.bit_depth == 16 and isinstance(key := image.info.get("transparency"), tuple):
        # Of sixteen bits too, while Pillow has made the pixels eight.
        image.info["transparency"] = tuple(sample >> 8 for sample in key)
    if image.mode == "P" and image.palette is None:
        raise ImageError("undecodable", "a palette image without its palette")
    if not image.has_transparency_data:
        return image if image.mode == mode else image.convert(mode)
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    return image if matte is None else _laid(image, matte, mode)


def _laid(image: Image.Image, matte: Colour, mode: str) -> Image.Image:
    import PIL.Image

    ground = PIL.Image.new("RGB", image.size, matte)
    ground.paste(image, mask=image)
    return ground if mode == "RGB" else ground.convert(mode)


def _of_sixteen_bits(image: Image.Image, header: Header) -> Image.Image:
    import PIL.Image

    samples = np.asarray(image)
    grey = PIL.Image.fromarray(_higher_byte(samples, header))
    key = image.info.get("transparency")
    if isinstance(key, int):
        alpha = PIL.Image.fromarray(np.where(samples == key, 0, 255).astype(np.uint8))
        grey = PIL.Image.merge("LA", (grey, alpha))
    return grey


def _higher_byte(samples: Samples, header: Header) -> Pixels:
    return (samples >> max(0, min(header.bit_depth, 16) - 8)).astype(np.uint8)


def _of_opencv(data: bytes, header: Header, matte: Colour | None, mode: str) -> Pixels:
    import PIL.Image

    samples, (left, top) = by_opencv(data, header)
    height, width = samples.shape[:2]
    across, down = header.stored_size
    if left + width > across or top + height > down:
        raise ImageError("bad_header", "a frame beyond the canvas")
    partly = (width, height) != (across, down)
    four = samples.ndim == 3 and samples.shape[2] == 4
    if samples.dtype == np.uint8 and mode == "RGB" and not partly and samples.shape[2:] == (3,):
        return np.asarray(samples, np.uint8)
    channels: tuple[int, ...] = () if mode == "L" else (4,) if matte is None and (partly or four) else (3,)
    result = np.zeros((down, across, *channels), np.uint8)
    if partly and matte is not None:
        result[:] = matte if channels else np.asarray(PIL.Image.new("RGB", (1, 1), matte).convert("L"))
    for start, strip in _strips(samples, header):
        image = PIL.Image.fromarray(strip)
        if four and matte is not None:
            image = _laid(image, matte, mode)
        wanted = {(): "L", (3,): "RGB", (4,): "RGBA"}[channels]
        if image.mode != wanted:
            image = image.convert(wanted)
        result[top + start : top + start + len(strip), left : left + width] = np.asarray(image)
    return result


def _strips(samples: Samples, header: Header) -> Iterator[tuple[int, Pixels]]:
    """Pieces of a picture, grey, RGB or RGBA, with the row where each begins."""
    rows = max(1, _STRIP // samples.shape[1])
    for start in range(0, len(samples), rows):
        strip = samples[start : start + rows]
        if strip.dtype != np.uint8:
            strip = _higher_byte(strip, header)
        if strip.ndim == 3 and strip.shape[2] == 4:
            strip = strip[..., (2, 1, 0, 3)]
        yield start, np.ascontiguousarray(strip, np.uint8)
