"""Images that are made to hurt: they cost bounded time and memory, and end in a reason."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from thresher.filters.image.decode import decode, decode_grey
from thresher.filters.image.header import ImageError, read_header

MB = 1 << 20

# Decodes a file and says what came of it, and by how many bytes the peak of memory rose.
MEASURE = """
import resource, sys
from thresher.filters.image.decode import decode
from thresher.filters.image.header import ImageError
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
path, small, pixels, matte = sys.argv[1:]
decode(open(small, "rb").read())
data = open(path, "rb").read()
before = peak()
try:
    made = decode(data, max_pixels=int(pixels), matte=(255, 255, 255) if matte == "white" else None)
    print("x".join(map(str, made.shape)), peak() - before)
except ImageError as error:
    print(error.reason, peak() - before)
"""


def measured(path: Path, max_pixels: int, matte: str = "white") -> tuple[str, int]:
    small = path.parent / "small.png"
    small.write_bytes(written(Image.new("RGB", (4, 4)), "PNG"))
    command = [sys.executable, "-c", MEASURE, str(path), str(small), str(max_pixels), matte]
    asked = subprocess.run(command, capture_output=True, text=True, check=True)
    assert asked.stderr == ""
    said, rise = asked.stdout.split()
    return said, int(rise)


def written(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(width: int, height: int, *more: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """A black picture with further chunks before its pixels."""
    bits = depth * {0: 1, 2: 3, 6: 4}[colour]
    packer = zlib.compressobj(9)
    row = bytes(1 + (width * bits + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pieces = [chunk(b"IHDR", head), *more, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(pieces)


def test_a_picture_of_625_million_pixels_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(25_000, 25_000, depth=1))
    said, rise = measured(path, 50_000_000)
    assert said == "too_many_pixels"
    assert rise < 4 * MB


def test_the_large_picture_of_the_real_clip_art_is_refused_by_its_header(shared_data: Path) -> None:
    found: list[Path] = []
    for path in sorted((shared_data / "images").rglob("*.png")):
        with path.open("rb") as file:
            start = file.read(24)
        width, height = struct.unpack(">II", start[16:24])
        if width * height > 50_000_000:
            found.append(path)
    for path in found:
        with pytest.raises(ImageError, match="too_many_pixels"):
            decode(path.read_bytes())
    if not found:
        pytest.skip("no picture here has more than 50 million pixels")


PICTURES: dict[str, Callable[[Image.Image], bytes]] = {
    "png": lambda image: written(image, "PNG", compress_level=1),
    "transparent png": lambda image: written(with_alpha(image), "PNG", compress_level=1),
    "jpeg": lambda image: written(image, "JPEG", quality=50),
    "progressive jpeg": lambda image: written(image, "JPEG", quality=50, progressive=True),
    "cmyk jpeg": lambda image: written(image.convert("CMYK"), "JPEG", quality=50),
    "turned jpeg": lambda image: written(image, "JPEG", quality=50, exif=turned()),
    "webp": lambda image: written(image, "WEBP", method=0, quality=20),
    "transparent webp": lambda image: written(with_alpha(image), "WEBP", method=0, quality=20),
    "tiff": lambda image: written(with_alpha(image), "TIFF", compression="tiff_deflate"),
}


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.fixture(scope="module")
def large() -> Image.Image:
    rows, columns = np.mgrid[:3000, :4000]
    bands = [columns >> 4, rows >> 4, (rows + columns) >> 5]
    return Image.fromarray(np.stack(bands, axis=2).astype(np.uint8))


@pytest.mark.parametrize("which", PICTURES)
def test_decoding_takes_eight_bytes_a_pixel_and_a_base(
    which: str, large: Image.Image, tmp_path: Path
) -> None:
    path = tmp_path / "image"
    path.write_bytes(PICTURES[which](large))
    said, rise = measured(path, 12_000_000, "white" if "webp" in which else "none")
    assert said.startswith(("3000x4000x", "4000x3000x"))
    assert rise < 8 * 12_000_000 + 24 * MB + 2 * path.stat().st_size


INFLATED = zlib.compress(bytes(200 * MB), 9)  # 200 KB


@pytest.mark.parametrize(
    "bomb",
    [
        chunk(b"iCCP", b"profile\0\0" + INFLATED),
        chunk(b"zTXt", b"Comment\0\0" + INFLATED),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + INFLATED),
    ],
    ids=["iCCP", "zTXt", "iTXt"],
)
def test_what_is_compressed_beside_the_pixels_is_not_inflated(bomb: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(30, 20, *[bomb] * 5))
    said, rise = measured(path, 50_000_000)
    assert said == "20x30x3"
    assert rise < 16 * MB


def test_pixels_that_inflate_beyond_the_picture_are_not_all_inflated(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    head = struct.pack(">IIBBBBB", 30, 20, 8, 0, 0, 0, 0)
    pieces = [chunk(b"IHDR", head), chunk(b"IDAT", INFLATED), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(pieces))
    said, rise = measured(path, 50_000_000)
    assert said in ("20x30x3", "undecodable")
    assert rise < 16 * MB


def comments_of_a_gif() -> bytes:
    image = written(Image.new("P", (8, 8)), "GIF")
    at = 13 + (3 << ((image[10] & 7) + 1) if image[10] & 0x80 else 0)
    return image[:at] + b"!\xfe" + b"\1a" * (2 * MB) + b"\0" + image[at:]


def exif_of_a_jpeg() -> bytes:
    image = written(Image.new("L", (8, 8)), "JPEG")
    return image[:2] + b"\xff\xe1\0\x0aExif\0\0ab" * 4_000 + image[2:]


def profiles_of_a_jpeg() -> bytes:
    image = written(Image.new("L", (8, 8)), "JPEG")
    piece = b"ICC_PROFILE\0\1\1" + bytes(60_000)
    return image[:2] + (b"\xff\xe2" + struct.pack(">H", len(piece) + 2) + piece) * 60 + image[2:]


@pytest.mark.parametrize("make", [comments_of_a_gif, exif_of_a_jpeg, profiles_of_a_jpeg])
def test_long_metadata_take_no_time(make: Callable[[], bytes]) -> None:
    data = make()
    begin = time.process_time()
    assert decode(data).shape == (8, 8, 3)
    assert time.process_time() - begin < 2


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = written(Image.new("L", (2000, 2000), 9), "JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    second = data.index(b"\xff\xc4", first)
    scan = data[first:second]
    begin = time.process_time()
    with pytest.raises(ImageError, match="more than 500 scans"):
        decode(data[:first] + scan * 20_000 + data[first:])
    assert time.process_time() - begin < 2


def test_an_animation_that_ends_anywhere_is_truncated() -> None:
    frames = [Image.new("RGB", (60, 40), colour) for colour in ("red", "blue")]
    data = written(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    assert b"ANMF" in data
    for length in range(40, data.index(b"ANMF", 60)):
        with pytest.raises(ImageError):
            decode(data[:length])


def test_a_header_that_contradicts_the_pixels_is_no_way_round_the_limit() -> None:
    large = written(Image.new("RGB", (3000, 2000)), "WEBP", lossless=True)
    frame = large[12:]
    lie = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\x07\0\0\x07\0\0" + frame
    with pytest.raises(ImageError, match=r"beyond the canvas|undecodable"):
        decode(b"RIFF" + struct.pack("<I", len(lie)) + lie, max_pixels=1000)
    jp2 = bytearray(written(Image.new("RGB", (64, 64)), "JPEG2000"))
    at = jp2.index(b"ihdr") + 4
    jp2[at : at + 8] = struct.pack(">II", 8, 8)
    with pytest.raises(ImageError):
        decode(bytes(jp2))


def seeds() -> list[bytes]:
    rows, columns = np.mgrid[:40, :60]
    image = Image.fromarray(np.stack([columns * 4, rows * 6, rows + columns], axis=2).astype(np.uint8))
    made = [
        written(image, format) for format in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "AVIF")
    ]
    made += [written(image.convert("P"), format) for format in ("PNG", "TIFF", "BMP", "GIF")]
    made += [written(with_alpha(image), format) for format in ("PNG", "WEBP", "TIFF", "AVIF")]
    made += [
        written(image, format, save_all=True, append_images=[image.rotate(180)])
        for format in ("GIF", "PNG", "WEBP")
    ]
    for options in ({"progressive": True}, {"exif": turned()}):
        made.append(written(image, "JPEG", **options))
    made.append(written(image, "TIFF", compression="tiff_lzw"))
    made.append(written(image.convert("CMYK"), "JPEG"))
    return made


SEEDS = seeds()
REASONS = {
    "not_an_image",
    "unsupported_format",
    "bad_header",
    "truncated",
    "too_many_pixels",
    "undecodable",
}


def outcome(attempt: Callable[[], Any]) -> Any:
    try:
        return attempt()
    except ImageError as error:
        return error.reason


@settings(max_examples=400)
@given(st.data())
def test_damaged_images_give_a_picture_or_a_reason(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(0, 6))):
        near = data.draw(st.booleans())
        at = data.draw(st.integers(0, (min(200, len(damaged)) if near else len(damaged)) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    truncated = data.draw(st.sampled_from(["refuse", "keep"]))
    pixels, grey = (
        outcome(lambda how=how: how(bytes(damaged), max_pixels=1_000_000, truncated=truncated))
        for how in (decode, decode_grey)
    )
    for found, channels in ((pixels, (3,)), (grey, ())):
        if isinstance(found, str):
            assert found in REASONS
        else:
            header = read_header(bytes(damaged))
            assert found.shape == (header.height, header.width, *channels)


NOISY = """
import sys
from pathlib import Path
from thresher.filters.image.decode import decode
from thresher.filters.image.header import ImageError
for path in sorted(Path(sys.argv[1]).iterdir()):
    for truncated in ("refuse", "keep"):
        try:
            decode(path.read_bytes(), truncated=truncated)
        except ImageError:
            pass
print("done")
"""


def test_nothing_is_written_to_standard_error(tmp_path: Path) -> None:
    for number, seed in enumerate(SEEDS):
        damaged = bytearray(seed)
        for at in range(150, len(damaged), 97):
            damaged[at] ^= 0x55
        (tmp_path / f"{number:02d}-damaged").write_bytes(damaged)
        (tmp_path / f"{number:02d}-cut").write_bytes(seed[: len(seed) * 2 // 3])
        (tmp_path / f"{number:02d}-hole").write_bytes(seed[: len(seed) // 2] + seed[len(seed) * 2 // 3 :])
    command = [sys.executable, "-W", "default", "-c", NOISY, str(tmp_path)]
    asked = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert asked.stdout == "done\n"
    assert asked.stderr == ""


def test_a_palette_image_without_its_palette_is_undecodable() -> None:
    data = written(Image.new("P", (60, 40), 3), "PNG")
    at = data.index(b"PLTE") - 4
    end = at + 12 + int.from_bytes(data[at : at + 4], "big")
    with pytest.raises(ImageError, match="without its palette"):
        decode(data[:at] + data[end:])
