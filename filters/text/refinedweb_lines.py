"""The lines that RefinedWeb discards or edits, as spans: the kernel of line_edits.RefinedWebLines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..kernels import kernel
from .buffers import VALID_TYPE
from .characters import BYTES_TYPE, CLASSES_TYPE, DIGIT, MARK, SPACE, UPPER, WORD, decode
from .counters import COUNTERS
from .line_spans import SPANS_TYPE, after_line_end, append_span, trim_ends, with_room
from .lines import INNER_START, INNER_STOP, LINE_COLUMNS, START, STOP, count_line_ends, find_lines

PHRASES_TYPE: Final = "Array(int32, 2, 'C', readonly=True)"

# Columns of a phrase: its length, then its bytes, or _ANY for one character, whichever.
_LENGTH: Final = 0
_TEXT: Final = 1
_ANY: Final = -1

_MULTIPLES: Final = tuple(b"kmb")
_COMMA: Final = 0x2C
_DOT: Final = 0x2E


def phrase_table(phrases: Sequence[str], wildcard: str = "") -> npt.NDArray[np.int32]:
    """Phrases as the kernel reads them, the longest first; `wildcard` in them stands for any character."""
    rows = []
    for phrase in sorted(phrases, key=len, reverse=True):
        codes = [[_ANY] if c == wildcard else list(_lower(c).encode()) for c in phrase]
        rows.append([code for character in codes for code in character])
    table = np.zeros((len(rows), _TEXT + max(map(len, rows), default=0)), np.int32)
    for row, codes_of_row in zip(table, rows, strict=True):
        row[_LENGTH] = len(codes_of_row)
        row[_TEXT : _TEXT + len(codes_of_row)] = codes_of_row
    table.flags.writeable = False
    return table


def _lower(character: str) -> str:
    return character.lower() if character.isascii() else character


@kernel(f"int64({BYTES_TYPE}, int64, int64, {PHRASES_TYPE}, int64)")
def after_phrase(data: Any, at: int, stop: int, phrases: Any, row: int) -> int:
    """Where the phrase of a row is over if it begins at `at`, the case of ASCII letters aside; else -1."""
    for k in range(_TEXT, _TEXT + phrases[row, _LENGTH]):
        if at >= stop:
            return -1
        code = phrases[row, k]
        if code == _ANY:
            _, at = decode(data, at, stop)
            continue
        byte: Any = np.int64(data[at])
        if 0x41 <= byte <= 0x5A:
            byte += 0x20
        if byte != code:
            return -1
        at += 1
    return at


@kernel(f"int64({BYTES_TYPE}, int64, int64, {PHRASES_TYPE}, boolean)")
def after_any_phrase(data: Any, at: int, stop: int, phrases: Any, to_the_end: bool) -> int:
    """Where the first of the phrases that begin at `at` is over, if asked exactly at `stop`; else -1."""
    for row in range(phrases.shape[0]):
        after = after_phrase(data, at, stop, phrases, row)
        if after >= 0 and (after == stop or not to_the_end):
            return after
    return -1


@kernel(f"UniTuple(int64, 2)({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, {PHRASES_TYPE}, boolean)")
def next_phrase(data: Any, at: int, stop: int, classes: Any, phrases: Any, to_the_end: bool) -> Any:
    """The first phrase from `at` on, with a white space before it: its start and stop; start `stop`: none."""
    while at < stop:
        point, following = decode(data, at, stop)
        after: Any = -1
        if (classes[point] & SPACE) != 0:
            after = after_any_phrase(data, following, stop, phrases, to_the_end)
        if after < 0:
            after = after_any_phrase(data, at, stop, phrases, to_the_end)
        if after >= 0:
            return at, after
        at = following
    return stop, stop


@kernel(f"boolean({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, {PHRASES_TYPE})")
def is_counter(data: Any, start: int, stop: int, classes: Any, units: Any) -> bool:
    """Whether a line is a number, perhaps of thousands, and a unit, with nothing but punctuation around."""
    at = start
    while at < stop:
        point, after = decode(data, at, stop)
        if (classes[point] & WORD) != 0 and (classes[point] & MARK) == 0:
            break
        at = after
    digits = 0
    while at < stop:
        point, after = decode(data, at, stop)
        if (classes[point] & DIGIT) == 0 and (digits == 0 or (point != _COMMA and point != _DOT)):
            break
        digits += 1
        at = after
    if digits == 0:
        return False
    if at < stop and (data[at] | 0x20) in _MULTIPLES:
        at += 1
    spaces = 0
    while at < stop:
        point, after = decode(data, at, stop)
        if (classes[point] & SPACE) == 0:
            break
        spaces += 1
        at = after
    if spaces == 0:
        return False
    for row in range(units.shape[0]):
        rest = after_phrase(data, at, stop, units, row)
        if rest < 0:
            continue
        while rest < stop:
            point, after = decode(data, rest, stop)
            if (classes[point] & WORD) != 0 and (classes[point] & MARK) == 0:
                break
            rest = after
        if rest == stop:
            return True
    return False


@kernel(f"UniTuple(int64, 4)({BYTES_TYPE}, int64, int64, {CLASSES_TYPE})")
def measure_line(data: Any, start: int, stop: int, classes: Any) -> Any:
    """Words, characters, upper-case letters and digits of a line."""
    words: Any = 0
    chars, upper, digits = 0, 0, 0
    spaced_before: Any = 1
    at = start
    while at < stop:
        point: Any = np.int64(data[at])
        at += 1
        if point >= 0x80:
            point, at = decode(data, at - 1, stop)
        kind = classes[point]
        spaced = np.int64(kind & SPACE)
        words += spaced_before & ~spaced
        spaced_before = spaced
        chars += 1
        upper += (kind & UPPER) != 0
        digits += (kind & DIGIT) != 0
    return int(words), chars, upper, digits


@kernel(
    f"int64({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, {PHRASES_TYPE}, {PHRASES_TYPE}, {PHRASES_TYPE}, "
    "uint8[::1], int64[::1])"
)
def rest_of_line(
    data: Any,
    start: int,
    stop: int,
    classes: Any,
    anywhere: Any,
    at_end: Any,
    at_start: Any,
    rest: Any,
    place: Any,
) -> int:
    """Copies what is left of a line without its phrases to `rest`, the place of each byte to `place`.

    What one list of phrases leaves is what the next one sees. Returns how many bytes are left, -1 if they are
    all white space.
    """
    used, at = 0, start
    while at < stop:
        found, after = next_phrase(data, at, stop, classes, anywhere, False)
        for k in range(at, found):
            rest[used] = data[k]
            place[used] = k
            used += 1
        at = after
    used, _ = next_phrase(rest, 0, used, classes, at_end, True)
    after = after_any_phrase(rest, 0, used, at_start, False)
    if after >= 0:
        if after < used:
            point, following = decode(rest, after, used)
            if (classes[point] & SPACE) != 0:
                after = following
        for k in range(after, used):
            rest[k - after] = rest[k]
            place[k - after] = place[k]
        used -= after
    at = 0
    while at < used:
        point, at = decode(rest, at, used)
        if (classes[point] & SPACE) == 0:
            return int(used)
    return -1


@kernel(
    f"{SPANS_TYPE}({BYTES_TYPE}, int64[::1], {VALID_TYPE}, {CLASSES_TYPE}, float64, float64, int64, int64, "
    f"{PHRASES_TYPE}, {PHRASES_TYPE}, {PHRASES_TYPE}, {PHRASES_TYPE}, int64[::1])"
)
def refinedweb_spans(
    data: Any,
    offsets: Any,
    valid: Any,
    classes: Any,
    max_uppercase: float,
    max_digits: float,
    min_words: int,
    max_phrase_words: int,
    units: Any,
    anywhere: Any,
    at_end: Any,
    at_start: Any,
    first: Any,
) -> Any:
    """What to delete of each text; fills `first` (int64[n + 1]): text i has the spans first[i]:first[i + 1].

    A discarded line goes with its line end; where anything goes, so does the white space then left at the
    ends of the text.
    """
    spans = np.empty((64, 2), np.int64)
    lines = np.empty((16, LINE_COLUMNS), np.int64)
    rest, place = np.empty(256, np.uint8), np.empty(256, np.int64)
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
        for line in range(n_lines):
            start, stop = lines[line, START], lines[line, STOP]
            inner, inner_stop = lines[line, INNER_START], lines[line, INNER_STOP]
            words, chars, upper, digits = measure_line(data, start, stop, classes)
            discard = words < min_words or upper / chars > max_uppercase or digits / chars > max_digits
            left = inner_stop - inner
            if not discard:
                discard = is_counter(data, inner, inner_stop, classes, units)
            if not discard and words <= max_phrase_words:
                short = (
                    next_phrase(data, inner, inner_stop, classes, anywhere, False)[0] < inner_stop
                    or next_phrase(data, inner, inner_stop, classes, at_end, True)[0] < inner_stop
                    or after_any_phrase(data, inner, inner_stop, at_start, False) >= 0
                )
                if short:
                    if left > len(rest):
                        rest, place = np.empty(2 * left, np.uint8), np.empty(2 * left, np.int64)
                    left = rest_of_line(
                        data, inner, inner_stop, classes, anywhere, at_end, at_start, rest, place
                    )
                    discard = left < 0
            spans = with_room(spans, count + 2)
            if discard:
                count = append_span(spans, first[i], count, start, after_line_end(data, stop, end))
            elif left < inner_stop - inner:
                reached = inner
                for k in range(left):
                    if place[k] > reached:
                        spans = with_room(spans, count + 2)
                        count = append_span(spans, first[i], count, reached, place[k])
                    reached = place[k] + 1
                count = append_span(spans, first[i], count, reached, inner_stop)
        if count > first[i]:
            spans = with_room(spans, count + 2)
            count = trim_ends(data, begin, end, classes, spans, first[i], count)
    first[len(valid)] = count
    return spans[:count].copy()
