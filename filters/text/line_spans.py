"""Spans of lines to delete, for the refiners of line_edits.py.

Spans are int64[n, 2], byte offsets in the buffer of all texts. Whatever is not deleted keeps its bytes, line
ends included.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..kernels import kernel
from .characters import BYTES_TYPE, CLASSES_TYPE, SPACE, decode

SPANS_TYPE: Final = "int64[:, ::1]"

_NEWLINE: Final = 0x0A
_RETURN: Final = 0x0D


@kernel(f"{SPANS_TYPE}({SPANS_TYPE}, int64)")
def with_room(spans: Any, count: int) -> Any:
    """`spans`, or a larger copy of it, with room for `count` spans."""
    if count <= spans.shape[0]:
        return spans
    larger = np.empty((2 * count, 2), np.int64)
    larger[: spans.shape[0]] = spans
    return larger


@kernel(f"int64({SPANS_TYPE}, int64, int64, int64, int64)")
def append_span(spans: Any, first: int, count: int, start: int, stop: int) -> int:
    """Appends a span to those from `first` on, or widens the last one if they touch; leaves out an empty one.

    Spans come in their order, and there is room for one more. Returns how many there are now.
    """
    if stop <= start:
        return count
    if count > first and start <= spans[count - 1, 1]:
        spans[count - 1, 1] = max(stop, spans[count - 1, 1])
        return count
    spans[count, 0] = start
    spans[count, 1] = stop
    return count + 1


@kernel(f"int64({BYTES_TYPE}, int64, int64)")
def after_line_end(data: Any, at: int, end: int) -> int:
    """Where the line end at `at` is over; `end` where the text ends without one."""
    if at >= end:
        return end
    if data[at] == _RETURN and at + 1 < end and data[at + 1] == _NEWLINE:
        return at + 2
    return at + 1


@kernel(f"UniTuple(int64, 2)({BYTES_TYPE}, int64, int64)", forceinline=True)
def last_character(data: Any, start: int, stop: int) -> Any:
    """The last code point of data[start:stop], which is not empty, and where it begins."""
    at = stop - 1
    while at > start and stop - at < 4 and (data[at] & 0xC0) == 0x80:
        at -= 1
    point, after = decode(data, at, stop)
    if after != stop:
        return 0xFFFD, stop - 1
    return point, at


@kernel(f"int64({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, {SPANS_TYPE}, int64, int64)")
def trim_ends(data: Any, begin: int, end: int, classes: Any, spans: Any, first: int, count: int) -> int:
    """Deletes also the white space that the spans leave at either end of data[begin:end].

    There is room for two more spans. Returns how many there are now.
    """
    left, k = begin, first
    while left < end:
        if k < count and spans[k, 0] == left:
            left = spans[k, 1]
            k += 1
            continue
        point, after = decode(data, left, end)
        if (classes[point] & SPACE) == 0:
            break
        left = after
    right, m = end, count
    while right > left:
        if m > k and spans[m - 1, 1] == right:
            right = spans[m - 1, 0]
            m -= 1
            continue
        point, at = last_character(data, left, right)
        if (classes[point] & SPACE) == 0:
            break
        right = at
    inner = spans[k:m].copy()
    count = append_span(spans, first, first, begin, left)
    for row in range(len(inner)):
        count = append_span(spans, first, count, inner[row, 0], inner[row, 1])
    return append_span(spans, first, count, right, end)
