"""What reading each line finds: sentences, and the phrases of C4's rules (Raffel et al. 2020, section 2.2).

A line that is not blank holds one sentence, and one more for each place inside it where a sentence ends: one
or more terminals (Unicode property Sentence_Terminal), then any closing brackets or quotation marks, then
white space, then a character that is not a lower-case letter. The full-width terminals of Chinese and
Japanese need no white space. Abbreviations are not known: "Dr. Who" counts as two.

Phrases are found anywhere in a line, the case of ASCII letters aside.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..kernels import kernel
from .characters import BYTES_TYPE, CLASSES_TYPE, CLOSING, LOWER, SPACE, TERMINAL, character_classes, decode
from .counters import (
    C4_SENTENCES,
    C4_SENTENCES_ANY_ENDING,
    ELLIPSES,
    JAVASCRIPT_LINES,
    LOREM_IPSUM,
    POLICY_LINES,
    SENTENCES,
)
from .lines import ENDING, ENDS_ELLIPSIS, ENDS_TERMINAL, INNER_STOP, LINES_TYPE, START, STOP

LOREM: Final = 1
JAVASCRIPT: Final = 2
POLICY: Final = 4

# tensorflow_datasets, text/c4_utils.py: clean_page and _POLICY_SUBSTRINGS.
PHRASES: Final = {
    "lorem ipsum": LOREM,
    "javascript": JAVASCRIPT,
    "terms of use": POLICY,
    "privacy policy": POLICY,
    "cookie policy": POLICY,
    "uses cookies": POLICY,
    "use of cookies": POLICY,
    "use cookies": POLICY,
}

# Columns of the phrase array: kind, length, which of its letters is looked for first, then its letters.
_KIND: Final = 0
_LENGTH: Final = 1
_ANCHOR: Final = 2
_TEXT: Final = 3
_RARE_LETTERS: Final = "jkvfm"  # one is in each phrase; in English text they are rare

_ELLIPSIS: Final = 0x2026
_DOT: Final = 0x2E
_NOTHING: Final = np.uint8(0)
_FULL_WIDTH: Final = (0x3002, 0xFF01, 0xFF0E, 0xFF1F, 0xFF61)

PHRASES_TYPE: Final = "Array(int32, 2, 'C', readonly=True)"
INTEREST_TYPE: Final = "Array(uint8, 2, 'C', readonly=True)"


@functools.cache
def phrase_table() -> npt.NDArray[np.int32]:
    """The phrases as kernels read them: int32[phrases, 3 + longest]."""
    table = np.zeros((len(PHRASES), _TEXT + max(map(len, PHRASES))), np.int32)
    for row, (phrase, kind) in zip(table, PHRASES.items(), strict=True):
        anchor = next(phrase.index(letter) for letter in _RARE_LETTERS if letter in phrase)
        row[:_TEXT] = kind, len(phrase), anchor
        row[_TEXT : _TEXT + len(phrase)] = list(phrase.encode())
    table.flags.writeable = False
    return table


@functools.cache
def interest_table() -> npt.NDArray[np.uint8]:
    """Whether a byte and the next one need a look: uint8[2, 256], `table[0, byte] & table[1, next]`.

    Bit 0: the byte may begin a terminal or an ellipsis. Each other bit: a rare letter of a phrase, and what
    follows it there.
    """
    table = np.zeros((2, 256), np.uint8)
    terminals = np.flatnonzero(character_classes() & TERMINAL)
    table[0, [chr(point).encode()[0] for point in (*terminals.tolist(), _ELLIPSIS)]] = 1
    table[1] = 1
    for row in phrase_table():
        letters = [chr(letter) for letter in row[_TEXT + row[_ANCHOR] :][:2]]
        bit = 2 << _RARE_LETTERS.index(letters[0])
        for side, letter in enumerate(letters):
            table[side, [ord(letter), ord(letter.upper())]] |= bit
    table.flags.writeable = False
    return table


@kernel(f"int64({BYTES_TYPE}, int64, int64, int64, {PHRASES_TYPE})")
def find_phrase(data: Any, at: int, start: int, stop: int, phrases: Any) -> int:
    """The kind of the phrase in data[start:stop] whose rare letter is at `at`; 0 if there is none."""
    for k in range(phrases.shape[0]):
        if phrases[k, _TEXT + phrases[k, _ANCHOR]] != data[at] | 0x20:
            continue
        first = at - phrases[k, _ANCHOR]
        if first < start or first + phrases[k, _LENGTH] > stop:
            continue
        same = 0
        while same < phrases[k, _LENGTH]:
            byte: Any = np.int64(data[first + same])
            if 0x41 <= byte <= 0x5A:
                byte += 0x20
            if byte != phrases[k, _TEXT + same]:
                break
            same += 1
        if same == phrases[k, _LENGTH]:
            return np.int64(phrases[k, _KIND])  # type: ignore[return-value]
    return 0


@kernel(f"UniTuple(int64, 2)({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, int64[::1])")
def pass_terminals(data: Any, at: int, stop: int, classes: Any, counters: Any) -> Any:
    """From a terminal at `at`: 1 if a sentence ends before `stop` and another follows, and where to go on."""
    full_width = False
    dots = 0
    while at < stop:
        point, after = decode(data, at, stop)
        if (classes[point] & TERMINAL) == 0:
            break
        full_width = full_width or point in _FULL_WIDTH
        dots = dots + 1 if point == _DOT else 0
        counters[ELLIPSES] += dots == 3
        if dots == 3:
            dots = 0
        at = after
    while at < stop:
        point, after = decode(data, at, stop)
        if (classes[point] & CLOSING) == 0:
            break
        at = after
    next_word = at
    point = np.int64(0)
    while next_word < stop:
        point, after = decode(data, next_word, stop)
        if (classes[point] & SPACE) == 0:
            break
        next_word = after
    spaced = next_word > at and (classes[point] & LOWER) == 0
    return np.int64(next_word < stop and (full_width or spaced)), at


@kernel(
    f"UniTuple(int64, 2)({BYTES_TYPE}, int64, int64, int64, {CLASSES_TYPE}, {INTEREST_TYPE}, {PHRASES_TYPE}, "
    "int64[::1])",
    forceinline=True,
)
def read_line(
    data: Any,
    start: int,
    stop: int,
    inner_stop: int,
    classes: Any,
    interest: Any,
    phrases: Any,
    counters: Any,
) -> Any:
    """Sentences of a line, and the kinds of the phrases in it; counts ellipses and "lorem ipsum"."""
    sentences, kinds = 1, 0
    at = start
    while at < inner_stop:
        after = data[at + 1] if at + 1 < inner_stop else _NOTHING
        matter = interest[0, data[at]] & interest[1, after]
        if matter == 0:
            at += 1
        elif matter != 1:
            kind = find_phrase(data, at, start, stop, phrases)
            counters[LOREM_IPSUM] += kind == LOREM
            kinds |= kind
            at += 1
        else:
            point, after = decode(data, at, inner_stop)
            if (classes[point] & TERMINAL) != 0:
                ended, at = pass_terminals(data, at, inner_stop, classes, counters)
                sentences += ended
            else:
                counters[ELLIPSES] += point == _ELLIPSIS
                at = after
    return sentences, kinds


@kernel(
    f"void({BYTES_TYPE}, {CLASSES_TYPE}, {INTEREST_TYPE}, {PHRASES_TYPE}, {LINES_TYPE}, int64, "
    "int64[::1], int64[::1], int64, int64, int64, int64[::1])"
)
def read_lines(
    data: Any,
    classes: Any,
    interest: Any,
    phrases: Any,
    lines: Any,
    count: int,
    word_start: Any,
    before: Any,
    n_words: int,
    min_words: int,
    max_word: int,
    counters: Any,
) -> None:
    """Reads all lines of a document; `before` as in ngrams. C4 keeps the lines of at least `min_words` words,
    with no word of more than `max_word` characters, no mention of JavaScript and no policy notice, that end
    in a terminal or a closing quotation mark and not in "..."."""
    word = 0
    for line in range(count):
        start, stop = lines[line, START], lines[line, STOP]
        sentences, kinds = read_line(
            data, start, stop, lines[line, INNER_STOP], classes, interest, phrases, counters
        )
        first, longest = word, 0
        while word < n_words and word_start[word] < stop:
            longest = max(longest, before[word + 1] - before[word])
            word += 1
        counters[SENTENCES] += sentences
        counters[JAVASCRIPT_LINES] += (kinds & JAVASCRIPT) != 0
        counters[POLICY_LINES] += (kinds & POLICY) != 0
        if word - first >= min_words and longest <= max_word and (kinds & (JAVASCRIPT | POLICY)) == 0:
            counters[C4_SENTENCES_ANY_ENDING] += sentences
            ending = lines[line, ENDING]
            if (ending & ENDS_TERMINAL) != 0 and (ending & ENDS_ELLIPSIS) == 0:
                counters[C4_SENTENCES] += sentences
