"""Headers, against Pillow and OpenCV on images that Pillow writes."""

from __future__ import annotations

import io
import struct
import time
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from thresher.filters.image.header import Header, ImageError, read_header, sniff

FORMATS = {
    "JPEG": "jpeg",
    "PNG": "png",
    "GIF": "gif",
    "WEBP": "webp",
    "BMP": "bmp",
    "TIFF": "tiff",
    "JPEG2000": "jpeg2000",
    "AVIF": "avif",
}
MODES = {
    "JPEG": ["L", "RGB", "CMYK"],
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "GIF": ["L", "P", "RGB"],
    "WEBP": ["RGB", "RGBA"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "LAB"],
    "JPEG2000": ["L", "LA", "RGB", "RGBA"],
    "AVIF": ["RGB", "RGBA"],
}
KINDS = {"1": "grey", "L": "grey", "LA": "grey", "I;16": "grey", "P": "palette", "CMYK": "cmyk", "LAB": "lab"}
CASES = [(format, mode) for format, modes in MODES.items() for mode in modes]


def picture(mode: str = "RGB", size: tuple[int, int] = (37, 23)) -> Image.Image:
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    colours = np.stack([columns * 5 % 256, rows * 9 % 256, (rows + columns) * 3 % 256], axis=2)
    image = Image.fromarray(colours.astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray((rows * 2000 + columns * 31).astype(np.uint16))
    if mode == "LAB":
        return Image.frombytes("LAB", size, colours.astype(np.uint8).tobytes())
    if mode.endswith("A"):
        image.putalpha(Image.fromarray((columns * 6 % 256).astype(np.uint8)))
    return image.convert(mode)


def written(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


@pytest.mark.parametrize(("format", "mode"), CASES)
def test_size_kind_and_alpha_are_those_of_the_image_that_was_written(format: str, mode: str) -> None:
    data = written(picture(mode), format)
    header = read_header(data)
    assert (header.format, header.width, header.height) == (FORMATS[format], 37, 23)
    assert (header.frames, header.orientation) == (1, 1)
    with Image.open(io.BytesIO(data)) as opened:
        assert header.has_alpha == opened.has_transparency_data
    assert sniff(data) == FORMATS[format]
    if format in ("JPEG", "PNG", "TIFF"):
        assert header.mode == KINDS.get(mode, "rgb")
        assert header.bit_depth == {"1": 1, "I;16": 16}.get(mode, 8)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (16383, 2), (255, 256)])
@pytest.mark.parametrize("format", FORMATS)
def test_sizes_at_the_edges(format: str, size: tuple[int, int]) -> None:
    header = read_header(written(picture(size=size), format))
    assert (header.width, header.height) == size


def test_the_variants_of_webp() -> None:
    for options in ({"lossless": True}, {"quality": 5}, {"exif": b"Exif\0\0" + bytes(20)}):
        for mode in ("RGB", "RGBA"):
            header = read_header(written(picture(mode), "WEBP", **options))
            assert (header.width, header.height, header.has_alpha) == (37, 23, mode == "RGBA")


def test_big_tiff_and_a_bare_codestream_are_read() -> None:
    assert read_header(written(picture(), "TIFF", big_tiff=True)).width == 37
    header = read_header(written(picture("RGBA"), "JPEG2000", no_jp2=True))
    assert (header.width, header.has_alpha) == (37, True)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_frames_are_counted(format: str) -> None:
    first = picture()
    others = [ImageOps.invert(first), first.rotate(180)]
    data = written(first, format, save_all=True, append_images=others)
    assert read_header(data).frames == 3
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.n_frames == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_turns_width_and_height(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    header = read_header(written(picture(), format, exif=exif))
    assert header.orientation == orientation
    assert (header.width, header.height) == ((23, 37) if orientation >= 5 else (37, 23))
    assert header.stored_size == (37, 23)


def test_both_byte_orders_of_exif_are_read() -> None:
    for order, mark in (("<", b"II"), (">", b"MM")):
        block = mark + struct.pack(order + "HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
        assert read_header(written(picture(), "JPEG", exif=b"Exif\0\0" + block)).orientation == 6


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert read_header(written(picture(), "JPEG", exif=exif)).orientation == 1


def test_a_thumbnail_in_exif_is_not_taken_for_the_picture() -> None:
    small = written(picture(size=(9, 7)), "JPEG")
    header = read_header(written(picture(), "JPEG", exif=b"Exif\0\0" + bytes(40) + small))
    assert (header.width, header.height) == (37, 23)


def test_what_progressive_decoders_hold_is_told() -> None:
    for subsampling, each in ((0, 6.0), (2, 3.0)):
        data = written(picture(), "JPEG", progressive=True, subsampling=subsampling)
        assert read_header(data).buffered == each
    assert read_header(written(picture(), "JPEG")).buffered == 0


def test_a_gif_whose_first_frame_is_larger_than_its_screen_is_as_large_as_the_frame() -> None:
    data = bytearray(written(picture(), "GIF"))
    data[6:10] = struct.pack("<HH", 4, 3)
    header = read_header(bytes(data))
    assert (header.width, header.height) == (37, 23)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg"),
        (b"\xef\xbb\xbf  <?xml version='1.0'?>\n<!-- made by hand -->\n<svg>", "svg"),
        (b'<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN">', "svg"),
        (b"<svg:svg xmlns:svg='http://www.w3.org/2000/svg'>", "svg"),
        ("\ufeff<svg>".encode("utf-16-le"), "svg"),
        (b"<!DOCTYPE html>\n<html>", "html"),
        (b"\n\n<!-- 404 --><HTML lang=en>", "html"),
        (b"<body onload=x>", "html"),
        (b"<rss version='2.0'>", None),
        (b"<svgz>", None),
        (b"BMW cars are shown here, and no image at all", None),
        (b"", None),
        (b"{}", None),
    ],
)
def test_markup_is_told_by_its_content(content: bytes, expected: str | None) -> None:
    assert sniff(content) == expected
    with pytest.raises(ImageError) as caught:
        read_header(content)
    assert caught.value.reason == (expected or "not_an_image")


def test_images_that_are_not_decoded_are_named() -> None:
    for data, name in (
        (written(picture(size=(16, 16)), "ICO"), "ico"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "brand heic"),
    ):
        with pytest.raises(ImageError) as caught:
            read_header(data)
        assert (caught.value.reason, caught.value.detail) == ("unsupported_format", name)


def test_a_picture_without_pixels_is_a_bad_header() -> None:
    png = bytearray(written(picture(), "PNG"))
    png[16:20] = bytes(4)
    with pytest.raises(ImageError, match="bad_header"):
        read_header(bytes(png))


@pytest.mark.parametrize("format", FORMATS)
def test_opencv_sees_the_same_size(format: str) -> None:
    data = written(picture(), format)
    seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    header = read_header(data)
    assert seen is not None
    assert (header.height, header.width) == seen.shape[:2]


def outcome(data: bytes) -> Header | str:
    try:
        return read_header(data)
    except ImageError as error:
        return error.reason


REASONS = {"not_an_image", "svg", "html", "unsupported_format", "bad_header", "truncated"}
SEEDS = [written(picture(mode), format) for format, mode in CASES] + [
    written(picture(), format, save_all=True, append_images=[picture(size=(37, 23)).rotate(180)])
    for format in ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
]


@settings(max_examples=600)
@given(st.data())
def test_damaged_headers_raise_nothing_but_their_error(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(0, 8))):
        at = data.draw(st.integers(0, min(len(damaged), 400) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged
    found = outcome(bytes(cut))
    if isinstance(found, str):
        assert found in REASONS
    else:
        assert min(found.width, found.height, found.frames) > 0


@settings(max_examples=300)
@given(st.sampled_from([seed[:12] for seed in SEEDS]), st.binary(max_size=200))
def test_any_bytes_behind_a_signature_raise_nothing_but_the_error(start: bytes, rest: bytes) -> None:
    found = outcome(start + rest)
    assert not isinstance(found, str) or found in REASONS


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


SIZE = 4_000_000
LONG = {
    "markers of a jpeg": b"\xff\xd8" + b"\xff\xd0" * (SIZE // 2),
    "fill bytes of a jpeg": b"\xff\xd8" + b"\xff" * SIZE + b"\0",
    "fill bytes with zeros": b"\xff\xd8\xff" + b"\xff\xff\xff\0" * (SIZE // 4),
    "comments of a jpeg": b"\xff\xd8" + b"\xff\xfe\0\2" * (SIZE // 4),
    "chunks of a png": b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", b"\0\0\0\1\0\0\0\1\x08\0\0\0\0")
    + chunk(b"aaAa", b"") * (SIZE // 12),
    "blocks of a gif": b"GIF89a\1\0\1\0\0\0\0!\xfe" + b"\1a" * (SIZE // 2),
    "frames of a gif": b"GIF89a\1\0\1\0\0\0\0" + b",\0\0\0\0\1\0\1\0\0\2\0" * (SIZE // 12),
    "chunks of a webp": b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(10) + b"ANMF\0\0\0\0" * (SIZE // 8),
    "pages of a tiff": b"II*\0\x08\0\0\0"
    + b"".join(struct.pack("<HI", 0, 14 + 6 * n) for n in range(SIZE // 6)),
    "a ring of tiff pages": b"II*\0\x08\0\0\0" + struct.pack("<HHHIIHHIII", 2, 256, 4, 1, 9, 257, 4, 1, 9, 8),
    "boxes of a jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x08free" * (SIZE // 8),
    "boxes of an avif": b"\0\0\0\x10ftypavif\0\0\0\0" + b"\0\0\0\x08free" * (SIZE // 8),
    "comments of markup": b"<!---->" * (SIZE // 7),
    "blanks": b" " * SIZE,
}


@pytest.mark.parametrize("which", LONG)
def test_no_data_take_long(which: str) -> None:
    begin = time.process_time()
    found = outcome(LONG[which])
    assert not isinstance(found, str) or found in REASONS
    # One megabyte takes a tenth of a second at most; a quadratic walk would take hours.
    assert time.process_time() - begin < 3
