"""The pass over a batch that fills the counters: all is done to a document while the cache holds it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..kernels import kernel
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
    HASHES,
    LETTERS,
    LINES_AND_PARAGRAPHS,
    LONGEST_WORD,
    PUNCTUATION_MARKS,
    READING,
    SPACES,
    STOP_WORDS,
    TOP_NGRAMS,
    UPPERCASE,
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
from .words import VALID_TYPE, find_spaced_words, find_unicode_words

_GENERATIONS: Final = 16  # at most so many does one document use
_LAST_GENERATION: Final = 2**32 - 1 - _GENERATIONS


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
    f"void({BYTES_TYPE}, {CLASSES_TYPE}, boolean, int64[::1], int64[::1], int64, uint64[::1], "
    "uint64[::1], int64[::1], int64[::1])"
)
def measure_words(
    data: Any,
    classes: Any,
    ascii: bool,
    start: Any,
    stop: Any,
    n_words: int,
    stop_words: Any,
    hashes: Any,
    before: Any,
    counters: Any,
) -> None:
    """Hashes the words and fills `before`: the characters in the words before each; looks for stop words."""
    likely = np.uint64(0)  # one bit for the last six bits of each stop word's hash
    for k in range(len(stop_words)):
        likely |= np.uint64(1) << (stop_words[k] & np.uint64(63))
    seen = np.uint64(0)
    chars, longest, alphabetic = 0, 0, 0
    before[0] = 0
    for word in range(n_words):
        begin, end = start[word], stop[word]
        length = count_characters(data, begin, end, ascii)
        chars += length
        before[word + 1] = chars
        longest = max(longest, length)
        alphabetic += has_letter(data, begin, end, classes)
        key = hash_bytes(data, begin, end)
        hashes[word] = key
        if (likely >> (key & np.uint64(63))) & np.uint64(1):
            for k in range(len(stop_words)):
                if stop_words[k] == key:
                    seen |= np.uint64(1) << np.uint64(k)
    counters[WORDS] = n_words
    counters[WORD_CHARS] = chars
    counters[LONGEST_WORD] = longest
    counters[ALPHABETIC_WORDS] = alphabetic
    while seen:
        counters[STOP_WORDS] += 1
        seen &= seen - np.uint64(1)


@kernel(
    f"void({BYTES_TYPE}, int64[::1], {VALID_TYPE}, {CLASSES_TYPE}, {INTEREST_TYPE}, {PHRASES_TYPE}, int64, "
    "boolean, uint64[::1], uint32[::1], int64, int64, int64, int64[:, ::1])"
)
def measure(
    data: Any,
    offsets: Any,
    valid: Any,
    classes: Any,
    interest: Any,
    phrases: Any,
    wanted: int,
    unicode: bool,
    stop_words: Any,
    bullets: Any,
    short_line: int,
    min_line_words: int,
    max_word: int,
    counters: Any,
) -> None:
    """Fills counters[i] (zeros before) with what is `wanted` of document i; skips null documents."""
    longest = 0
    for i in range(len(valid)):
        longest = max(longest, offsets[i + 1] - offsets[i])
    room = longest // 2 + 2
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
            if unicode:
                n_words = find_unicode_words(data, begin, end, classes, start, stop, 0)
            else:
                n_words = find_spaced_words(data, begin, end, classes, start, stop, 0)
            measure_words(data, classes, ascii, start, stop, n_words, stop_words, hashes, before, row)
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
        if wanted & (TOP_NGRAMS | DUPLICATE_NGRAMS):
            generation = count_ngrams(
                hashes,
                before,
                n_words,
                wanted & TOP_NGRAMS != 0,
                wanted & DUPLICATE_NGRAMS != 0,
                table,
                generation,
                rolling,
                places,
                occurs_again,
                repeats,
                covers,
                row,
            )
