"""Text as RedPajama-V2 normalises it before it measures: no punctuation, lower case, Unicode's form NFD.

The reference is github.com/togethercomputer/RedPajama-Data, branch rp_v2, app/src/core/document.py and
utilities/text/normalization.py.
"""

from __future__ import annotations

import unicodedata
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..kernels import kernel
from .buffers import VALID_TYPE, text_buffers
from .characters import BYTES_TYPE, CLASSES_TYPE, SPACE, character_classes, decode

_NEWLINE: Final = 0x0A


def normalize(text: pa.Array) -> pa.Array:
    """Each text without ASCII punctuation, in lower case (str.lower), in Unicode's form NFD.

    Line ends ("\\n") stay; in a line, white space at the ends goes and other runs of it become one space. So
    the words and the lines are those of RedPajama-V2's normalised content and normalised lines.
    """
    buffers = text_buffers(text)
    data = np.empty(int(buffers.offsets[-1] - buffers.offsets[0]), np.uint8)
    ends = np.zeros(len(buffers) + 1, np.int64)
    ascii = np.ones(len(buffers), np.bool_)
    strip(buffers.data, buffers.offsets, buffers.valid, character_classes(), data, ends, ascii)
    # A few letters change their length, and what precedes or follows decides how a few are lowered.
    other = np.flatnonzero(~ascii)
    whole = data[: ends[-1]].tobytes()
    made: list[bytes] = []
    done = 0
    shift = np.zeros(len(buffers) + 1, np.int64)
    for row in other.tolist():
        begin, end = int(ends[row]), int(ends[row + 1])
        lowered = unicodedata.normalize("NFD", whole[begin:end].decode("utf-8", "replace").lower()).encode()
        made += (whole[done:begin], lowered)
        done = end
        shift[row + 1] = len(lowered) - (end - begin)
    made.append(whole[done:])
    offsets = ends + np.cumsum(shift)
    joined = b"".join(made)
    mask = None if buffers.valid.all() else pa.array(buffers.valid).buffers()[1]
    return pa.Array.from_buffers(
        pa.large_string(), len(buffers), [mask, pa.py_buffer(offsets), pa.py_buffer(joined)]
    )


@kernel(f"void({BYTES_TYPE}, int64[::1], {VALID_TYPE}, {CLASSES_TYPE}, uint8[::1], int64[::1], boolean[::1])")
def strip(
    data: Any, offsets: Any, valid: Any, classes: Any, out: Any, ends: Any, ascii: npt.NDArray[np.bool_]
) -> None:
    """Writes the texts without ASCII punctuation and with white space as `normalize` has it, ASCII letters
    small; `ends` are the offsets of the result, `ascii` says whether a text is all ASCII."""
    written = 0
    for i in range(len(valid)):
        ends[i] = written
        if not valid[i]:
            continue
        at, end = offsets[i], offsets[i + 1]
        line, gap = written, False  # where the line began, and whether white space is still to be written
        while at < end:
            byte: Any = np.int64(data[at])
            after = at + 1
            spaced = False
            if byte >= 0x80:
                point, after = decode(data, at, end)
                spaced = (classes[point] & SPACE) != 0
                ascii[i] = ascii[i] and spaced
            elif byte == _NEWLINE:
                out[written] = _NEWLINE
                written += 1
                line, gap = written, False
                at = after
                continue
            else:
                spaced = (classes[byte] & SPACE) != 0
                if 0x41 <= byte <= 0x5A:
                    byte += 0x20
                elif (
                    0x21 <= byte <= 0x2F
                    or 0x3A <= byte <= 0x40
                    or 0x5B <= byte <= 0x60
                    or 0x7B <= byte <= 0x7E
                ):
                    at = after
                    continue
            if spaced:
                gap = True
            else:
                if gap and written > line:
                    out[written] = 0x20
                    written += 1
                gap = False
                if byte < 0x80:
                    out[written] = byte
                    written += 1
                else:
                    for k in range(at, after):
                        out[written] = data[k]
                        written += 1
            at = after
    ends[len(valid)] = written
