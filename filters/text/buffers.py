"""Arrow text arrays as the flat buffers that kernels read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

VALID_TYPE: Final = "Array(boolean, 1, 'C', readonly=True)"


@dataclass(frozen=True)
class TextBuffers:
    """The UTF-8 bytes of n texts, without a copy of them."""

    data: npt.NDArray[np.uint8]  # the whole buffer; bytes outside of `offsets` belong to nobody here
    offsets: npt.NDArray[np.int64]  # [n + 1]; text i is data[offsets[i]:offsets[i + 1]]
    valid: npt.NDArray[np.bool_]  # [n]; False where the text is null

    def __len__(self) -> int:
        return len(self.valid)


def text_buffers(text: pa.Array) -> TextBuffers:
    """The buffers of a string array, sliced or not; an array of type null counts as null strings.

    Raises TypeError for any other type.
    """
    if pa.types.is_null(text.type):
        text = text.cast(pa.string())
    if pa.types.is_string(text.type):
        width: np.dtype[Any] = np.dtype(np.int32)
    elif pa.types.is_large_string(text.type):
        width = np.dtype(np.int64)
    else:
        raise TypeError(f"text is of type {text.type}; it must be string or large_string")
    n = len(text)
    _, positions, values = text.buffers()
    if n == 0 or positions is None:
        offsets = np.zeros(n + 1, np.int64)
    else:
        offsets = np.frombuffer(positions, width, n + 1, text.offset * width.itemsize).astype(np.int64)
    data = np.zeros(0, np.uint8) if values is None else np.frombuffer(values, np.uint8)
    valid = np.ones(n, np.bool_)
    if text.null_count:
        valid = text.is_valid().to_numpy(zero_copy_only=False)
    return TextBuffers(data, offsets, valid)


@dataclass(frozen=True)
class Cuts:
    """Where words may not run on, in n documents: at[first[i]:first[i + 1]] of document i.

    A document that has any gets its words from `find_cut_words`; only one with letters of scripts written
    without spaces needs them.
    """

    first: npt.NDArray[np.int64]  # [n + 1]
    at: npt.NDArray[np.int64]  # byte offsets, ascending, where a character begins
