"""Words: where they are in the text, and a hash of each, for every later user (n-grams, MinHash)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..kernels import kernel
from .buffers import VALID_TYPE, Cuts, TextBuffers, text_buffers
from .characters import BYTES_TYPE, CLASSES_TYPE, MARK, SPACE, UNSPACED, WORD, character_classes, decode
from .hashing import hash_bytes

WordKind = Literal["whitespace", "unicode", "segmented"]

WORD_KINDS: Final[tuple[WordKind, ...]] = ("whitespace", "unicode", "segmented")
_WORD_SHIFT: Final = WORD.bit_length() - 1
WORDS_VERSION: Final = 1  # changes whenever the words of some text, or their hashes, do


@dataclass(frozen=True)
class Words:
    """The words of n documents, in order.

    Document i owns the words first[i]:first[i + 1]; word w is data[start[w]:stop[w]], UTF-8.
    """

    first: npt.NDArray[np.int64]  # [n + 1]
    start: npt.NDArray[np.int64]  # byte offset in `data`
    stop: npt.NDArray[np.int64]
    hash: npt.NDArray[np.uint64]  # hashing.hash_bytes of the word's bytes
    data: npt.NDArray[np.uint8]  # the array's UTF-8 buffer, not copied


def split_words(text: pa.Array, kind: WordKind) -> Words:
    """Finds and hashes the words of each text of a string array; null has none.

    `whitespace`: what `str.split()` returns. `unicode`: maximal runs of letters, marks, numbers (general
    categories L, M, N) and underscores, except that each letter of a script written without spaces (see
    characters.UNSPACED_BLOCKS), with the marks that follow it, is a word of its own. Apostrophes and hyphens
    end a word of kind `unicode`. `segmented`: as `unicode`, but runs in scripts written without spaces become
    words as their segmenters find them (see segmentation.py), and more slowly.

    Raises ValueError for another kind, TypeError for an array that is not text, and for `segmented`
    AssetError if a segmenter is not installed.
    """
    buffers = text_buffers(text)
    cuts = cuts_of(buffers, kind)
    lengths = np.diff(buffers.offsets)[buffers.valid]
    room = int((lengths // 2 + 1).sum())  # two words that touch take three bytes or more
    start, stop = np.empty(room, np.int64), np.empty(room, np.int64)
    hashes = np.empty(room, np.uint64)
    first = np.empty(len(buffers) + 1, np.int64)
    _split(
        buffers.data,
        buffers.offsets,
        buffers.valid,
        character_classes(),
        is_unicode(kind),
        cuts.first,
        cuts.at,
        first,
        start,
        stop,
        hashes,
    )
    n = int(first[-1])
    return Words(first, start[:n], stop[:n], hashes[:n], buffers.data)


def cuts_of(buffers: TextBuffers, kind: WordKind) -> Cuts:
    """The cuts of each text: none but for words of kind `segmented`."""
    if kind == "segmented":
        from .segmentation import find_cuts

        return find_cuts(buffers)
    return Cuts(np.zeros(len(buffers) + 1, np.int64), np.zeros(0, np.int64))


def is_unicode(kind: str) -> bool:
    """Whether words are runs of word characters. Raises ValueError for a kind that does not exist."""
    if kind not in WORD_KINDS:
        raise ValueError(f"words: {kind!r} is not one of {', '.join(WORD_KINDS)}")
    return kind != "whitespace"


@kernel(f"int64({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, int64[::1], int64[::1], int64)")
def find_spaced_words(
    data: Any, begin: int, end: int, classes: Any, start: Any, stop: Any, count: int
) -> int:
    """Appends the words of data[begin:end] as str.split() finds them; returns how many there are now."""
    # Both ends are stored at each character and counted where they are one: no branch to guess.
    at = begin
    started: Any = count
    stopped: Any = count
    spaced_before: Any = 1
    while at < end:
        after = at + 1
        point: Any = np.int64(data[at])
        if point >= 0x80:
            point, after = decode(data, at, end)
        spaced = np.int64(classes[point] & SPACE)
        start[started] = at
        stop[stopped] = at
        started += spaced_before & ~spaced
        stopped += spaced & ~spaced_before
        spaced_before = spaced
        at = after
    if stopped < started:
        stop[stopped] = end
    return int(started)


@kernel(f"int64({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, int64[::1], int64[::1], int64)")
def find_unicode_words(
    data: Any, begin: int, end: int, classes: Any, start: Any, stop: Any, count: int
) -> int:
    """Appends the words of kind `unicode` of data[begin:end]; returns how many there are now."""
    # As above. A letter of a script without spaces is closed at once, with its marks, so that all that is
    # carried from character to character is whether a word is open.
    at = begin
    started: Any = count
    stopped: Any = count
    open_before: Any = 0
    while at < end:
        after = at + 1
        point: Any = np.int64(data[at])
        if point >= 0x80:
            point, after = decode(data, at, end)
            if classes[point] & UNSPACED:
                if open_before:
                    stop[stopped] = at
                    stopped += 1
                start[started] = at
                started += 1
                at = after
                while at < end and data[at] >= 0x80:
                    point, after = decode(data, at, end)
                    if (classes[point] & (MARK | UNSPACED)) != MARK:
                        break
                    at = after
                stop[stopped] = at
                stopped += 1
                open_before = 0
                continue
        word = np.int64((classes[point] & WORD) >> _WORD_SHIFT)
        start[started] = at
        stop[stopped] = at
        started += word & ~open_before
        stopped += open_before & ~word
        open_before = word
        at = after
    if stopped < started:
        stop[stopped] = end
    return int(started)


@kernel(
    f"int64({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, int64[::1], int64, int64, "
    "int64[::1], int64[::1], int64)"
)
def find_cut_words(
    data: Any,
    begin: int,
    end: int,
    classes: Any,
    cuts: Any,
    cut: int,
    last_cut: int,
    start: Any,
    stop: Any,
    count: int,
) -> int:
    """Appends the runs of word characters of data[begin:end], divided at cuts[cut:last_cut].

    A cut before a mark does not divide, so that a mark stays with its letter. Returns how many words there
    are now.
    """
    at = begin
    open_before = False
    while at < end:
        after: Any = at + 1
        point: Any = np.int64(data[at])
        if point >= 0x80:
            point, after = decode(data, at, end)
        kind = classes[point]
        word = (kind & WORD) != 0
        divided = False
        while cut < last_cut and cuts[cut] <= at:
            divided = (kind & MARK) == 0
            cut += 1
        if open_before and (divided or not word):
            stop[count] = at
            count += 1
            open_before = False
        if word and not open_before:
            start[count] = at
            open_before = True
        at = after
    if open_before:
        stop[count] = end
        count += 1
    return count


@kernel(
    f"void({BYTES_TYPE}, int64[::1], {VALID_TYPE}, {CLASSES_TYPE}, boolean, int64[::1], int64[::1], "
    "int64[::1], int64[::1], int64[::1], uint64[::1])"
)
def _split(
    data: Any,
    offsets: Any,
    valid: Any,
    classes: Any,
    unicode: bool,
    first_cut: Any,
    cuts: Any,
    first: Any,
    start: Any,
    stop: Any,
    hashes: Any,
) -> None:
    count = 0
    for document in range(len(valid)):
        first[document] = count
        if not valid[document]:
            continue
        begin, end = offsets[document], offsets[document + 1]
        cut, last_cut = first_cut[document], first_cut[document + 1]
        if cut < last_cut:
            count = find_cut_words(data, begin, end, classes, cuts, cut, last_cut, start, stop, count)
        elif unicode:
            count = find_unicode_words(data, begin, end, classes, start, stop, count)
        else:
            count = find_spaced_words(data, begin, end, classes, start, stop, count)
        for word in range(first[document], count):
            hashes[word] = hash_bytes(data, start[word], stop[word])
    first[len(valid)] = count
