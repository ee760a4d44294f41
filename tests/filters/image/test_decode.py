"""Decoding, against Pillow's own opening of the same bytes, and against samples that are known."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms, ImageOps
from thresher.filters.image.decode import WHITE, decode, decode_grey
from thresher.filters.image.header import ImageError, read_header

LOSSLESS = {
    "PNG": {},
    "WEBP": {"lossless": True, "exact": True},
    "BMP": {},
    "TIFF": {},
    "JPEG2000": {"irreversible": False},
}


def picture(width: int = 61, height: int = 43) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    bands = [columns * 255 // width, rows * 255 // height, (rows * 3 + columns * 2) % 256]
    return Image.fromarray(np.stack(bands, axis=2).astype(np.uint8))


def transparent(image: Image.Image) -> Image.Image:
    alpha = Image.linear_gradient("L").resize(image.size)
    image = image.copy()
    image.putalpha(alpha)
    return image


def written(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def opened(data: bytes, mode: str = "RGB") -> npt.NDArray[np.uint8]:
    """What Pillow shows on white, upright."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data:
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
        return np.asarray(upright.convert(mode))


def reason(data: bytes, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    return caught.value.reason


@pytest.mark.parametrize("format", LOSSLESS)
def test_pixels_of_lossless_formats_come_back_as_they_were(format: str) -> None:
    image = picture()
    pixels = decode(written(image, format, **LOSSLESS[format]))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(image))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 20}])
def test_a_jpeg_is_what_libjpeg_makes_of_it(options: dict[str, Any]) -> None:
    data = written(picture(), "JPEG", **options)
    np.testing.assert_array_equal(decode(data), opened(data))
    seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(decode(data).astype(int) - seen).max() <= 2


@pytest.mark.parametrize("format", ["WEBP", "AVIF", "GIF"])
def test_other_formats_are_near_the_picture(format: str) -> None:
    image = picture()
    pixels = decode(written(image, format))
    assert np.abs(pixels.astype(int) - np.asarray(image)).mean() < 12


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_is_turned_into_rgb_also_where_adobe_inverts_it(adobe: bool) -> None:
    inks = picture().convert("CMYK")
    data = written(inks, "JPEG", quality=100, subsampling=0)
    if not adobe:  # then nothing says that the samples are inverted
        at = data.index(b"\xff\xeeAdobe"[:2])
        length = struct.unpack_from(">H", data, at + 2)[0]
        data = data[:at] + data[at + 2 + length :]
    shown = np.asarray(inks.convert("RGB") if adobe else ImageOps.invert(inks.convert("RGB")))
    pixels = decode(data)
    assert pixels.shape == (43, 61, 3)
    np.testing.assert_array_equal(pixels, opened(data))
    if adobe:
        assert np.abs(pixels.astype(int) - shown).mean() < 3


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey_are_scaled_and_not_saturated(format: str) -> None:
    samples = np.linspace(0, 65535, 61 * 43).reshape(43, 61).astype(np.uint16)
    pixels = decode(written(Image.fromarray(samples), format))
    assert np.abs(pixels[..., 0] - samples / 257).max() <= 1
    assert (pixels == pixels[..., :1]).all()
    grey = decode_grey(written(Image.fromarray(samples), format))
    np.testing.assert_array_equal(grey, pixels[..., 0])


@pytest.mark.parametrize(
    ("suffix", "channels"), [(".png", 3), (".tiff", 3), (".png", 4), (".jp2", 3), (".jp2", 1)]
)
def test_sixteen_bits_of_colour_are_scaled_and_not_saturated(suffix: str, channels: int) -> None:
    shape = (43, 61, channels)
    samples = np.linspace(0, 65535, 43 * 61 * channels).reshape(shape).astype(np.uint16)
    if channels == 4:
        samples[..., 3] = 65535
    pixels = decode(cv2.imencode(suffix, samples)[1].tobytes())
    assert np.abs(pixels - samples[..., 2::-1] / 257).max() <= 1


def test_the_transparent_colour_of_sixteen_bits_is_the_one_that_is_named() -> None:
    samples = np.full((4, 6), 30_000, np.uint16)
    samples[0] = 30_001  # of the same higher byte
    png = written(Image.fromarray(samples), "PNG", transparency=30_001)
    assert "transparency" in Image.open(io.BytesIO(png)).info
    pixels = decode(png)
    assert (pixels[0] == 255).all()
    assert (pixels[1:] == 30_000 >> 8).all()


def test_the_transparent_colour_of_sixteen_bits_a_channel_is_seen() -> None:
    rgb = np.full((4, 6, 3), (1000, 20_000, 60_000), np.uint16)
    png = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
    payload = b"tRNS" + struct.pack(">HHH", 1000, 20_000, 60_000)
    png = png[:33] + struct.pack(">I", 6) + payload + struct.pack(">I", zlib.crc32(payload)) + png[33:]
    assert (decode(png, matte=(1, 2, 3)) == (1, 2, 3)).all()


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_palette_with_and_without_transparency(format: str) -> None:
    palette = picture().convert("P", palette=Image.Palette.ADAPTIVE, colors=17)
    np.testing.assert_array_equal(decode(written(palette, format)), np.asarray(palette.convert("RGB")))
    clear = written(palette, format, transparency=3)
    pixels = decode(clear, matte=(10, 20, 30))
    holes = np.asarray(palette) == 3
    assert holes.any()
    assert (pixels[holes] == (10, 20, 30)).all()
    np.testing.assert_array_equal(pixels[~holes], np.asarray(palette.convert("RGB"))[~holes])


def test_a_palette_with_many_degrees_of_transparency() -> None:
    palette = picture().convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    data = written(palette, "PNG", transparency=bytes(range(0, 240, 30)))
    np.testing.assert_array_equal(decode(data), opened(data))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "JPEG2000"])
def test_transparent_pixels_are_laid_on_the_matte(format: str) -> None:
    image = transparent(picture())
    data = written(image, format, **LOSSLESS[format])
    given = np.asarray(image).astype(float)
    alpha = given[..., 3:] / 255
    for matte in (WHITE, (0, 128, 255)):
        expected = given[..., :3] * alpha + np.array(matte) * (1 - alpha)
        assert np.abs(decode(data, matte=matte) - expected).max() <= 0.51
    kept = decode(data, matte=None)
    np.testing.assert_array_equal(kept, np.asarray(image))
    assert decode(written(picture(), format), matte=None).shape == (43, 61, 3)


def test_a_bitmap_with_a_mask_for_alpha_is_transparent() -> None:
    image = transparent(picture(7, 5))
    rows = np.asarray(image)[::-1, :, (2, 1, 0, 3)].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, 7, 5, 1, 32, 3, len(rows), 0, 0, 0, 0) + masks + bytes(52)
    data = b"BM" + struct.pack("<IHHI", 122 + len(rows), 0, 0, 122) + info + rows
    assert read_header(data).has_alpha
    np.testing.assert_array_equal(decode(data, matte=None), np.asarray(image))


def test_grey_with_alpha_is_laid_on_the_matte() -> None:
    image = transparent(picture().convert("L"))
    grey, alpha = np.asarray(image).astype(float).transpose(2, 0, 1)
    expected = grey * alpha / 255 + 255 - alpha
    for format in ("PNG", "TIFF"):
        data = written(image, format)
        assert np.abs(decode(data)[..., 1] - expected).max() <= 0.51
        assert np.abs(decode_grey(data) - expected).max() <= 1.01


def test_one_bit_a_pixel_is_black_and_white() -> None:
    image = picture().convert("1")
    for format in ("PNG", "TIFF", "BMP"):
        pixels = decode(written(image, format))
        np.testing.assert_array_equal(pixels[..., 0], np.asarray(image).astype(np.uint8) * 255)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_first_frame_of_an_animation_is_taken(format: str) -> None:
    first = picture()
    others = [ImageOps.invert(first), first.rotate(180)]
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    data = written(first, format, save_all=True, append_images=others, **options)
    pixels = decode(data)
    np.testing.assert_array_equal(pixels, opened(data))
    assert np.abs(pixels.astype(int) - np.asarray(first)).mean() < 12


def test_a_first_frame_that_does_not_cover_the_canvas_leaves_it_transparent() -> None:
    frame = written(transparent(picture(20, 10)), "WEBP", lossless=True, exact=True)
    body = frame[frame.index(b"VP8L") :]
    size = lambda side: (side - 1).to_bytes(3, "little")  # noqa: E731
    anmf = (2).to_bytes(3, "little") + (3).to_bytes(3, "little") + size(20) + size(10) + bytes(4) + body
    riff = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x12\0\0\0" + size(30) + size(40)
    riff += b"ANIM" + struct.pack("<I", 6) + bytes(6) + b"ANMF" + struct.pack("<I", len(anmf)) + anmf
    data = b"RIFF" + struct.pack("<I", len(riff)) + riff
    kept = decode(data, matte=None)
    assert kept.shape == (40, 30, 4)
    np.testing.assert_array_equal(kept[6:16, 4:24], np.asarray(transparent(picture(20, 10))))
    assert kept[..., 3].sum() == np.asarray(transparent(picture(20, 10)))[..., 3].sum()
    np.testing.assert_array_equal(decode(data, matte=(5, 6, 7))[0, 0], (5, 6, 7))
    assert decode_grey(data)[0, 0] == 255


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_picture_is_upright(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    data = written(picture(), format, exif=exif, **options)
    pixels = decode(data)
    header = read_header(data)
    assert pixels.shape[:2] == (header.height, header.width)
    np.testing.assert_array_equal(pixels, opened(data))
    assert decode_grey(data).shape == pixels.shape[:2]


def test_a_colour_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    plain, tagged = written(picture(), "JPEG"), written(picture(), "JPEG", icc_profile=profile)
    np.testing.assert_array_equal(decode(plain), decode(tagged))


def test_samples_that_are_no_colours_are_refused() -> None:
    assert reason(written(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")) == "unsupported_format"
    assert reason(written(Image.fromarray(np.ones((4, 4), np.int32)), "TIFF")) == "unsupported_format"


@pytest.mark.parametrize("at_least", [1, 20, 21, 40, 43, 80, 85, 170, 171, 10_000])
@pytest.mark.parametrize("size", [(171, 300), (300, 171), (1, 700)])
def test_a_reduced_picture_is_never_smaller_than_asked(size: tuple[int, int], at_least: int) -> None:
    data = written(picture(*size), "JPEG")
    for pixels in (decode(data, at_least=at_least), decode_grey(data, at_least=at_least)):
        smaller = min(pixels.shape[:2])
        assert smaller >= min(at_least, *size)
        assert smaller < 2 * at_least or smaller <= -(-min(size) // 8)


def test_a_reduced_picture_shows_the_same() -> None:
    data = written(picture(640, 480), "JPEG", quality=90)
    half = decode(data, at_least=240)
    assert half.shape == (240, 320, 3)
    mean = decode(data).reshape(240, 2, 320, 2, 3).mean(axis=(1, 3))
    assert np.abs(half - mean).mean() < 1.5


def test_grey_is_the_luma_of_the_colours() -> None:
    for format in ("PNG", "JPEG", "WEBP", "BMP"):
        data = written(picture(), format)
        luma = decode(data).astype(float) @ (0.299, 0.587, 0.114)
        assert np.abs(decode_grey(data) - luma).max() <= 4
        assert np.abs(decode_grey(data) - luma).mean() <= 1


def test_a_large_picture_is_converted_in_strips_without_a_seam() -> None:
    image = picture(1501, 1203)
    for kind in (image, image.convert("L"), transparent(image), image.convert("P")):
        data = written(kind, "PNG", compress_level=1)
        np.testing.assert_array_equal(decode(data), opened(data))
        assert np.abs(decode_grey(data).astype(int) - opened(data, "L")).max() <= 1


CUT = {
    "JPEG": "truncated",
    "PNG": "truncated",
    "GIF": "truncated",
    "WEBP": "truncated",
    "BMP": "truncated",
    "TIFF": "truncated",
    "JPEG2000": "truncated",
    "AVIF": "truncated",
}


@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
@pytest.mark.parametrize("format", CUT)
def test_data_that_break_off_are_refused(format: str, share: float) -> None:
    data = written(picture(300, 200), format)
    assert reason(data[: int(len(data) * share)]) == CUT[format]


def test_a_jpeg_without_its_last_byte_is_refused() -> None:
    data = written(picture(), "JPEG")
    assert reason(data[:-1]) == reason(data[:-2]) == "truncated"
    progressive = written(picture(300, 200), "JPEG", progressive=True)
    assert reason(progressive[: len(progressive) // 2]) == "truncated"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
def test_what_there_is_can_be_kept(format: str) -> None:
    image = picture(300, 200)
    data = written(image, format, **({"interlace": 0} if format == "GIF" else {}))
    pixels = decode(data[: len(data) * 2 // 3], truncated="keep")
    whole = decode(data)
    assert pixels.shape == whole.shape
    # BMP's rows go from the bottom to the top.
    there = slice(150, 200) if format == "BMP" else slice(0, 50)
    assert np.abs(pixels[there].astype(int) - whole[there]).mean() < 2
    assert not np.array_equal(pixels, whole)
    np.testing.assert_array_equal(decode(data, truncated="keep"), whole)


@pytest.mark.parametrize("format", ["WEBP", "JPEG2000", "AVIF"])
def test_formats_that_give_no_part_are_refused_all_the_same(format: str) -> None:
    data = written(picture(300, 200), format)
    assert reason(data[: len(data) * 2 // 3], truncated="keep") == "truncated"


def test_bytes_after_the_picture_do_no_harm() -> None:
    for format in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"):
        data = written(picture(), format)
        np.testing.assert_array_equal(decode(data + b"\r\n<!-- served by x -->"), decode(data))


def test_a_wrong_checksum_is_damage_and_not_an_early_end() -> None:
    png = bytearray(written(picture(), "PNG"))
    png[png.index(b"IDAT") + 20] ^= 1
    assert reason(bytes(png)) == "undecodable"
    assert reason(bytes(png), truncated="keep") == "undecodable"


def test_too_many_pixels_are_refused_by_the_header() -> None:
    data = written(picture(100, 50), "PNG")
    assert decode(data, max_pixels=5000).shape == (50, 100, 3)
    assert reason(data[:60], max_pixels=4999) == "too_many_pixels"
    assert reason(data, max_pixels=4999) == "too_many_pixels"


def test_pictures_that_take_more_memory_each_are_refused_earlier() -> None:
    for format, options in (
        ("AVIF", {}),
        ("JPEG2000", {}),
        ("JPEG", {"progressive": True, "subsampling": 0}),
    ):
        data = written(picture(100, 50), format, **options)
        assert decode(data, max_pixels=25_000).shape == (50, 100, 3)
        assert reason(data, max_pixels=5000) == "too_many_pixels"
    # At a quarter of its size the pixels are few, and only the coefficients count.
    progressive = written(picture(400, 200), "JPEG", progressive=True, subsampling=0)
    assert decode(progressive, at_least=50, max_pixels=80_000).shape == (50, 100, 3)


def test_a_tile_that_is_much_larger_than_the_picture_counts() -> None:
    tags = [(256, 40), (257, 30), (258, 8), (259, 1), (262, 1), (277, 1), (322, 60_000), (323, 60_000)]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + directory + bytes(4)
    assert reason(data) == "too_many_pixels"
