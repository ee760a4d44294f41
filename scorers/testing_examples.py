"""Columns to check a scorer with: what a corpus holds sooner or later."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..filters.embeddings.matrix import is_embedding
from ..schemas.records import IMAGE_TEXT, POSITION, TEXT

# Every record has these.
NEVER_NULL: Final = frozenset({"id", "source", POSITION})

ODD_TEXTS: Final = (
    "A plain sentence of some ordinary words, and then a second one.",
    "",
    None,
    " \n\t\r ",
    "\0",
    "line one\nline two\r\nline three\rline four\u2028line five",
    "naïve café 漢字かな 한국어 ไทย 🦄👩‍👩‍👧 e\u0301\u202e",
    "\ufeff\ufffd\U0010ffff",
    "</s> __label__x <unk> %s {} \\n",
    "x" * 50_000,
    "word " * 10_000,
    "123 456.789 -1e9",
)

# Grey, 24 pixels wide and 16 high; made with Pillow.
_JPEG: Final = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDACAWGBwYFCAcGhwkIiAmMFA0MCwsMGJGSjpQdGZ6eHJmcG6AkLicgIiuim5woNqirr7EztDO"
    "fJri8uDI8LjKzsb/wAALCAAQABgBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAAAwQF/8QAFxAAAwEAAAAAAAAAAAAAAAAAAAIDYf/aAAgB"
    "AQAAPwDLSGDpDB0hgiQwoSGDpDD/2Q=="
)
_EMBEDDING_DIMENSIONS: Final = 8  # where the type does not say


def example_batch(inputs: Sequence[str], types: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Those of `inputs` that are a record's own or in `types`, with as many odd rows as ODD_TEXTS has.

    A list of a fixed size stands for embeddings of so many dimensions, and comes as the plain list that a job
    makes of it. Raises ValueError for a type that there are no examples of.
    """
    columns = {}
    for name in dict.fromkeys(inputs):
        if name in types:
            columns[name] = _column(types[name])
        elif name == POSITION:
            columns[name] = pa.array(np.arange(len(ODD_TEXTS), dtype=np.uint64))
        elif name in NEVER_NULL:
            columns[name] = pa.array([f"example-{row}" for row in range(len(ODD_TEXTS))])
        elif name in TEXT.names:
            columns[name] = _column(TEXT.field(name).type)
        elif name in IMAGE_TEXT.names:
            columns[name] = _column(IMAGE_TEXT.field(name).type)
    return pa.RecordBatch.from_pydict(columns)


def odd_pictures() -> list[bytes | None]:
    """Small images as bytes, and what is none though it stands where one should: as many as ODD_TEXTS."""
    colours = _ramp(16, 24, 3)
    whole = _png(colours)
    return [
        whole,
        b"",
        None,
        _JPEG,
        _png(_ramp(1, 1, 1)),
        _png(_ramp(12, 12, 4)),
        _JPEG[: len(_JPEG) // 2],
        b"<html><body>404 Not Found</body></html>",
        _png(colours, claimed=(60_000, 60_000)),
        _png(_ramp(2, 400, 3)),
        bytes(1000),
        _png(255 - colours),
    ]


def _column(kind: pa.DataType) -> pa.Array:
    rows = len(ODD_TEXTS)
    values: list[Any]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = list(ODD_TEXTS)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        values = list(odd_pictures())
    elif is_embedding(kind):
        return _embeddings(kind, rows)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        items = _column(kind.value_type).to_pylist()
        values = [None, [], *(items[row % 3 : row] for row in range(2, rows))]
    else:
        values = (_simple(kind) * rows)[:rows]
    return pa.array(values, kind)


def _simple(kind: pa.DataType) -> list[Any]:
    if pa.types.is_boolean(kind):
        return [True, None, False]
    if pa.types.is_integer(kind):
        return [1, None, 0, 100, 7]
    if pa.types.is_floating(kind):
        return [0.5, None, 0.0, 1.0, 1000.0]
    raise ValueError(f"there are no examples of {kind}; pass `examples`")


def _embeddings(kind: pa.DataType, rows: int) -> pa.Array:
    dimensions = kind.list_size if pa.types.is_fixed_size_list(kind) else _EMBEDDING_DIMENSIONS
    matrix = np.random.default_rng(0).normal(size=(rows, dimensions))
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    numbers = matrix.astype(kind.value_type.to_pandas_dtype())
    plain = pa.list_(kind.value_type) if pa.types.is_fixed_size_list(kind) else kind
    return pa.array([None if row == 1 else list(numbers[row]) for row in range(rows)], plain)


def _ramp(height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    counted = np.arange(height * width * channels, dtype=np.int64).reshape(height, width, channels)
    return (counted * 7 % 256).astype(np.uint8)


def _png(pixels: npt.NDArray[np.uint8], claimed: tuple[int, int] | None = None) -> bytes:
    """Pixels (height, width, channels: grey, RGB or RGBA) as the PNG specification has them, unfiltered.

    `claimed`: height and width that its header tells, where they are not the true ones.
    """
    channels = pixels.shape[2]
    height, width = claimed or pixels.shape[:2]
    colour = {1: 0, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
