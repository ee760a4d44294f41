"""The pass over a batch that fills the counters: all is done to a document while the cache holds it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..kernels import kernel
from .buffers import VALID_TYPE
from .characters import (
    BYTES_TYPE,
    CLASSES_TYPE,
    DIGIT,
    LETTER,
    PUNCTUATION,
    SPACE,
    UPPER,
    decode,
)
from .counters import (
    ALPHABETIC_WORDS,
    BYTES,
    CHARS,
    CURLY_BRACKETS,
    DIGITS,
    DUPLICATE_NGRAMS,
    ELLIPSES,
    HASHES,
    LETTERS,
    LINES_AND_PARAGRAPHS,
    LONGEST_WORD,
    PUNCTUATED,
    PUNCTUATION_MARKS,
    READING,
    SPACED_CHARS,
    SPACES,
    STOP_LIST,
    SYMBOLS,
    TOP_NGRAMS,
    UPPERCASE,
    VOCABULARY,
    WORD_CASES,
    WORD_CHARS,
    WORD_SHAPES,
    WORDS,
)
from .hashing import count_characters, hash_bytes
from .lines import (
    LINE_COLUMNS,
    classify_lines,
    count_duplicate_lines,
    count_line_ends,
    find_lines,
)
from .ngrams import count_ngrams
from .sentences import INTEREST_TYPE, PHRASES_TYPE, read_lines
from .tables import slots_for
from .vocabulary import (
    CASES_TYPE,
    count_cases,
    count_punctuated_sentences,
    count_stop_words,
    count_vocabulary,
    find_punctuated_words,
)
from .words import find_cut_words, find_spaced_words, find_unicode_words

# The kinds of words, as the kernels are told.
SPACED: Final = 0  # `whitespace`
UNICODE: Final = 1  # `unicode`
WORDPUNCT: Final = 2  # `wordpunct`

_KINDS: Final = {"whitespace": SPACED, "unicode": UNICODE, "segmented": UNICODE, "wordpunct": WORDPUNCT}
_GENERATIONS: Final = 16  # at most so many does one document use
_LAST_GENERATION: Final = 2**32 - 1 - _GENERATIONS


def kind_of_words(name: str) -> int:
    """The number of a kind of words. Raises ValueError for a kind that is not measured."""
    if name not in _KINDS:
        raise ValueError(f"words: {name!r} is not one of {', '.join(_KINDS)}")
    return _KINDS[name]


@kernel(f"boolean({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, int64[::1], int64[::1])")
def count_classes(data: Any, begin: int, end: int, classes: Any, histogram: Any, counters: Any) -> bool:
    """Counts characters by class; returns whether all are ASCII. `histogram` is room for 128 numbers."""
    histogram[:] = 0
    beyond = 0
    at = begin
    while at < end:
        if data[at] < 0x80:
            histogram[data[at]] += 1
            at += 1
            continue
        point, at = decode(data, at, end)
        kind = classes[point]
        beyond += 1
        counters[LETTERS] += (kind & LETTER) != 0
        counters[DIGITS] += (kind & DIGIT) != 0
        counters[UPPERCASE] += (kind & UPPER) != 0
        counters[SPACES] += (kind & SPACE) != 0
        counters[PUNCTUATION_MARKS] += (kind & PUNCTUATION) != 0
    counters[CHARS] = beyond
    for byte in range(128):
        kind, n = classes[byte], histogram[byte]
        counters[CHARS] += n
        counters[LETTERS] += n * ((kind & LETTER) != 0)
        counters[DIGITS] += n * ((kind & DIGIT) != 0)
        counters[UPPERCASE] += n * ((kind & UPPER) != 0)
        counters[SPACES] += n * ((kind & SPACE) != 0)
        counters[PUNCTUATION_MARKS] += n * ((kind & PUNCTUATION) != 0)
    counters[HASHES] = histogram[0x23]
    counters[CURLY_BRACKETS] = histogram[0x7B] + histogram[0x7D]
    return beyond == 0


@kernel(f"boolean({BYTES_TYPE}, int64, int64, {CLASSES_TYPE})", forceinline=True)
def has_letter(data: Any, start: int, stop: int, classes: Any) -> bool:
    """Whether a character of data[start:stop] is a letter."""
    at = start
    while at < stop:
        point: Any = np.int64(data[at])
        at += 1
        if point >= 0x80:
            point, at = decode(data, at - 1, stop)
        if (classes[point] & LETTER) != 0:
            return True
    return False


@kernel(
    f"void({BYTES_TYPE}, {CLASSES_TYPE}, boolean, int64[::1], int64[::1], int64, uint64[::1], int64[::1], "
    "int64[::1])"
)
def measure_words(
    data: Any,
    classes: Any,
    ascii: bool,
    start: Any,
    stop: Any,
    n_words: int,
    hashes: Any,
    before: Any,
    counters: Any,
) -> None:
    """Hashes the words and fills `before`: the characters in the words before each."""
    chars, longest, alphabetic = 0, 0, 0
    before[0] = 0
    for word in range(n_words):
        begin, end = start[word], stop[word]
        length = count_characters(data, begin, end, ascii)
        chars += length
        before[word + 1] = chars
        longest = max(longest, length)
        alphabetic += has_letter(data, begin, end, classes)
        hashes[word] = hash_bytes(data, begin, end)
    counters[WORDS] = n_words
    counters[WORD_CHARS] = chars
    counters[SPACED_CHARS] = chars + max(n_words - 1, 0)
    counters[LONGEST_WORD] = longest
    counters[ALPHABETIC_WORDS] = alphabetic


@kernel(f"int64(int64, {BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, int64[::1], int64[::1])")
def find_words(kind: int, data: Any, begin: int, end: int, classes: Any, start: Any, stop: Any) -> int:
    """Writes where the words of data[begin:end] are, and returns how many there are."""
    if kind == UNICODE:
        return find_unicode_words(data, begin, end, classes, start, stop, 0)
    if kind == WORDPUNCT:
        return find_punctuated_words(data, begin, end, classes, start, stop, 0)
    return find_spaced_words(data, begin, end, classes, start, stop, 0)


@kernel(
    f"void({BYTES_TYPE}, int64[::1], {VALID_TYPE}, {CLASSES_TYPE}, {CASES_TYPE}, {INTEREST_TYPE}, "
    f"{PHRASES_TYPE}, int64, int64, int64[::1], int64[::1], boolean, uint64[::1], int64[:, ::1], "
    "uint32[::1], int64, int64, int64, int64[:, ::1], float64[::1])"
)
def measure(
    data: Any,
    offsets: Any,
    valid: Any,
    classes: Any,
    cases: Any,
    interest: Any,
    phrases: Any,
    wanted: int,
    kind: int,
    first_cut: Any,
    cuts: Any,
    redpajama_ngrams: bool,
    stop_words: Any,
    stop_lists: Any,
    bullets: Any,
    short_line: int,
    min_line_words: int,
    max_word: int,
    counters: Any,
    entropies: Any,
) -> None:
    """Fills counters[i] (zeros before) with what is `wanted` of document i, and entropies[i] with that of its
    words; skips null documents. `kind` is of the words, `cuts` are as in words.Cuts;
    stop_words[stop_lists[i, 0]:stop_lists[i, 1]] is the table of the stop words of document i."""
    longest = 0
    for i in range(len(valid)):
        longest = max(longest, offsets[i + 1] - offsets[i])
    room = longest + 2 if kind == WORDPUNCT or len(cuts) > 0 else longest // 2 + 2
    seen_stop_words = np.full(len(stop_words), -1, np.int64)
    start, stop = np.empty(room, np.int64), np.empty(room, np.int64)
    hashes, rolling = np.empty(room, np.uint64), np.empty(room, np.uint64)
    before, places = np.empty(room, np.int64), np.empty(room, np.int64)
    occurs_again, repeats = np.empty(room, np.int8), np.empty(room, np.int8)
    covers = np.empty((room, 3), np.int64)
    histogram = np.empty(128, np.int64)
    lines = np.empty((16, LINE_COLUMNS), np.int64)
    table = np.zeros((64, 2), np.uint64)
    generation = 0
    for i in range(len(valid)):
        if not valid[i]:
            continue
        begin, end, row = offsets[i], offsets[i + 1], counters[i]
        row[BYTES] = end - begin
        ascii = count_classes(data, begin, end, classes, histogram, row)
        n_words = 0
        if wanted & WORD_SHAPES:
            if first_cut[i] < first_cut[i + 1]:
                n_words = find_cut_words(
                    data, begin, end, classes, cuts, first_cut[i], first_cut[i + 1], start, stop, 0
                )
            else:
                n_words = find_words(kind, data, begin, end, classes, start, stop)
            measure_words(data, classes, ascii, start, stop, n_words, hashes, before, row)
        if wanted & STOP_LIST:
            first, last = stop_lists[i]
            count_stop_words(hashes, n_words, stop_words[first:last], seen_stop_words[first:last], i, row)
        if wanted & WORD_CASES:
            count_cases(data, cases, start, stop, n_words, row)
        if wanted & PUNCTUATED:
            count_punctuated_sentences(data, begin, end, classes, row)
        n_lines = 0
        if wanted & LINES_AND_PARAGRAPHS:
            n_lines = count_line_ends(data, begin, end) + 1
            if n_lines > lines.shape[0]:
                lines = np.empty((2 * n_lines, LINE_COLUMNS), np.int64)
        slots = slots_for(max(n_words, n_lines))
        if slots > table.shape[0] or generation > _LAST_GENERATION:
            table, generation = np.zeros((max(slots, table.shape[0]), 2), np.uint64), 0
        if wanted & LINES_AND_PARAGRAPHS:
            n_lines = find_lines(data, begin, end, classes, lines, row)
            classify_lines(data, classes, lines, n_lines, bullets, row)
            generation = count_duplicate_lines(
                data, lines, n_lines, ascii, short_line, table, generation + 1, row
            )
        if wanted & READING:
            read_lines(
                data,
                classes,
                interest,
                phrases,
                lines,
                n_lines,
                start,
                before,
                n_words,
                min_line_words,
                max_word,
                row,
            )
            row[SYMBOLS] = row[HASHES] + row[ELLIPSES]
        if wanted & VOCABULARY:
            generation += 1
            entropies[i] = count_vocabulary(hashes, n_words, table, generation, places, row)
        if wanted & (TOP_NGRAMS | DUPLICATE_NGRAMS):
            generation = count_ngrams(
                hashes,
                before,
                n_words,
                wanted & TOP_NGRAMS != 0,
                wanted & DUPLICATE_NGRAMS != 0,
                redpajama_ngrams,
                table,
                generation,
                rolling,
                places,
                occurs_again,
                repeats,
                covers,
                row,
            )
