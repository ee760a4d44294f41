"""What an output says of its images, told from their bytes as they are written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa

from ...filters.image.header import ImageError, read_header, sniff

IMAGE: Final = "image"

IMAGE_COLUMNS: Final = pa.schema(
    [
        pa.field("width", pa.int32()),  # pixels, as shown; null where there is no image that can be read
        pa.field("height", pa.int32()),
        pa.field("sha256", pa.string()),  # of the encoded image, in hexadecimal
    ]
)

_EXTENSIONS: Final[Mapping[str | None, str]] = {
    "jpeg": "jpg",
    "png": "png",
    "gif": "gif",
    "webp": "webp",
    "bmp": "bmp",
    "tiff": "tiff",
    "jpeg2000": "jp2",
    "avif": "avif",
    "svg": "svg",
}
_UNKNOWN: Final = "bin"
_HEAD: Final = 4096  # bytes that tell the format; what may come before them in an SVG is seldom as long


def image_columns(images: pa.Array) -> list[pa.Array]:
    """The columns of IMAGE_COLUMNS for encoded images."""
    sizes: list[tuple[int | None, int | None]] = []
    digests: list[str | None] = []
    for image in views(images):
        sizes.append(_size(image))
        digests.append(None if image is None else hashlib.sha256(image).hexdigest())
    columns = [[width for width, _ in sizes], [height for _, height in sizes], digests]
    return [pa.array(values, field.type) for values, field in zip(columns, IMAGE_COLUMNS, strict=True)]


def views(images: pa.Array) -> Iterator[memoryview | None]:
    """The values of a binary column, without a copy of all of them: pages that are new to the process cost
    more than the work on them."""
    _, ends, data = images.buffers()
    offsets = np.frombuffer(ends, np.int32, len(images) + 1, 4 * images.offset).tolist() if ends else [0]
    content = memoryview(data) if data is not None else memoryview(b"")
    for (start, stop), is_there in zip(pairwise(offsets), images.is_valid().to_pylist(), strict=True):
        yield content[start:stop] if is_there else None


def _size(image: memoryview | None) -> tuple[int | None, int | None]:
    if image is None:
        return None, None
    try:
        header = read_header(bytes(image))
    except ImageError:
        return None, None
    return header.width, header.height


def extension_of(image: memoryview) -> str:
    """The extension of an image by its content; `bin` where that is no format that we know."""
    return _EXTENSIONS.get(sniff(bytes(image[:_HEAD])), _UNKNOWN)
