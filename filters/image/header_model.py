"""What is said of an image before it is decoded, and why one is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["grey", "rgb", "palette", "cmyk", "lab"]


class ImageError(Exception):
    """Bytes that give no picture: `reason` is a snake_case word for the ledger, `detail` says more.

    Reasons: not_an_image, svg, html, unsupported_format, bad_header, truncated, too_many_pixels, undecodable.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Header:
    """What an encoded image says of itself. Of several frames or pages it is the first that is described.

    `width` and `height` are as the picture is shown, its orientation applied. `buffered` is how many bytes a
    pixel a decoder must hold whole beside the picture: the coefficients of a progressive JPEG, a tile of a
    TIFF, or nothing.
    """

    format: str  # jpeg, png, gif, webp, bmp, tiff, jpeg2000 or avif
    width: int
    height: int
    frames: int = 1
    has_alpha: bool = False  # whether pixels may be transparent
    bit_depth: int = 8  # bits of one sample, of a palette's index
    mode: Mode = "rgb"
    orientation: int = 1  # 1 to 8, as in EXIF
    buffered: float = 0.0

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height of the pixels as they are stored, before the orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def described(format: str, width: int, height: int, orientation: int = 1, **more: object) -> Header:
    """The header of an image whose pixels are stored as `width` by `height`.

    Raises ImageError if there are none.
    """
    if width <= 0 or height <= 0:
        raise ImageError("bad_header", f"{width} x {height} pixels")
    if orientation >= 5:
        width, height = height, width
    return Header(format, width, height, orientation=orientation, **more)  # type: ignore[arg-type]
