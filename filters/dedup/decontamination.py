"""N-grams of evaluation sets: an index of them, and where they occur in texts.

An n-gram is found by 64 bits of a hash and then compared word by word, so that nothing is found that is not
there. Memory: for each word of the evaluation sets about 30 bytes, in a file that the processes of a machine
map and share, and about 190 while it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..kernels import kernel
from ..text.buffers import text_buffers
from ..text.characters import BYTES_TYPE
from .clusters import mix
from .exact import row_slices
from .normal_words import Normalization, NormalWords, normal_words

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]

VERSION: Final = 1  # changes whenever what is found in some text does

_BASE: Final = np.uint64(0x9E3779B97F4A7C15)  # odd; 2**64 over the golden ratio
_BITS: Final = 16  # bits of the bitmap for each n-gram, at least
_PIECE: Final = 1 << 20  # bytes of text that are searched at once: what is made of them stays in the cache

_INTS: Final = "Array(int64, 1, 'C', readonly=True)"
_HASHES: Final = "Array(uint64, 1, 'C', readonly=True)"


@dataclass(frozen=True)
class Selection:
    """Which n-grams of an item are looked for.

    `size`: words of an n-gram. `query`: also those of its query alone; `overlap`: also those that begin in
    the query and end behind it. `shortest`: an item of at least so many words, but fewer than `size`, is one
    n-gram; None: such items are not looked for.
    """

    size: int
    query: bool = True
    overlap: bool = True
    shortest: int | None = None


@dataclass(frozen=True)
class Index:
    """The n-grams to look for, sorted by size and hash; n-gram g begins at word place[g] of the items."""

    sizes: Int64s  # of n-grams, descending
    first: Int64s  # [sizes + 1]: n-grams first[k]:first[k + 1] have sizes[k] words
    key: Uint64s  # hash of an n-gram; ascending within a size
    place: Int64s  # where its first occurrence begins
    bitmap: Uint64s  # bit key >> (64 - b) of these 2**b is set for the key of every n-gram
    edge: Int64s  # [words + 1]: word w is data[edge[w]:edge[w + 1]]
    data: Bytes
    item: Int64s  # [items + 1]: the words item[i]:item[i + 1] are of item i
    number: Int64s  # [items]: of the item in its set
    set_: Int64s  # [items]: number of its set

    def __len__(self) -> int:
        return len(self.key)

    def size_of(self, ngrams: Int64s) -> Int64s:
        """The words of each n-gram."""
        return self.sizes[np.searchsorted(self.first, ngrams, "right") - 1]

    def origin(self, ngram: int) -> tuple[int, int]:
        """The set, and the number in it, of the first item that has the n-gram."""
        item = int(np.searchsorted(self.item, self.place[ngram], "right")) - 1
        return int(self.set_[item]), int(self.number[item])

    def batch(self) -> pa.RecordBatch:
        """The index as one row, whose columns can be mapped into memory."""
        columns = [pa.array(getattr(self, field.name)) for field in fields(self)]
        lists = [
            pa.LargeListArray.from_arrays(pa.array([0, len(column)], pa.int64()), column)
            for column in columns
        ]
        return pa.RecordBatch.from_arrays(lists, names=[field.name for field in fields(self)])

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Index:
        """The index that `batch` gave."""
        return cls(**{name: batch.column(name).values.to_numpy() for name in batch.schema.names})


def read_index(path: str | Path) -> Index:
    """The index in an Arrow file, mapped into memory."""
    with pa.ipc.open_file(pa.memory_map(str(path))) as file:
        return Index.of(file.get_batch(0))


def build_index(
    items: Iterable[tuple[pa.Array, pa.Array]],
    sets: Sequence[int],
    numbers: Sequence[int],
    how: Normalization,
    selection: Selection,
) -> Index:
    """The index of items, given as batches of (query, text), both strings or null.

    `sets` and `numbers` say of each item where it comes from.
    """
    words: list[NormalWords] = []
    lengths, queries = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for query, text in items:
        # A query and its text are two texts of one batch, so that their words follow one another.
        both = pa.chunked_array([query, text]).combine_chunks()
        rows = np.arange(len(both)).reshape(2, -1).T.reshape(-1)
        found = normal_words(both.take(pa.array(rows)), how)
        counts = np.diff(found.first).reshape(-1, 2)
        words.append(found)
        lengths.append(counts.sum(axis=1))
        queries.append(counts[:, 0])
    item = np.cumsum(np.concatenate([[0], *lengths])).astype(np.int64)
    hashes = np.concatenate([np.zeros(0, np.uint64), *(some.hash for some in words)])
    data = np.concatenate([np.zeros(0, np.uint8), *(some.data for some in words)])
    edge = np.cumsum(np.concatenate([[0], *(np.diff(some.edge) for some in words)])).astype(np.int64)
    places = dict(_places(item, item[:-1] + np.concatenate(queries), selection))
    sizes, keys, kept = [], [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for size in sorted(places, reverse=True):
        key, place = _distinct(places[size], size, hashes, edge, data)
        if len(key):
            sizes.append(size)
            keys.append(key)
            kept.append(place)
    key = np.concatenate(keys)
    return Index(
        np.array(sizes, np.int64),
        np.cumsum([0, *map(len, keys[1:])]).astype(np.int64),
        key,
        np.concatenate(kept),
        _bitmap(key),
        edge,
        data,
        item,
        np.array(numbers, np.int64),
        np.array(sets, np.int64),
    )


def _places(item: Int64s, text: Int64s, selection: Selection) -> Iterable[tuple[int, Int64s]]:
    """By size, where an n-gram to look for begins; `text` is where an item's query ends."""
    size = selection.size
    words = np.diff(item)
    of = np.repeat(np.arange(len(words)), words)
    start = np.arange(len(of))
    last = start + size
    in_query, behind = last <= text[of], start >= text[of]
    wanted = (last <= item[of + 1]) & _wanted(in_query, behind, selection)
    yield size, start[wanted]
    if selection.shortest is None:
        return
    whole = (words >= selection.shortest) & (words < size)
    whole &= _wanted(text >= item[1:], text <= item[:-1], selection)
    for shorter in np.unique(words[whole]).tolist():
        yield int(shorter), item[:-1][whole & (words == shorter)]


def _wanted(in_query: Bools, behind: Bools, selection: Selection) -> Bools:
    between = ~in_query & ~behind
    return behind | (in_query & selection.query) | (between & selection.overlap)


def _distinct(
    places: Int64s, size: int, hashes: Uint64s, edge: Int64s, data: Bytes
) -> tuple[Uint64s, Int64s]:
    """The keys, sorted, of different n-grams, and the first place of each."""
    keys = np.empty(len(places), np.uint64)
    _keys(places, size, hashes, keys)
    order = np.argsort(keys, kind="stable")
    keys, places = keys[order], places[order]
    new = np.ones(len(keys), np.bool_)
    _mark_new(keys, places, size, edge, data, new)
    return keys[new], places[new]


def _bitmap(keys: Uint64s) -> Uint64s:
    bits = max(6, (_BITS * len(keys)).bit_length())
    made = np.zeros(1 << (bits - 6), np.uint64)
    _set_bits(keys, bits, made)
    return made


@dataclass(frozen=True)
class Matches:
    """Where an n-gram of the index begins in n texts, at most one a word; text i has first[i]:first[i + 1].

    `start` and `stop` are bytes of the text. Of n-grams that begin at one word, the longest is named.
    """

    first: Int64s  # [n + 1]
    start: Int64s
    stop: Int64s
    ngram: Int64s
    words: Int64s  # [n], in each text
    covered: Int64s  # [n], of them in a match

    def of(self, texts: Bools) -> Matches:
        """The same without the matches of other texts."""
        counts = np.diff(self.first)
        mine = np.repeat(texts, counts)
        first = np.cumsum(np.concatenate([[0], np.where(texts, counts, 0)])).astype(np.int64)
        return Matches(
            first,
            self.start[mine],
            self.stop[mine],
            self.ngram[mine],
            self.words,
            np.where(texts, self.covered, 0),
        )


def find_matches(text: pa.Array, index: Index, how: Normalization, ignored: Bools | None = None) -> Matches:
    """The matches of each text of a string array; null has none.

    `how` is what the index was made with; `ignored` n-grams of it are passed over.
    """
    buffers = text_buffers(text)
    found = [
        _find_in(text.slice(rows.start, rows.stop - rows.start), index, how, ignored)
        for rows in row_slices(buffers.offsets, _PIECE)
    ]
    counts = [np.diff(some.first) for some in found]
    first = np.cumsum(np.concatenate([[0], *counts])).astype(np.int64)
    empty = [np.zeros(0, np.int64)]
    names = ("start", "stop", "ngram", "words", "covered")
    return Matches(
        first, *(np.concatenate(empty + [getattr(some, name) for some in found]) for name in names)
    )


def count_records(text: pa.Array, index: Index, how: Normalization) -> tuple[Int64s, Int64s]:
    """Which n-grams of the index occur in some of the texts, and in how many, sorted by n-gram."""
    pairs = [np.zeros((0, 2), np.int64)]
    for rows in row_slices(text_buffers(text).offsets, _PIECE):
        words = normal_words(text.slice(rows.start, rows.stop - rows.start), how)
        for k in range(len(index.sizes)):
            at = _ngrams_at(words, index, k, None)
            begins = np.flatnonzero(at >= 0)
            of = np.searchsorted(words.first, begins, "right")
            pairs.append(np.unique(np.stack([at[begins], of], axis=1), axis=0))
    return np.unique(np.concatenate(pairs)[:, 0], return_counts=True)


def _ngrams_at(words: NormalWords, index: Index, k: int, ignored: Bools | None) -> Int64s:
    """For each word the n-gram of sizes[k] words that begins there, -1 where there is none."""
    at = np.full(len(words.hash), -1, np.int64)
    _find(
        words.first,
        words.hash,
        words.edge,
        words.data,
        int(index.sizes[k]),
        index.key[index.first[k] : index.first[k + 1]],
        index.place,
        int(index.first[k]),
        index.bitmap,
        index.edge,
        index.data,
        np.zeros(0, np.bool_) if ignored is None else ignored,
        at,
    )
    return at


def _find_in(text: pa.Array, index: Index, how: Normalization, ignored: Bools | None) -> Matches:
    words = normal_words(text, how)
    counts = np.diff(words.first)
    at = np.full(len(words.hash), -1, np.int64)
    for k in range(len(index.sizes)):
        shorter = _ngrams_at(words, index, k, ignored)
        at = np.where(at < 0, shorter, at)
    begins = np.flatnonzero(at >= 0)
    nothing = np.zeros(len(text), np.int64)
    if not len(begins):
        return Matches(np.zeros(len(text) + 1, np.int64), begins, begins, begins, counts, nothing)
    ngrams = at[begins]
    ends = begins + index.size_of(ngrams)
    of = np.searchsorted(words.first, begins, "right") - 1
    base = text_buffers(text).offsets[:-1]
    # Matches overlap, so each adds only what is behind all before it.
    reached = np.maximum.accumulate(ends)
    new = ends - np.maximum(begins, np.concatenate([[0], reached[:-1]]))
    covered = np.bincount(of, np.maximum(new, 0), len(text)).astype(np.int64)
    first = np.searchsorted(begins, words.first).astype(np.int64)
    return Matches(
        first, words.start[begins] - base[of], words.stop[ends - 1] - base[of], ngrams, counts, covered
    )


@kernel(f"void({_INTS}, int64, {_HASHES}, uint64[::1])")
def _keys(places: Any, size: int, hashes: Any, keys: Any) -> None:
    for k in range(len(places)):
        rolling = np.uint64(0)
        for word in range(places[k], places[k] + size):
            rolling = rolling * _BASE + hashes[word]
        keys[k] = mix(rolling + np.uint64(size))


@kernel(f"boolean({_INTS}, {BYTES_TYPE}, int64, {_INTS}, {BYTES_TYPE}, int64, int64)")
def _equal(edge: Any, data: Any, at: int, other_edge: Any, other_data: Any, place: int, size: int) -> bool:
    """Whether the n-grams that begin at word `at` and at word `place` have the same words."""
    shift = other_edge[place] - edge[at]
    for k in range(1, size + 1):
        if edge[at + k] + shift != other_edge[place + k]:
            return False
    byte = edge[at]
    while byte < edge[at + size] and data[byte] == other_data[byte + shift]:
        byte += 1
    return bool(byte == edge[at + size])


@kernel(f"void({_HASHES}, {_INTS}, int64, {_INTS}, {BYTES_TYPE}, boolean[::1])")
def _mark_new(keys: Any, places: Any, size: int, edge: Any, data: Any, new: Any) -> None:
    for k in range(1, len(keys)):
        before = k - 1
        while before >= 0 and keys[before] == keys[k]:
            if new[before] and _equal(edge, data, places[k], edge, data, places[before], size):
                new[k] = False
                break
            before -= 1


@kernel(f"void({_HASHES}, int64, uint64[::1])")
def _set_bits(keys: Any, bits: int, made: Any) -> None:
    for k in range(len(keys)):
        bit = keys[k] >> np.uint64(64 - bits)
        made[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))


@kernel(
    f"void({_INTS}, {_HASHES}, {_INTS}, {BYTES_TYPE}, int64, {_HASHES}, {_INTS}, int64, {_HASHES}, {_INTS}, "
    f"{BYTES_TYPE}, Array(boolean, 1, 'C', readonly=True), int64[::1])"
)
def _find(
    first: Any,
    hashes: Any,
    edge: Any,
    data: Any,
    size: int,
    keys: Any,
    places: Any,
    number: int,
    bitmap: Any,
    index_edge: Any,
    index_data: Any,
    ignored: Any,
    at: Any,
) -> None:
    """Fills at[w] with the n-gram that begins at word w; `number` is that of keys[0]."""
    bits = 6
    while (1 << (bits - 6)) < len(bitmap):
        bits += 1
    shift = np.uint64(64 - bits)
    power = np.uint64(1)
    for _ in range(size - 1):
        power *= _BASE
    for row in range(len(first) - 1):
        last = first[row + 1] - size
        if last < first[row]:
            continue
        rolling = np.uint64(0)
        for word in range(first[row], first[row] + size - 1):
            rolling = rolling * _BASE + hashes[word]
        for word in range(first[row], last + 1):
            rolling = rolling * _BASE + hashes[word + size - 1]
            key = mix(rolling + np.uint64(size))
            rolling -= hashes[word] * power
            bit = key >> shift
            if (bitmap[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1) == 0:
                continue
            low, high = 0, len(keys)
            while low < high:
                middle = (low + high) // 2
                if keys[middle] < key:
                    low = middle + 1
                else:
                    high = middle
            while low < len(keys) and keys[low] == key:
                ngram = number + low
                passed = len(ignored) > 0 and ignored[ngram]
                if not passed and _equal(edge, data, word, index_edge, index_data, places[ngram], size):
                    at[word] = ngram
                    break
                low += 1
