"""Repeated n-grams of words (Rae et al. 2021, arXiv:2112.11446, table A1), for n from 2 to 10 in one go.

The n-gram at word i is the words i to i + n - 1; it *repeats* if the same words began at an earlier i.

- top n-gram: the one with the most occurrences, at least two, and among those the one whose occurrences cover
  the most characters;
- duplicate n-grams: every occurrence that repeats. So what is said first counts as original;
- the characters of an n-gram are those of its words, without what is between them, and a character inside
  several overlapping occurrences counts once, as the paper asks for.

RedPajama-V2 (github.com/togethercomputer/RedPajama-Data, quality_signals/repetitions.py) counts otherwise:

- top n-gram: among those with the most occurrences the one that is first in the text, and its characters
  times its occurrences, so that overlapping ones can make a share above 1;
- duplicate n-grams: every occurrence of an n-gram that occurs more than once, the first one too.

N-grams are compared by a 64-bit hash, a polynomial in the hashes of their words. Two different n-grams of a
document of m words are taken as equal with a probability of about m**2 / 2**65, which no signal would show.

An n-gram that occurs twice contains two (n-1)-grams that do, so each n looks only at places that are left.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..kernels import kernel
from .counters import DUPLICATE_5GRAM_CHARS, TOP_2GRAM_CHARS
from .tables import TABLE_TYPE, find_or_insert, slots_for

BASE: Final = np.uint64(0x9E3779B97F4A7C15)  # odd; 2**64 over the golden ratio
_FIRST_DUPLICATE: Final = 5
_LAST: Final = 10
_LAST_TOP: Final = 4

_INTS: Final = "int64[::1]"


@kernel(
    f"int64(int64, int64, {_INTS}, uint64[::1], {_INTS}, {TABLE_TYPE}, int64, int8[::1], int64[:, ::1], "
    "boolean)"
)
def _top_ngram(
    n: int,
    left: int,
    places: Any,
    rolling: Any,
    before: Any,
    table: Any,
    generation: int,
    occurs_again: Any,
    covers: Any,
    redpajama: bool,
) -> int:
    """Characters of the top n-gram; marks the places whose n-gram occurs more than once."""
    slots = slots_for(left)
    most, best, top = 1, 0, 0
    for k in range(left):
        i = places[k]
        first = find_or_insert(table, slots, generation, rolling[i], i)
        if first < 0:
            continue
        occurs_again[i] = n
        if occurs_again[first] != n:
            occurs_again[first] = n
            covers[first, 0] = 1
            covers[first, 1] = before[first + n] - before[first]
            covers[first, 2] = first + n
        covers[first, 0] += 1
        covers[first, 1] += before[i + n] - before[max(i, covers[first, 2])]
        covers[first, 2] = i + n
        if redpajama:
            if covers[first, 0] > most or (covers[first, 0] == most and first < top):
                most, top = covers[first, 0], first
                best = most * (before[first + n] - before[first])
        elif covers[first, 0] > most or (covers[first, 0] == most and covers[first, 1] > best):
            most, best = covers[first, 0], covers[first, 1]
    return best


@kernel(f"void(int64, int64, {_INTS}, uint64[::1], {TABLE_TYPE}, int64, int8[::1], int8[::1])")
def _mark_repeats(
    n: int,
    left: int,
    places: Any,
    rolling: Any,
    table: Any,
    generation: int,
    occurs_again: Any,
    repeats: Any,
) -> None:
    slots = slots_for(left)
    for k in range(left):
        i = places[k]
        first = find_or_insert(table, slots, generation, rolling[i], i)
        if first >= 0:
            occurs_again[first] = n
            occurs_again[i] = n
            repeats[i] = n


@kernel(f"int64(int64, int64, {_INTS}, uint64[::1], uint64[::1], int64, int8[::1])")
def _places_of_longer(
    n: int, left: int, places: Any, rolling: Any, words: Any, n_words: int, occurs_again: Any
) -> int:
    """Keeps the places where an n-gram that occurs more than once can grow by a word, and grows its hash."""
    kept = 0
    for k in range(left):
        i = places[k]
        if i + n < n_words and occurs_again[i] == n and occurs_again[i + 1] == n:
            rolling[i] = rolling[i] * BASE + words[i + n]
            places[kept] = i
            kept += 1
    return kept


@kernel(f"void(int64, {_INTS}, int8[::1], {_INTS}, {_INTS})")
def _cover_duplicates(n_words: int, before: Any, repeats: Any, places: Any, counters: Any) -> None:
    found = 0
    for i in range(n_words):
        places[found] = i
        found += repeats[i] > 0
    for n in range(_FIRST_DUPLICATE, _LAST + 1):
        covered, end = 0, 0
        for k in range(found):
            i = places[k]
            if repeats[i] >= n:
                covered += before[i + n] - before[max(i, end)]
                end = i + n
        counters[DUPLICATE_5GRAM_CHARS + n - _FIRST_DUPLICATE] = covered


@kernel(
    f"int64(uint64[::1], {_INTS}, int64, boolean, boolean, boolean, {TABLE_TYPE}, int64, "
    f"uint64[::1], {_INTS}, int8[::1], int8[::1], int64[:, ::1], {_INTS})"
)
def count_ngrams(
    words: Any,
    before: Any,
    n_words: int,
    want_top: bool,
    want_duplicates: bool,
    redpajama: bool,
    table: Any,
    generation: int,
    rolling: Any,
    places: Any,
    occurs_again: Any,
    repeats: Any,
    covers: Any,
    counters: Any,
) -> int:
    """Writes the n-gram counters of one document; returns the last generation of `table` that it used.

    words: hashes. before[i]: characters in the words before i. `redpajama`: as RedPajama-V2 counts. The table
    has slots_for(n_words) slots. The other arrays are room for n_words each (`covers` has three columns).
    """
    n = 2 if want_top else _FIRST_DUPLICATE
    last = _LAST if want_duplicates else _LAST_TOP
    left = max(n_words - n + 1, 0)
    for i in range(n_words):
        occurs_again[i] = 0
        repeats[i] = 0
    for i in range(left):
        places[i] = i
        rolling[i] = words[i]
        for k in range(1, n):
            rolling[i] = rolling[i] * BASE + words[i + k]
    while n <= last and left > 0:
        generation += 1
        if n <= _LAST_TOP:
            top = _top_ngram(
                n, left, places, rolling, before, table, generation, occurs_again, covers, redpajama
            )
            counters[TOP_2GRAM_CHARS + n - 2] = top
        else:
            _mark_repeats(n, left, places, rolling, table, generation, occurs_again, repeats)
        left = _places_of_longer(n, left, places, rolling, words, n_words, occurs_again)
        n += 1
    if want_duplicates:
        # Longer n-grams come last, so that a place holds the longest that occurs again from there on.
        _cover_duplicates(n_words, before, occurs_again if redpajama else repeats, places, counters)
    return generation
