"""The lines that C4 keeps, as spans to delete: the kernel of line_edits.C4Lines."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..kernels import kernel
from .buffers import VALID_TYPE
from .characters import BYTES_TYPE, CLASSES_TYPE, DIGIT, QUOTE, SPACE, TERMINAL, decode
from .counters import COUNTERS
from .line_spans import SPANS_TYPE, after_line_end, append_span, last_character, with_room
from .lines import INNER_START, INNER_STOP, LINE_COLUMNS, STOP, count_line_ends, find_lines
from .sentences import INTEREST_TYPE, PHRASES_TYPE, read_line

# What a line is asked, as bits of `wanted`; the bits of phrases are those of sentences.PHRASES.
ENDING: Final = 16
CITATIONS: Final = 32

_OPEN: Final = 0x5B
_CLOSE: Final = 0x5D
_DOT: Final = 0x2E
_ELLIPSIS: Final = 0x2026
_EDIT: Final = tuple(b"edit]")
_NEEDED: Final = tuple(b"citation needed]")

POINTS_TYPE: Final = "Array(uint32, 1, 'C', readonly=True)"


@kernel(f"int64({BYTES_TYPE}, int64, int64, {CLASSES_TYPE})")
def after_citation(data: Any, at: int, stop: int, classes: Any) -> int:
    """Where the mark that begins at `at` is over: "[", digits or nothing, "]", or "[edit]", or "[citation
    needed]"; -1 if none begins there."""
    if data[at] != _OPEN:
        return -1
    at += 1
    for k in range(len(_EDIT)):
        if at + k >= stop or data[at + k] != _EDIT[k]:
            break
        if k + 1 == len(_EDIT):
            return at + k + 1
    for k in range(len(_NEEDED)):
        if at + k >= stop or data[at + k] != _NEEDED[k]:
            break
        if k + 1 == len(_NEEDED):
            return at + k + 1
    while at < stop:
        if data[at] == _CLOSE:
            return at + 1
        point, after = decode(data, at, stop)
        if (classes[point] & DIGIT) == 0:
            break
        at = after
    return -1


@kernel(f"UniTuple(int64, 2)({BYTES_TYPE}, int64, int64, {CLASSES_TYPE})")
def measure_words(data: Any, start: int, stop: int, classes: Any) -> Any:
    """How many words `str.split()` finds in data[start:stop], and the characters of the longest."""
    count, length, longest = 0, 0, 0
    at = start
    while at < stop:
        point: Any = np.int64(data[at])
        at += 1
        if point >= 0x80:
            point, at = decode(data, at - 1, stop)
        if (classes[point] & SPACE) != 0:
            length = 0
            continue
        count += length == 0
        length += 1
        longest = max(longest, length)
    return count, longest


@kernel(f"boolean({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, {POINTS_TYPE})")
def ends_well(data: Any, start: int, stop: int, classes: Any, end_marks: Any) -> bool:
    """Whether data[start:stop], which is not empty, ends in an end mark and not in an ellipsis.

    Without `end_marks`, they are the sentence terminals and the closing quotation marks.
    """
    last, _ = last_character(data, start, stop)
    if last == _ELLIPSIS or (
        stop - start >= 3 and data[stop - 1] == _DOT and data[stop - 2] == _DOT and data[stop - 3] == _DOT
    ):
        return False
    if len(end_marks) == 0:
        return (classes[last] & (TERMINAL | QUOTE)) != 0  # type: ignore[no-any-return]
    found = False
    for k in range(len(end_marks)):
        found = found or end_marks[k] == last
    return found


@kernel(
    f"UniTuple(int64, 3)({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, uint8[::1])",
)
def without_citations(data: Any, start: int, stop: int, classes: Any, rest: Any) -> Any:
    """Copies what is left of a line to `rest`, white space at its ends aside.

    Returns how many bytes these are, and where they begin and end in `data`; 0 bytes: nothing is left.
    """
    size, used, first, last = 0, 0, -1, start
    at = start
    while at < stop:
        after = after_citation(data, at, stop, classes)
        if after >= 0:
            at = after
            continue
        point, after = decode(data, at, stop)
        spaced = (classes[point] & SPACE) != 0
        if first < 0 and not spaced:
            first = at
        if first >= 0:
            for k in range(at, after):
                rest[used] = data[k]
                used += 1
        if not spaced:
            size, last = used, after
        at = after
    return size, max(first, start), last


@kernel(
    f"boolean({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, {INTEREST_TYPE}, {PHRASES_TYPE}, int64, "
    f"{POINTS_TYPE}, int64, int64[::1])"
)
def keeps(
    data: Any,
    start: int,
    stop: int,
    classes: Any,
    interest: Any,
    phrases: Any,
    wanted: int,
    end_marks: Any,
    min_words: int,
    counters: Any,
) -> bool:
    """Whether C4 keeps the line data[start:stop]: neither empty nor with white space at its ends."""
    if wanted & ENDING and not ends_well(data, start, stop, classes, end_marks):
        return False
    if measure_words(data, start, stop, classes)[0] < min_words:
        return False
    _, kinds = read_line(data, start, stop, stop, classes, interest, phrases, counters)
    return (kinds & wanted) == 0  # type: ignore[no-any-return]


@kernel(
    f"{SPANS_TYPE}({BYTES_TYPE}, int64[::1], {VALID_TYPE}, {CLASSES_TYPE}, {INTEREST_TYPE}, {PHRASES_TYPE}, "
    f"int64, {POINTS_TYPE}, int64, int64, int64[::1])"
)
def c4_spans(
    data: Any,
    offsets: Any,
    valid: Any,
    classes: Any,
    interest: Any,
    phrases: Any,
    wanted: int,
    end_marks: Any,
    min_words: int,
    max_word: int,
    first: Any,
) -> Any:
    """What to delete of each text; fills `first` (int64[n + 1]): text i has the spans first[i]:first[i + 1].

    What stays are the kept lines without white space at their ends, each with its own line end between it and
    the next.
    """
    spans = np.empty((64, 2), np.int64)
    lines = np.empty((16, LINE_COLUMNS), np.int64)
    rest = np.empty(256, np.uint8)
    counters = np.zeros(COUNTERS, np.int64)
    count = 0
    for i in range(len(valid)):
        first[i] = count
        if not valid[i]:
            continue
        begin, end = offsets[i], offsets[i + 1]
        room = count_line_ends(data, begin, end) + 1
        if room > lines.shape[0]:
            lines = np.empty((2 * room, LINE_COLUMNS), np.int64)
        n_lines = find_lines(data, begin, end, classes, lines, counters)
        done, line_end = begin, begin  # where the last kept line, and where its line end, stops
        for line in range(n_lines):
            start, stop = lines[line, INNER_START], lines[line, INNER_STOP]
            if 0 < max_word < stop - start and measure_words(data, start, stop, classes)[1] > max_word:
                continue
            cited = False
            if wanted & CITATIONS:
                for at in range(start, stop):
                    if data[at] == _OPEN and after_citation(data, at, stop, classes) >= 0:
                        cited = True
                        break
            if cited:
                if stop - start > len(rest):
                    rest = np.empty(2 * (stop - start), np.uint8)
                size, start, stop = without_citations(data, start, stop, classes, rest)
                if size == 0 or not keeps(
                    rest, 0, size, classes, interest, phrases, wanted, end_marks, min_words, counters
                ):
                    continue
            elif not keeps(
                data, start, stop, classes, interest, phrases, wanted, end_marks, min_words, counters
            ):
                continue
            spans = with_room(spans, count + 2)
            if line_end > begin:
                count = append_span(spans, first[i], count, done, line_end)
                count = append_span(spans, first[i], count, after_line_end(data, line_end, end), start)
            else:
                count = append_span(spans, first[i], count, begin, start)
            if cited:
                at = start
                while at < stop:
                    after = after_citation(data, at, stop, classes)
                    if after < 0:
                        at += 1
                        continue
                    spans = with_room(spans, count + 1)
                    count = append_span(spans, first[i], count, at, after)
                    at = after
            done, line_end = stop, lines[line, STOP]
        spans = with_room(spans, count + 1)
        count = append_span(spans, first[i], count, done, end)
    first[len(valid)] = count
    return spans[:count].copy()
