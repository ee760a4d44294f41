"""What is measured of each line of a batch, in one pass, and what documents have of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..kernels import kernel
from ..signal_options import SignalOptions
from ..signal_spec import SignalSpec
from .buffers import VALID_TYPE, text_buffers
from .characters import BYTES_TYPE, CLASSES_TYPE, SPACE, character_classes, decode
from .measure import find_words, kind_of_words
from .vocabulary import CASES_TYPE, NUMERIC, UPPERCASE, letter_cases
from .words import WordKind, cuts_of, find_cut_words

# Columns of the values of a line.
WORDS: Final = 0
UPPERCASE_SHARE: Final = 1
NUMERIC_SHARE: Final = 2
TERMINAL_MARK: Final = 3
BULLET: Final = 4
JAVASCRIPT: Final = 5
BLANK: Final = 6  # whether it holds nothing but white space
COLUMNS: Final = 7

_LISTS: Final = {
    "line_word_counts": WORDS,
    "line_uppercase_fractions": UPPERCASE_SHARE,
    "line_numeric_fractions": NUMERIC_SHARE,
    "line_terminal_marks": TERMINAL_MARK,
    "line_bullets": BULLET,
    "line_javascript_counts": JAVASCRIPT,
}
_JAVASCRIPT_WORD: Final = np.frombuffer(b"javascript", np.uint8)
_NEWLINE: Final = 0x0A
_QUOTE: Final = 0x201D  # ”

Values = npt.NDArray[np.float64]


@kernel(f"int64({BYTES_TYPE}, int64[::1], {VALID_TYPE}, int64[::1])")
def count_lines(data: Any, offsets: Any, valid: Any, first: Any) -> int:
    """Fills first[i], how many lines are before document i; returns the bytes of the longest document."""
    count, longest = 0, 0
    for i in range(len(valid)):
        first[i] = count
        if valid[i]:
            longest = max(longest, offsets[i + 1] - offsets[i])
            for at in range(offsets[i], offsets[i + 1]):
                count += data[at] == _NEWLINE
            count += offsets[i + 1] > offsets[i] and data[offsets[i + 1] - 1] != _NEWLINE
    first[len(valid)] = count
    return longest


@kernel(f"boolean({BYTES_TYPE}, int64, int64)", forceinline=True)
def _is_javascript(data: Any, start: int, stop: int) -> bool:
    if stop - start != len(_JAVASCRIPT_WORD):
        return False
    same = 0
    while same < len(_JAVASCRIPT_WORD) and data[start + same] == _JAVASCRIPT_WORD[same]:
        same += 1
    return same == len(_JAVASCRIPT_WORD)


@kernel(f"void({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, {CASES_TYPE}, uint32[::1], boolean, float64[::1])")
def measure_line(
    data: Any, begin: int, end: int, classes: Any, cases: Any, bullets: Any, ended: bool, values: Any
) -> None:
    """Fills the values of the line data[begin:end] but its words; `ended`: a line end follows."""
    upper, numeric, chars = 0, 0, 0
    first: Any = np.int64(-1)
    last: Any = np.int64(-1)
    word, javascript = begin, 0
    at = begin
    while at < end:
        point, after = decode(data, at, end)
        upper += (cases[point] & UPPERCASE) != 0
        numeric += (cases[point] & NUMERIC) != 0
        chars += 1
        if (classes[point] & SPACE) != 0:
            javascript += _is_javascript(data, word, at)
            word = after
        else:
            first = point if first < 0 else first
            last = point
        at = after
    javascript += _is_javascript(data, word, end)
    for k in range(len(bullets)):
        values[BULLET] += first == bullets[k]
    values[UPPERCASE_SHARE] = upper / max(chars + ended, 1)
    values[NUMERIC_SHARE] = numeric / max(chars, 1)
    values[TERMINAL_MARK] = last == 0x2E or last == 0x21 or last == 0x3F or last == _QUOTE
    values[JAVASCRIPT] = javascript
    values[BLANK] = first < 0


@kernel(
    f"void({BYTES_TYPE}, int64[::1], {VALID_TYPE}, {CLASSES_TYPE}, {CASES_TYPE}, uint32[::1], int64, "
    "int64[::1], int64[::1], int64, int64[::1], float64[:, ::1])"
)
def measure_all_lines(
    data: Any,
    offsets: Any,
    valid: Any,
    classes: Any,
    cases: Any,
    bullets: Any,
    kind: int,
    first_cut: Any,
    cuts: Any,
    longest: int,
    first: Any,
    values: Any,
) -> None:
    """Fills the values (zeros before) of all lines, of which first[i] are before document i.

    `kind` is of the words, negative to leave them out; `cuts` are as in words.Cuts.
    """
    room = longest + 2 if kind >= 0 else 1
    start, stop = np.empty(room, np.int64), np.empty(room, np.int64)
    line = 0
    for i in range(len(valid)):
        if not valid[i]:
            continue
        begin, end = offsets[i], offsets[i + 1]
        cut, last_cut = first_cut[i], first_cut[i + 1]
        while begin < end:
            at = begin
            while at < end and data[at] != _NEWLINE:
                at += 1
            measure_line(data, begin, at, classes, cases, bullets, at < end, values[line])
            while cut < last_cut and cuts[cut] <= begin:
                cut += 1
            if kind >= 0 and cut < last_cut:
                values[line, WORDS] = find_cut_words(
                    data, begin, at, classes, cuts, cut, last_cut, start, stop, 0
                )
            elif kind >= 0:
                values[line, WORDS] = find_words(kind, data, begin, at, classes, start, stop)
            line += 1
            begin = at + 1
        while line < first[i + 1]:
            values[line, BLANK] = 1
            line += 1


def measure_lines(
    text: pa.Array, requests: Sequence[tuple[str, SignalSpec]], options: SignalOptions
) -> dict[str, pa.Array]:
    """The signals of the family `lines` under the names that are asked for."""
    buffers = text_buffers(text)
    first = np.empty(len(buffers) + 1, np.int64)
    longest = count_lines(buffers.data, buffers.offsets, buffers.valid, first)
    if options.normalize == "redpajama":
        from .redpajama_text import normalize

        # A last line without a line end may lose all of its characters; it is a line nevertheless.
        buffers = text_buffers(normalize(text))
        longest = int(np.diff(buffers.offsets).max(initial=0))
    values = np.zeros((int(first[-1]), COLUMNS), np.float64)
    cuts = cuts_of(buffers, cast("WordKind", options.words))
    counts_words = any("words" in spec.options for _, spec in requests)
    measure_all_lines(
        buffers.data,
        buffers.offsets,
        buffers.valid,
        character_classes(),
        letter_cases(),
        np.array(sorted(set(map(ord, options.bullets))), np.uint32),
        kind_of_words(options.words) if counts_words else -1,
        cuts.first,
        cuts.at,
        longest,
        first,
        values,
    )
    null = None if buffers.valid.all() else pa.array(~buffers.valid)
    found = {}
    for name, spec in requests:
        if spec.name in _LISTS:
            column = pa.array(np.ascontiguousarray(values[:, _LISTS[spec.name]]))
            found[name] = pa.ListArray.from_arrays(pa.array(first.astype(np.int32)), column, mask=null)
        else:
            mean = _mean_of_lines(values, first, _counted(values, spec.name, options))
            found[name] = pa.array(mean, pa.float64(), mask=None if null is None else ~buffers.valid)
    return found


def _counted(values: Values, signal: str, options: SignalOptions) -> Values:
    """What of each line the mean of a document is taken of."""
    if signal == "mean_line_word_count":
        return values[:, WORDS]
    if signal == "few_word_line_fraction":
        return (values[:, WORDS] <= options.few_words).astype(np.float64)
    if signal == "mean_line_uppercase_fraction":
        return values[:, UPPERCASE_SHARE]
    if signal == "uppercase_line_fraction":
        return (values[:, UPPERCASE_SHARE] > options.uppercase_line).astype(np.float64)
    if signal == "mean_line_numeric_fraction":
        return values[:, NUMERIC_SHARE]
    return (values[:, NUMERIC_SHARE] > options.numeric_line).astype(np.float64)


def _mean_of_lines(values: Values, first: npt.NDArray[np.int64], counted: Values) -> Values:
    filled = values[:, BLANK] == 0
    document = np.repeat(np.arange(len(first) - 1), np.diff(first))[filled]
    total = np.bincount(document, counted[filled], len(first) - 1)
    lines = np.bincount(document, minlength=len(first) - 1)
    return np.asarray(total / np.maximum(lines, 1))
