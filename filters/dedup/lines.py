"""Lines and paragraphs that several texts share: keys to find them by, and texts without them.

As CCNet (Wenzek et al. 2020, arXiv:1911.00359, section 3.1; cc_net, dedup.py and text_normalizer.py) does,
except that the 64 bits of a key are not those of SHA-1, and that lower case is Arrow's, character by
character.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..kernels import kernel
from ..text.buffers import text_buffers
from ..text.characters import BYTES_TYPE, CLASSES_TYPE, DIGIT, SPACE, character_classes, decode
from ..text.hashing import hash_bytes
from .clusters import mix

Unit = Literal["lines", "paragraphs"]

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]

VERSION: Final = 1  # changes whenever the pieces of some text or their keys do

# The punctuation that CCNet leaves out (UNICODE_PUNCT), as code points: typographic and fullwidth forms, not
# the marks of ASCII.
PUNCTUATION: Final = (
    "AB B4 BB 2013 2014 2019 201C 201D 201E 2026 2236 2501 25BA 3001 3002 3008 3009 300A 300B 300C 300D 3010 "
    "3011 FF01 FF05 FF08 FF09 FF0C FF0E FF1A FF1B FF1F FF5E"
)


@dataclass(frozen=True)
class Pieces:
    """The lines or paragraphs of n texts, in order; text i owns first[i]:first[i + 1].

    The pieces of a text cover all of it: piece p is its bytes start[p]:stop[p], line ends included; what is
    compared of it are the bytes begin[p]:end[p], without line ends and blank lines around.
    """

    first: Int64s  # [n + 1]
    start: Int64s
    stop: Int64s
    begin: Int64s
    end: Int64s


def find_pieces(text: pa.Array, unit: Unit, blank: bool) -> Pieces:
    """Cuts each text of a string array: null has no piece, every other text has one or more.

    Lines end with a line feed. With `blank`, each line is a piece. Without, blank lines belong to the piece
    before them, or, at the beginning, to the first one. Paragraphs are separated by blank lines, which belong
    to them in the same way, and `blank` changes nothing.
    """
    buffers = text_buffers(text)
    stops = buffers.offsets[1:][buffers.valid]
    room = len(stops) + int(np.count_nonzero(buffers.data[buffers.offsets[0] : buffers.offsets[-1]] == 0x0A))
    columns = [np.empty(room, np.int64) for _ in range(4)]
    first = np.zeros(len(buffers) + 1, np.int64)
    paragraphs = unit == "paragraphs"
    _find(
        buffers.data,
        buffers.offsets,
        np.array(buffers.valid),
        character_classes(),
        paragraphs,
        blank and not paragraphs,
        first,
        *columns,
    )
    return Pieces(first, *(column[: first[-1]] for column in columns))


def piece_keys(
    text: pa.Array, unit: Unit, min_length: int, within: pa.Array | None = None
) -> tuple[Int64s, Uint64s, Bools]:
    """The keys of the pieces of each text: (first, keys, whether a piece is long enough to be compared).

    Two pieces have one key if they are equal in lower case, stripped of white space at their ends, with each
    digit as 0 and without control characters and PUNCTUATION, and if their texts are equal in `within`
    (string or null); others have one with probability 2**-64. Keys are uniform over 64 bits. `min_length`
    counts bytes of what is compared. Pieces are those of `find_pieces` with `blank` where it is 0.
    """
    pieces = find_pieces(text, unit, min_length == 0)
    lowered = pc.utf8_lower(text.cast(pa.string()) if pa.types.is_null(text.type) else text)
    # Lower case moves bytes, but neither lines nor white space.
    of_lowered = find_pieces(lowered, unit, min_length == 0)
    groups = np.zeros(len(text), np.uint64)
    if within is not None:
        buffers = text_buffers(within.cast(pa.string()) if not pa.types.is_string(within.type) else within)
        _hash_groups(buffers.data, buffers.offsets, np.array(buffers.valid), groups)
    keys, long_enough = np.empty(pieces.first[-1], np.uint64), np.empty(pieces.first[-1], np.bool_)
    widest = int((of_lowered.end - of_lowered.begin).max(initial=0))
    _hash(
        text_buffers(lowered).data,
        of_lowered.first,
        of_lowered.begin,
        of_lowered.end,
        character_classes(),
        _left_out(),
        groups,
        min_length,
        np.empty(widest + 8, np.uint8),
        keys,
        long_enough,
    )
    return pieces.first, keys, long_enough


def without_pieces(text: pa.Array, removed: pa.Array, unit: Unit, blank: bool) -> tuple[pa.Array, int, int]:
    """The texts without some of their pieces, how many pieces that were, and how many bytes shorter it is.

    `removed` lists for each text the numbers of the pieces (list of integers, null: none); pieces are those
    of `find_pieces`. Where the last piece of a text goes, so does the line end of the one before it.
    """
    pieces = find_pieces(text, unit, blank)
    keep = np.ones(pieces.first[-1], np.bool_)
    lists = removed.filter(removed.is_valid())
    rows = np.repeat(np.flatnonzero(removed.is_valid()), pc.list_value_length(lists).to_numpy())
    keep[pieces.first[rows] + lists.flatten().to_numpy()] = False
    buffers = text_buffers(text)
    kept = np.empty(max(1, int(buffers.offsets[-1] - buffers.offsets[0])), np.uint8)
    offsets = np.zeros(len(text) + 1, np.int64)
    _copy(buffers.data, pieces.first, pieces.start, pieces.stop, pieces.end, keep, kept, offsets)
    wide = pa.types.is_large_string(text.type)
    data = pa.py_buffer(kept[: offsets[-1]].tobytes())
    validity = text.is_valid().buffers()[1] if text.null_count else None
    made = pa.Array.from_buffers(
        pa.large_string() if wide else pa.string(),
        len(text),
        [validity, pa.py_buffer(offsets if wide else offsets.astype(np.int32)), data],
    )
    before = int(np.diff(buffers.offsets)[buffers.valid].sum())
    return made, int(np.count_nonzero(~keep)), before - int(offsets[-1])


@lru_cache(maxsize=1)
def _left_out() -> Bools:
    """Whether a code point below 2**16 is left out of what is compared."""
    table = np.zeros(1 << 16, np.bool_)
    table[[int(point, 16) for point in PUNCTUATION.split()]] = True
    table[:0x20] = table[0x7F:0xA0] = True
    table.flags.writeable = False
    return table


_BOOLS = "Array(boolean, 1, 'C', readonly=True)"


@kernel(
    f"void({BYTES_TYPE}, int64[::1], boolean[::1], {CLASSES_TYPE}, boolean, boolean, int64[::1], int64[::1],"
    " int64[::1], int64[::1], int64[::1])"
)
def _find(
    data: Bytes,
    offsets: Int64s,
    valid: Bools,
    classes: npt.NDArray[np.uint16],
    paragraphs: bool,
    each: bool,
    first: Int64s,
    start: Int64s,
    stop: Int64s,
    begin: Int64s,
    end: Int64s,
) -> None:
    piece = -1
    for row in range(len(valid)):
        first[row] = piece + 1
        at, close = offsets[row], offsets[row + 1]
        opened = after_blank = True
        more = valid[row]
        while more:
            line, blank = at, True
            while at < close and data[at] != 0x0A:
                if blank:
                    point, at = decode(data, at, close)
                    blank = (classes[point] & SPACE) != 0
                else:
                    at += 1
            line_end = at
            more = at < close
            at += more
            begins = each or (not blank and (after_blank or not paragraphs))
            if opened or (begins and (each or end[piece] > begin[piece])):
                piece += 1
                start[piece] = begin[piece] = end[piece] = line
                opened = False
            if each or not blank:
                if begins:
                    begin[piece] = line
                end[piece] = line_end
            stop[piece] = at
            after_blank = blank
    first[len(valid)] = piece + 1


@kernel(f"void({BYTES_TYPE}, int64[::1], boolean[::1], uint64[::1])")
def _hash_groups(data: Bytes, offsets: Int64s, valid: Bools, groups: Uint64s) -> None:
    for row in range(len(valid)):
        groups[row] = np.uint64(1)
        if valid[row]:
            groups[row] = mix(hash_bytes(data, offsets[row], offsets[row + 1]))


@kernel(
    f"void({BYTES_TYPE}, int64[::1], int64[::1], int64[::1], {CLASSES_TYPE}, {_BOOLS}, uint64[::1], int64,"
    " uint8[::1], uint64[::1], boolean[::1])"
)
def _hash(
    data: Bytes,
    first: Int64s,
    begin: Int64s,
    end: Int64s,
    classes: npt.NDArray[np.uint16],
    left_out: Bools,
    groups: Uint64s,
    min_length: int,
    plain: Bytes,
    keys: Uint64s,
    long_enough: Bools,
) -> None:
    for row in range(len(first) - 1):
        for piece in range(first[row], first[row + 1]):
            at, stop = begin[piece], end[piece]
            size = 0
            kept = 0  # bytes up to the last character that is not white space
            opened = False
            while at < stop:
                point, after = decode(data, at, stop)
                space = (classes[point] & SPACE) != 0
                opened |= not space
                if opened and not (point < 0x10000 and left_out[point]):
                    if classes[point] & DIGIT:
                        plain[size] = 0x30
                        size += 1
                    else:
                        for k in range(at, after):
                            plain[size] = data[k]
                            size += 1
                if not space:
                    kept = size
                at = after
            keys[piece] = mix(hash_bytes(plain, 0, kept) ^ groups[row])
            long_enough[piece] = kept >= min_length


@kernel(
    f"void({BYTES_TYPE}, int64[::1], int64[::1], int64[::1], int64[::1], boolean[::1], uint8[::1],"
    " int64[::1])"
)
def _copy(
    data: Bytes,
    first: Int64s,
    start: Int64s,
    stop: Int64s,
    end: Int64s,
    keep: Bools,
    kept: Bytes,
    offsets: Int64s,
) -> Any:
    size = 0
    for row in range(len(first) - 1):
        last = first[row + 1] - 1
        while last >= first[row] and not keep[last]:
            last -= 1
        for piece in range(first[row], last + 1):
            if keep[piece]:
                close = stop[piece]
                if piece == last and last < first[row + 1] - 1:
                    close = end[piece]
                for at in range(start[piece], close):
                    kept[size] = data[at]
                    size += 1
        offsets[row + 1] = size
