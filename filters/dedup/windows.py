"""What goes of a text in which evaluation sets were found: the places, windows around them, short pieces.

As GPT-3's data was filtered (Brown et al. 2020, arXiv:2005.14165, appendix C).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..kernels import kernel
from ..text.buffers import text_buffers
from ..text.characters import BYTES_TYPE
from ..text.hashing import count_characters
from .decontamination import Matches

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]

_INTS = "Array(int64, 1, 'C', readonly=True)"


@dataclass(frozen=True)
class Removal:
    """What goes of n texts: of text i the bytes start[k]:stop[k] for k in first[i]:first[i + 1]."""

    first: Int64s  # [n + 1]
    start: Int64s
    stop: Int64s
    between: Bools  # whether something is left of the text on both sides
    pieces: Int64s  # [n]: that each text falls into, also those too short to stay
    left: Int64s  # [n]: that stay


def plan_removal(text: pa.Array, matches: Matches, window: int, min_piece: int) -> Removal:
    """Takes the matches out, with `window` characters on either side, and then pieces below `min_piece`
    characters.

    A text without a match is one piece, which stays, however short.
    """
    buffers = text_buffers(text)
    start, stop = np.empty(len(matches.start), np.int64), np.empty(len(matches.start), np.int64)
    first = np.zeros(len(text) + 1, np.int64)
    pieces, left = np.ones(len(text), np.int64), np.ones(len(text), np.int64)
    _plan(
        buffers.data,
        buffers.offsets,
        matches.first,
        matches.start,
        matches.stop,
        window,
        min_piece,
        first,
        start,
        stop,
        pieces,
        left,
    )
    start, stop = start[: first[-1]], stop[: first[-1]]
    sizes = np.repeat(np.diff(buffers.offsets), np.diff(first))
    return Removal(first, start, stop, (start > 0) & (stop < sizes), pieces, left)


@kernel(f"int64({BYTES_TYPE}, int64, int64, int64)")
def _back(data: Any, at: int, begin: int, characters: int) -> int:
    """Where the text is `characters` before `at`, but not before `begin`."""
    while characters > 0 and at > begin:
        at -= 1
        characters -= (data[at] & 0xC0) != 0x80
    return at


@kernel(f"int64({BYTES_TYPE}, int64, int64, int64)")
def _on(data: Any, at: int, end: int, characters: int) -> int:
    """Where the text is `characters` behind `at`, but not behind `end`."""
    while characters > 0 and at < end:
        at += 1
        while at < end and (data[at] & 0xC0) == 0x80:
            at += 1
        characters -= 1
    return at


@kernel(
    f"void({BYTES_TYPE}, int64[::1], {_INTS}, {_INTS}, {_INTS}, int64, int64, int64[::1], int64[::1], "
    "int64[::1], int64[::1], int64[::1])"
)
def _plan(
    data: Any,
    offsets: Any,
    match: Any,
    match_start: Any,
    match_stop: Any,
    window: int,
    min_piece: int,
    first: Any,
    start: Any,
    stop: Any,
    pieces: Any,
    left: Any,
) -> None:
    count = 0
    for row in range(len(offsets) - 1):
        first[row] = count
        if match[row] == match[row + 1]:
            continue
        base, size = offsets[row], offsets[row + 1] - offsets[row]
        windows = count
        for k in range(match[row], match[row + 1]):
            low = _back(data, base + match_start[k], base, window) - base
            high = _on(data, base + match_stop[k], base + size, window) - base
            if windows > count and low <= stop[windows - 1]:
                stop[windows - 1] = max(stop[windows - 1], high)
            else:
                start[windows], stop[windows] = low, high
                windows += 1
        pieces[row] = left[row] = 0
        mine, piece = count, 0
        for k in range(mine, windows + 1):
            low, high = size, size
            if k < windows:
                low, high = start[k], stop[k]
            if low > piece:
                pieces[row] += 1
                if count_characters(data, base + piece, base + low, False) >= min_piece:
                    left[row] += 1
                else:
                    low = piece
            if count > mine and stop[count - 1] == low:
                stop[count - 1] = high
            elif low < high:
                start[count], stop[count] = low, high
                count += 1
            piece = high
    first[len(offsets) - 1] = count
