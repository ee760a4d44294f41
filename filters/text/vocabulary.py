"""What the words of a document are: how many different ones, in which case, which of them are on a list.

Also the words of NLTK's WordPunctTokenizer, which RedPajama-V2 counts where it does not normalise the text.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..kernels import kernel
from .characters import BYTES_TYPE, CLASSES_TYPE, MARK, SPACE, WORD, decode
from .counters import (
    ALL_CAPS_WORDS,
    DISTINCT_WORDS,
    LOREM_IPSUM_WORDS,
    PUNCTUATED_SENTENCES,
    STOP_WORD_OCCURRENCES,
    STOP_WORDS,
    WORDS_WITHOUT_ASCII_LETTER,
)
from .tables import TABLE_TYPE, find_or_insert, slots_for

# The bits of a case: what Python's methods of str say of a single character.
UPPERCASE: Final = 1  # isupper
OTHER_CASE: Final = 2  # islower, or a title-case letter
NUMERIC: Final = 4  # isnumeric
ALPHANUMERIC: Final = 8  # isalnum

CASES_TYPE: Final = "Array(uint8, 1, 'C', readonly=True)"

_LOREM: Final = np.frombuffer(b"lorem", np.uint8)
_IPSUM: Final = np.frombuffer(b"ipsum", np.uint8)
_NO_KEY: Final = np.uint64(0)


@functools.cache
def letter_cases() -> npt.NDArray[np.uint8]:
    """The case of each code point: uint8[0x110000], read-only, made on first use."""
    table = np.zeros(0x110000, np.uint8)
    characters = list(map(chr, range(len(table))))
    for bit, method in ((UPPERCASE, str.isupper), (NUMERIC, str.isnumeric), (ALPHANUMERIC, str.isalnum)):
        table |= bit * np.fromiter(map(method, characters), np.uint8, len(table))
    cased = np.fromiter(map(str.islower, characters), np.bool_, len(table))
    cased |= np.fromiter(map(str.istitle, characters), np.bool_, len(table))
    table[cased & ((table & UPPERCASE) == 0)] |= OTHER_CASE
    table.flags.writeable = False
    return table


def stop_table(words: tuple[str, ...]) -> npt.NDArray[np.uint64]:
    """A hash table of words as kernels read it: a power of two of hashes, at least 7 of 8 slots empty (0)."""
    from .hashing import hash_bytes

    keys = [hash_bytes(np.frombuffer(word.encode(), np.uint8), 0, len(word.encode())) for word in words]
    slots = 64
    while slots < 8 * len(keys):
        slots *= 2
    table = np.zeros(slots, np.uint64)
    for key in sorted(set(map(int, keys))):
        slot = key % slots
        while table[slot]:
            slot = (slot + 1) % slots
        table[slot] = key
    return table


@kernel("int64(uint64, uint64[::1])", forceinline=True)
def stop_slot(key: Any, table: Any) -> int:
    """Where `key` is in a table of stop words; -1 if it is not there."""
    mask = np.uint64(len(table) - 1)
    slot = key & mask
    while table[slot] != _NO_KEY:
        if table[slot] == key:
            return np.int64(slot)  # type: ignore[return-value]
        slot = (slot + np.uint64(1)) & mask
    return -1


@kernel("void(uint64[::1], int64, uint64[::1], int64[::1], int64, int64[::1])")
def count_stop_words(hashes: Any, n_words: int, table: Any, seen: Any, document: int, counters: Any) -> None:
    """Counts stop words; `seen` has a place for each slot of their table, and no `document` in it before."""
    different, occurrences = 0, 0
    for word in range(n_words):
        slot = stop_slot(hashes[word], table)
        if slot >= 0:
            occurrences += 1
            different += seen[slot] != document
            seen[slot] = document
    counters[STOP_WORDS] = different
    counters[STOP_WORD_OCCURRENCES] = occurrences


@kernel(f"float64(uint64[::1], int64, {TABLE_TYPE}, int64, int64[::1], int64[::1])")
def count_vocabulary(
    hashes: Any, n_words: int, table: Any, generation: int, occurrences: Any, counters: Any
) -> float:
    """Counts different words; returns the entropy of their frequencies, in nats.

    The table has slots_for(n_words) slots; `occurrences` is room for n_words.
    """
    slots = slots_for(n_words)
    different, entropy = 0, 0.0
    for word in range(n_words):
        first = find_or_insert(table, slots, generation, hashes[word], word)
        if first < 0:
            occurrences[word] = 1
            different += 1
        else:
            occurrences[word] = 0
            occurrences[first] += 1
    for word in range(n_words):
        if occurrences[word] > 0:
            share = occurrences[word] / n_words
            entropy -= share * math.log(share)
    counters[DISTINCT_WORDS] = different
    return entropy


@kernel(f"boolean({BYTES_TYPE}, int64, Array(uint8, 1, 'C', readonly=True))", forceinline=True)
def _reads(data: Any, at: int, letters: Any) -> bool:
    """Whether data reads as `letters` (small ASCII letters) from `at` on, the case aside."""
    same = 0
    while same < len(letters) and data[at + same] | 0x20 == letters[same]:
        same += 1
    return same == len(letters)


@kernel(f"void({BYTES_TYPE}, {CASES_TYPE}, int64[::1], int64[::1], int64, int64[::1])")
def count_cases(data: Any, cases: Any, start: Any, stop: Any, n_words: int, counters: Any) -> None:
    """Counts words by the case of their letters, and "lorem ipsum" across the gap between two words."""
    after_lorem = False
    for word in range(n_words):
        at, end = start[word], stop[word]
        upper, other, ascii_letter = False, False, False
        if after_lorem and end - at >= 5 and _reads(data, at, _IPSUM):
            counters[LOREM_IPSUM_WORDS] += 1
        after_lorem = end - at >= 5 and _reads(data, end - 5, _LOREM)
        while at < end:
            point: Any = np.int64(data[at])
            at += 1
            if point >= 0x80:
                point, at = decode(data, at - 1, end)
            else:
                ascii_letter = ascii_letter or 0x61 <= (point | 0x20) <= 0x7A
            upper = upper or (cases[point] & UPPERCASE) != 0
            other = other or (cases[point] & OTHER_CASE) != 0
        counters[ALL_CAPS_WORDS] += upper and not other
        counters[WORDS_WITHOUT_ASCII_LETTER] += not ascii_letter


@kernel(f"void({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, int64[::1])")
def count_punctuated_sentences(data: Any, begin: int, end: int, classes: Any, counters: Any) -> None:
    """Counts what the expression `\\b[^.!?]+[.!?]*` finds one after the other."""
    inside, ending = False, False
    count, at = 0, begin
    while at < end:
        point, at = decode(data, at, end)
        mark = point == 0x2E or point == 0x21 or point == 0x3F
        if inside and ending and not mark:
            inside = False
        ending = mark
        if not inside and (classes[point] & (WORD | MARK)) == WORD:
            inside = True
            count += 1
    counters[PUNCTUATED_SENTENCES] = count


@kernel(f"int64({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, int64[::1], int64[::1], int64)")
def find_punctuated_words(
    data: Any, begin: int, end: int, classes: Any, start: Any, stop: Any, count: int
) -> int:
    """Appends the words of data[begin:end] as NLTK's WordPunctTokenizer finds them; returns how many there
    are now: maximal runs of letters, numbers and underscores, and of other characters but white space."""
    before: Any = np.int64(0)
    at = begin
    while at < end:
        point, after = decode(data, at, end)
        kind: Any = np.int64(0)
        if (classes[point] & SPACE) == 0:
            kind = np.int64(1) if (classes[point] & (WORD | MARK)) == WORD else np.int64(2)
        if kind != before:
            if before != 0:
                stop[count] = at
                count += 1
            start[count] = at
        before = kind
        at = after
    if before != 0:
        stop[count] = end
        count += 1
    return count
