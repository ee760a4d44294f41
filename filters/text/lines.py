"""Lines and paragraphs: where they are, how they begin and end, and which repeat an earlier one."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..kernels import kernel
from .characters import BYTES_TYPE, CLASSES_TYPE, QUOTE, SPACE, TERMINAL, decode
from .counters import (
    BULLET_LINES,
    DUPLICATE_LINE_CHARS,
    DUPLICATE_LINES,
    DUPLICATE_PARAGRAPH_CHARS,
    DUPLICATE_PARAGRAPHS,
    ELLIPSIS_LINES,
    LINE_CHARS,
    LINES,
    NEWLINES,
    PARAGRAPHS,
    SHORT_LINES,
    TERMINAL_LINES,
)
from .hashing import BLOCK, count_characters, fold, hash_bytes, load_block
from .tables import TABLE_TYPE, find_or_insert, slots_for

# Columns of the line array, int64[lines, LINE_COLUMNS]: byte offsets and properties of a line.
START: Final = 0
STOP: Final = 1  # without its line end
INNER_START: Final = 2  # without white space at its ends
INNER_STOP: Final = 3
PARAGRAPH: Final = 4  # index of its paragraph in the document
ENDING: Final = 5  # bits, see below
CHARS: Final = 6  # with the white space at its ends
KEY: Final = 7  # the hash of its bytes
LINE_COLUMNS: Final = 8

ENDS_TERMINAL: Final = 1  # a sentence terminal or a closing quotation mark
ENDS_ELLIPSIS: Final = 2  # "..." or "…"

LINES_TYPE: Final = "int64[:, ::1]"

_ELLIPSIS: Final = 0x2026
_DOT: Final = 0x2E
_NEWLINE: Final = 0x0A
_RETURN: Final = 0x0D

# Eight bytes at a time.
_ONES: Final = np.uint64(0x0101010101010101)
_HIGH_BITS: Final = np.uint64(0x8080808080808080)
_NEWLINES: Final = np.uint64(0x0A0A0A0A0A0A0A0A)
_RETURNS: Final = np.uint64(0x0D0D0D0D0D0D0D0D)


@kernel(f"int64({BYTES_TYPE}, int64, int64)")
def count_line_ends(data: Any, begin: int, end: int) -> int:
    """How many "\\n" and "\\r" are in data[begin:end]: one less than the lines there can be."""
    count = 0
    for at in range(begin, end):
        count += (data[at] == _NEWLINE) | (data[at] == _RETURN)
    return count


@kernel(f"int64({BYTES_TYPE}, int64, int64, {CLASSES_TYPE})", forceinline=True)
def _first_inner(data: Any, start: int, stop: int, classes: Any) -> int:
    at = start
    while at < stop:
        point: Any = np.int64(data[at])
        after = at + 1
        if point >= 0x80:
            point, after = decode(data, at, stop)
        if (classes[point] & SPACE) == 0:
            break
        at = after
    return at


@kernel(f"UniTuple(int64, 2)({BYTES_TYPE}, int64, int64)", forceinline=True)
def _last_character(data: Any, start: int, stop: int) -> Any:
    """The last code point of data[start:stop], which is not empty, and where it begins."""
    at = stop - 1
    while at > start and stop - at < 4 and (data[at] & 0xC0) == 0x80:
        at -= 1
    point, after = decode(data, at, stop)
    if after != stop:
        return 0xFFFD, stop - 1
    return point, at


@kernel(f"int64({BYTES_TYPE}, int64, int64, {CLASSES_TYPE})", forceinline=True)
def _last_inner(data: Any, start: int, stop: int, classes: Any) -> int:
    while stop > start:
        point, at = _last_character(data, start, stop)
        if (classes[point] & SPACE) == 0:
            break
        stop = at
    return stop


@kernel(f"int64({BYTES_TYPE}, int64, int64)", forceinline=True)
def _next_line_end(data: Any, at: int, end: int) -> int:
    """Where the next "\\n" or "\\r" from `at` on is; `end` if there is none."""
    while at + 8 <= end:
        block = load_block(data, at)
        newline, carriage_return = block ^ _NEWLINES, block ^ _RETURNS
        # The high bit of a byte comes on where the byte was 0, or above such a one: none on, none there.
        found = ((newline - _ONES) & ~newline) | ((carriage_return - _ONES) & ~carriage_return)
        if (found & _HIGH_BITS) != 0:
            break
        at += 8
    while at < end and data[at] != _NEWLINE and data[at] != _RETURN:
        at += 1
    return at


@kernel(f"int64({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, {LINES_TYPE}, int64[::1])")
def find_lines(data: Any, begin: int, end: int, classes: Any, lines: Any, counters: Any) -> int:
    """Fills `lines` with the lines of data[begin:end] that are not blank; returns how many there are."""
    count, paragraph, blank_before, ends = 0, -1, True, 0
    start = begin
    while start < end:
        at = _next_line_end(data, start, end)
        inner = _first_inner(data, start, at, classes)
        if inner == at:
            blank_before = True
        else:
            paragraph += blank_before
            blank_before = False
            lines[count, START] = start
            lines[count, STOP] = at
            lines[count, INNER_START] = inner
            lines[count, INNER_STOP] = _last_inner(data, inner, at, classes)
            lines[count, PARAGRAPH] = paragraph
            count += 1
        ends += at < end
        start = at + 1
        if start < end and data[at] == _RETURN and data[start] == _NEWLINE:
            start += 1
    counters[NEWLINES] = ends
    counters[LINES] = count
    counters[PARAGRAPHS] = paragraph + 1
    return count


@kernel(f"void({BYTES_TYPE}, {CLASSES_TYPE}, {LINES_TYPE}, int64, uint32[::1], int64[::1])")
def classify_lines(data: Any, classes: Any, lines: Any, count: int, bullets: Any, counters: Any) -> None:
    """How lines begin and end, white space aside; fills the column ENDING."""
    for line in range(count):
        start, stop = lines[line, INNER_START], lines[line, INNER_STOP]
        first, _ = decode(data, start, stop)
        for k in range(len(bullets)):
            counters[BULLET_LINES] += first == bullets[k]
        last, _ = _last_character(data, start, stop)
        dots = (
            stop - start >= 3 and data[stop - 1] == _DOT and data[stop - 2] == _DOT and data[stop - 3] == _DOT
        )
        ellipsis = dots or last == _ELLIPSIS
        terminal = (classes[last] & (TERMINAL | QUOTE)) != 0
        lines[line, ENDING] = ENDS_TERMINAL * terminal | ENDS_ELLIPSIS * ellipsis
        counters[ELLIPSIS_LINES] += ellipsis
        counters[TERMINAL_LINES] += terminal


@kernel(f"int64({BYTES_TYPE}, {LINES_TYPE}, int64, boolean, int64, {TABLE_TYPE}, int64, int64[::1])")
def count_duplicate_lines(
    data: Any,
    lines: Any,
    count: int,
    ascii: bool,
    short_line: int,
    table: Any,
    generation: int,
    counters: Any,
) -> int:
    """Lengths of lines, and lines and paragraphs equal to an earlier one; returns the last generation used.

    The table has slots_for(count) slots. Lines are compared with the white space at their ends, paragraphs by
    their lines, both by 64-bit hashes.
    """
    slots = slots_for(count)
    for line in range(count):
        start, stop = lines[line, START], lines[line, STOP]
        chars = count_characters(data, start, stop, ascii)
        key = hash_bytes(data, start, stop)
        lines[line, CHARS] = chars
        lines[line, KEY] = np.int64(key)
        counters[LINE_CHARS] += chars
        counters[SHORT_LINES] += chars <= short_line
        if find_or_insert(table, slots, generation, key, line) >= 0:
            counters[DUPLICATE_LINES] += 1
            counters[DUPLICATE_LINE_CHARS] += chars
    generation += 1
    paragraph, paragraph_chars = np.uint64(0), 0
    for line in range(count):
        paragraph = fold(paragraph ^ np.uint64(lines[line, KEY]), BLOCK)
        paragraph_chars += lines[line, CHARS]
        if line + 1 == count or lines[line + 1, PARAGRAPH] != lines[line, PARAGRAPH]:
            if find_or_insert(table, slots, generation, paragraph, line) >= 0:
                counters[DUPLICATE_PARAGRAPHS] += 1
                counters[DUPLICATE_PARAGRAPH_CHARS] += paragraph_chars
            paragraph, paragraph_chars = np.uint64(0), 0
    return generation
