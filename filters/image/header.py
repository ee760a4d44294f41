"""What an encoded image is and how large, from its first bytes and without decoding any pixel."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from .header_model import Header, ImageError
from .headers_avif import BRANDS, brands, read_avif
from .headers_bmp import is_bmp, read_bmp
from .headers_gif import read_gif
from .headers_jpeg import read_jpeg
from .headers_jpeg2000 import read_jpeg2000
from .headers_png import read_png
from .headers_tiff import read_tiff
from .headers_webp import read_webp

__all__ = ["Header", "ImageError", "read_header", "sniff"]

_READERS: Final[Mapping[str, Callable[[bytes], Header]]] = MappingProxyType(
    {
        "jpeg": read_jpeg,
        "png": read_png,
        "gif": read_gif,
        "webp": read_webp,
        "bmp": read_bmp,
        "tiff": read_tiff,
        "jpeg2000": read_jpeg2000,
        "avif": read_avif,
    }
)
# The elements that the WHATWG's MIME Sniffing standard, section 7.1, takes for HTML.
_HTML: Final = re.compile(
    rb"<(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p)[\s>/]", re.I
)
_SVG: Final = re.compile(rb"<(?:!doctype\s+svg|(?:[a-z_][\w.-]{0,60}:)?svg)[\s>/]", re.I)
_DOCTYPE: Final = re.compile(rb"<!doctype\s", re.I)
_BLANK: Final = b" \t\r\n\f"
# Images that this product does not decode, to say so rather than that they are none.
_OTHERS: Final = (
    (b"\0\0\1\0", "ico"),
    (b"\0\0\2\0", "cur"),
    (b"8BPS", "psd"),
    (b"\xff\x0a", "jpeg xl"),
    (b"\0\0\0\x0cJXL ", "jpeg xl"),
    (b"\x1f\x8b", "gzip, perhaps svgz"),
    (b"%PDF-", "pdf"),
    (b"%!PS", "postscript"),
    (b"\x76\x2f\x31\x01", "openexr"),
    (b"#?RADIANCE", "radiance hdr"),
    (b"qoif", "qoi"),
    (b"DDS ", "dds"),
)


def sniff(data: bytes) -> str | None:
    """jpeg, png, gif, webp, bmp, tiff, jpeg2000, avif, svg or html, by the content; None: none of these."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    if data.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return "jpeg2000"
    if data[4:8] == b"ftyp":
        return "avif" if BRANDS & brands(data) else None
    return "bmp" if is_bmp(data) else _markup(data)


def _markup(data: bytes) -> str | None:
    """svg or html, after a byte order mark, white space, the XML declaration and comments."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data[:65536].decode("utf-16", "replace").encode()
    at = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    while True:
        at = _past_blanks(data, at)
        if data.startswith(b"<!--", at):
            end = data.find(b"-->", at + 4)
            if end < 0:
                return "html"
            at = end + 3
        elif data.startswith(b"<?", at):
            at = data.find(b">", at) + 1
        elif _SVG.match(data, at):
            return "svg"
        elif _HTML.match(data, at):
            return "html"
        elif _DOCTYPE.match(data, at):
            return "html" if data.startswith(b"html", _past_blanks(data, at + 9)) else None
        else:
            return None
        if not at:
            return None


_NOT_BLANK: Final = re.compile(rb"[^ \t\r\n\f]")


def _past_blanks(data: bytes, at: int) -> int:
    found = _NOT_BLANK.search(data, at)
    return found.start() if found else len(data)


def read_header(data: bytes) -> Header:
    """The header of an encoded image.

    Nothing is decoded, no length is believed, and the work is bounded by the length of the data. Raises
    ImageError: not_an_image, svg, html, unsupported_format, bad_header, or truncated where the data end
    before the header does.
    """
    format = sniff(data)
    reader = _READERS.get(format or "")
    if reader is None:
        raise _refusal(data, format)
    try:
        return reader(data)
    except (IndexError, struct.error, OverflowError) as error:
        raise ImageError("truncated", f"the {format} header breaks off") from error


def _refusal(data: bytes, format: str | None) -> ImageError:
    if format is not None:
        return ImageError(format)
    if not data:
        return ImageError("not_an_image", "no bytes")
    if data[4:8] == b"ftyp":
        return ImageError("unsupported_format", f"brand {data[8:12].decode('latin-1').strip()}")
    for signature, name in _OTHERS:
        if data.startswith(signature):
            return ImageError("unsupported_format", name)
    return ImageError("not_an_image", f"begins with {data[:8].hex(' ')}")
