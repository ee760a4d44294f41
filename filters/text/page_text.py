"""Text of the chosen parts of a page."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..kernels import kernel
from .characters import BYTES_TYPE
from .page_outline import Kind

_SPAN: Final = int(Kind.SPAN)
_EMPHASIS: Final = int(Kind.EMPHASIS)
_ITEM: Final = int(Kind.ITEM)
_PRE: Final = int(Kind.PRE)
_CODE: Final = int(Kind.CODE)
_ROW: Final = int(Kind.ROW)


@kernel(f"int64({BYTES_TYPE}, uint8[::1], int32[::1], int32[:, ::1], bool_[::1], uint8[::1], int64[:, ::1])")
def write_text(data: Any, kind: Any, parent: Any, text: Any, kept: Any, out: Any, scratch: Any) -> int:
    """Writes the kept texts, a line per block; returns how many bytes there are."""
    block, pre, row = scratch[0], scratch[1], scratch[2]
    block[0] = pre[0] = row[0] = 0
    for i in range(1, len(kind)):
        what, up = kind[i], parent[i]
        inline = what == _CODE or _SPAN <= what <= _EMPHASIS
        block[i] = block[up] if inline else i
        pre[i] = pre[up] or what == _PRE
        row[i] = i if what == _ROW else row[up]
    size, before, row_before = 0, -1, 0
    for at in range(len(text)):
        if not kept[at]:
            continue
        element, begin, end = text[at, 0], text[at, 1], text[at, 2]
        if text[at, 3] == 4 and not pre[element]:
            if size and block[element] == before and out[size - 1] > 32:
                out[size] = 32
                size += 1
            continue
        if size and (block[element] != before or text[at, 3] & 2):
            while size and out[size - 1] == 32:
                size -= 1
            if row[element] and row[element] == row_before and block[element] != before:
                out[size] = 9
            else:
                out[size] = 10
            size += 1
        if block[element] != before and kind[block[element]] == _ITEM:
            out[size], out[size + 1] = 45, 32
            size += 2
        before, row_before = block[element], row[element]
        while begin < end:
            byte = data[begin]
            step = 1
            if byte == 38:
                if begin + 5 <= end and data[begin + 1] == 97 and data[begin + 4] == 59:
                    step = 5
                elif begin + 4 <= end and data[begin + 3] == 59 and data[begin + 2] == 116:
                    step, byte = 4, np.uint8(60) if data[begin + 1] == 108 else np.uint8(62)
                elif begin + 6 <= end and data[begin + 1] == 110 and data[begin + 5] == 59:
                    step, byte = 6, np.uint8(32)
            begin += step
            if (byte == 32 or 9 <= byte <= 13) and not pre[element]:
                if size and out[size - 1] not in (9, 10, 32):
                    out[size] = 32
                    size += 1
                continue
            out[size] = byte
            size += 1
    return size
