"""Words and pairs of neighbouring words of texts, each as a hash: what a vocabulary is made of."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..kernels import kernel
from .ngrams import BASE
from .words import Words, split_words

VERSION: Final = 1  # changes whenever the words or pairs of some text, or their hashes, do

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]

_FEWEST_SLOTS: Final = 1024


@dataclass(frozen=True)
class WordPairs:
    """The words and pairs of n texts in their order: at each word the word itself, then the pair that it
    begins.

    Equal words or pairs have equal hashes; different ones have with a probability of 2**-64. No hash is 0.
    """

    hash: Uint64s
    text: Int64s  # which text each is of, ascending
    word: Int64s  # number of its first word, over all texts
    size: npt.NDArray[np.int8]  # 1 or 2
    words: Words

    def read(self, which: int) -> str:
        """A word or pair, a single space between its words."""
        first = int(self.word[which])
        spans = range(first, first + int(self.size[which]))
        data = self.words.data
        return " ".join(
            bytes(data[self.words.start[k] : self.words.stop[k]]).decode("utf-8", "replace") for k in spans
        )


def word_pairs(text: pa.Array, sizes: Collection[int], lowercase: bool) -> WordPairs:
    """The words (1 in `sizes`) and pairs (2) of each text of a string array; null has none.

    Words are those of `split_words` of kind `unicode`; a pair does not ask what is between its words. Lower
    case is Arrow's, character by character.
    """
    if lowercase:
        text = pc.utf8_lower(text.cast(pa.string()) if pa.types.is_null(text.type) else text)
    words = split_words(text, "unicode")
    count = len(words.hash)
    owner = np.repeat(np.arange(len(text)), np.diff(words.first))
    hashes = np.empty((count, 2), np.uint64)
    hashes[:, 0] = words.hash
    hashes[:-1, 1] = words.hash[:-1] * BASE + words.hash[1:]
    wanted = np.empty((count, 2), np.bool_)
    wanted[:, 0] = 1 in sizes
    wanted[:-1, 1] = (2 in sizes) & (owner[1:] == owner[:-1])
    wanted[-1:, 1] = False
    place = np.flatnonzero(wanted.ravel())
    chosen = hashes.ravel()[place]
    chosen[chosen == 0] = 1
    word = place // 2
    return WordPairs(chosen, owner[word], word, (place % 2 + 1).astype(np.int8), words)


class HashSet:
    """A set of hashes, none of them 0, that grows: 8 bytes a slot, a quarter to a half of them in use."""

    def __init__(self) -> None:
        self._slots = np.zeros(_FEWEST_SLOTS, np.uint64)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def add(self, hashes: Uint64s) -> None:
        """Puts them in."""
        wanted = 2 * (self._used + len(hashes))
        if wanted > len(self._slots):
            before = self._slots[self._slots != 0]
            self._slots = np.zeros(1 << (wanted - 1).bit_length(), np.uint64)
            _add(self._slots, before)
        self._used += _add(self._slots, hashes)

    def has(self, hashes: Uint64s) -> Bools:
        """Which of them are in."""
        found = np.empty(len(hashes), np.bool_)
        _has(self._slots, hashes, found)
        return found


@kernel("int64(uint64[::1], uint64)")
def _slot(slots: Any, key: Any) -> int:
    """Where `key` is, or where it belongs."""
    mask = np.uint64(len(slots) - 1)
    slot = key & mask
    while slots[slot] != 0 and slots[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)  # type: ignore[return-value]


@kernel("int64(uint64[::1], Array(uint64, 1, 'C', readonly=True))")
def _add(slots: Any, keys: Any) -> int:
    """Puts keys in; returns how many were not there."""
    new = 0
    for key in keys:
        slot = _slot(slots, key)
        new += slots[slot] == 0
        slots[slot] = key
    return new


@kernel("void(uint64[::1], Array(uint64, 1, 'C', readonly=True), boolean[::1])")
def _has(slots: Any, keys: Any, found: Any) -> None:
    for k in range(len(keys)):
        found[k] = slots[_slot(slots, keys[k])] == keys[k]
