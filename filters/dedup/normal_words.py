"""Words as decontamination compares them: lower case, no punctuation, each with its place in the text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..kernels import kernel
from ..text.buffers import VALID_TYPE, text_buffers
from ..text.characters import BYTES_TYPE, CLASSES_TYPE, DIGIT, character_classes, decode
from ..text.hashing import hash_bytes
from ..text.words import find_spaced_words, find_unicode_words

Bytes = npt.NDArray[np.uint8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]

VERSION: Final = 1  # changes whenever the normal words of some text, or their hashes, do

# What datatrove leaves out of texts that it compares (utils/text.py, PUNCTUATION), as code points: marks,
# control characters, and the fullwidth digit one.
DATATROVE_PUNCTUATION: Final = (
    "0-8 B-1F 21-2F 3A-40 5B-60 7B-9F AB B4 BB 2013-2014 2019 201C-201E 2026 2236 2501 25BA 3001-3002 "
    "3008-300D 3010-3011 FF01 FF05 FF08-FF09 FF0C FF0E FF11 FF1A-FF1B FF1F FF5E"
)
# Planes of which some character has another form: the first two, compatibility ideographs, tags.
_PLANES: Final = ((0x80, 0x20000), (0x2F800, 0x2FA20), (0xE0000, 0xE1000))
_GONE: Final = 0xFF  # no byte of ASCII
_ASCII_SYMBOLS: Final = "$+<=>^`|~"  # the marks of ASCII that Unicode counts as symbols


@dataclass(frozen=True)
class Normalization:
    """Which words are equal.

    `words`: `unicode` as `split_words` has them, or `whitespace`, what `str.split` returns; without their
    punctuation (of `unicode` words, underscores), and those that were nothing else are none. `punctuation`:
    `all` that Unicode calls so and the other marks of ASCII, or `datatrove`, its list. Case is always
    ignored, and with it the difference between the Greek sigmas. `diacritics` leaves out what is a nonspacing
    mark (category Mn) once a character is decomposed; `numbers` makes each run of decimal digits a 0.
    """

    words: Literal["unicode", "whitespace"] = "unicode"
    punctuation: Literal["all", "datatrove"] = "all"
    diacritics: bool = False
    numbers: bool = False


@dataclass(frozen=True)
class NormalWords:
    """The words of n texts, in order; text i owns the words first[i]:first[i + 1].

    Word w is data[edge[w]:edge[w + 1]]; it stands for the bytes start[w]:stop[w] of the texts' own buffer.
    """

    first: Int64s  # [n + 1]
    start: Int64s
    stop: Int64s
    edge: Int64s  # [words + 1]
    data: Bytes
    hash: Uint64s  # hashing.hash_bytes of the word


def normal_words(text: pa.Array, how: Normalization) -> NormalWords:
    """The words of each text of a string array; null has none. Raises TypeError for another type."""
    buffers = text_buffers(text)
    ascii_, change, edges, changed, growth = _tables(how.punctuation, how.diacritics)
    lengths = np.diff(buffers.offsets)[buffers.valid]
    room = int((lengths // 2 + 1).sum()) + 1
    start, stop = np.empty(room, np.int64), np.empty(room, np.int64)
    hashes = np.empty(room, np.uint64)
    first, edge = np.empty(len(buffers) + 1, np.int64), np.zeros(room + 1, np.int64)
    data = np.empty(int(lengths.sum() * growth) + 8, np.uint8)
    _normalise(
        buffers.data,
        buffers.offsets,
        buffers.valid,
        character_classes(),
        how.words == "unicode",
        how.numbers,
        ascii_,
        change,
        edges,
        changed,
        first,
        start,
        stop,
        edge,
        data,
        hashes,
    )
    n = int(first[-1])
    return NormalWords(first, start[:n], stop[:n], edge[: n + 1], data[: edge[n]], hashes[:n])


@lru_cache(maxsize=4)
def _tables(punctuation: str, diacritics: bool) -> tuple[Bytes, Int32s, Int64s, Bytes, float]:
    """What becomes of each character.

    Of ASCII a byte, _GONE where it is left out. Of others a number, 0 where it stays as it is, else of the
    bytes that stand for it, with their edges. Last, by which factor a text may grow.
    """
    left_out = _left_out(punctuation)
    ascii_ = np.array([_GONE if chr(p) in left_out else ord(chr(p).lower()) for p in range(0x80)], np.uint8)
    change = np.zeros(0x110000, np.int32)
    pieces = [b""]
    growth = 1.0
    for point, becomes in _changes(left_out, diacritics):
        pieces.append(becomes)
        change[point] = len(pieces) - 1
        growth = max(growth, len(becomes) / len(chr(point).encode()))
    edges = np.cumsum([0, *map(len, pieces)]).astype(np.int64)
    return ascii_, change, edges, np.frombuffer(b"".join(pieces) + b"\0", np.uint8), growth


def _left_out(punctuation: str) -> frozenset[str]:
    if punctuation == "all":
        marks = (chr(p) for p in range(0x20000) if unicodedata.category(chr(p)).startswith("P"))
        return frozenset(marks) | frozenset(_ASCII_SYMBOLS)
    points: list[int] = []
    for item in DATATROVE_PUNCTUATION.split():
        low, _, high = item.partition("-")
        points += range(int(low, 16), int(high or low, 16) + 1)
    return frozenset(map(chr, points))


def _changes(left_out: frozenset[str], diacritics: bool) -> Iterator[tuple[int, bytes]]:
    """The characters beyond ASCII that do not stay as they are, and the UTF-8 of what they become."""
    for low, high in _PLANES:
        for point in range(low, high):
            character = chr(point)
            if 0xD800 <= point < 0xE000:
                continue
            becomes = "".join(c for c in character.lower().replace("ς", "σ") if c not in left_out)
            if diacritics:
                parts = unicodedata.normalize("NFD", becomes)
                becomes = "".join(c for c in parts if unicodedata.category(c) != "Mn")
            if becomes != character:
                yield point, becomes.encode()


@kernel(
    f"void({BYTES_TYPE}, int64[::1], {VALID_TYPE}, {CLASSES_TYPE}, boolean, boolean, {BYTES_TYPE}, "
    f"int32[::1], int64[::1], {BYTES_TYPE}, int64[::1], int64[::1], int64[::1], int64[::1], uint8[::1], "
    "uint64[::1])"
)
def _normalise(
    data: Any,
    offsets: Any,
    valid: Any,
    classes: Any,
    unicode: bool,
    numbers: bool,
    ascii: Any,
    change: Any,
    edges: Any,
    changed: Any,
    first: Any,
    start: Any,
    stop: Any,
    edge: Any,
    out: Any,
    hashes: Any,
) -> None:
    count, size = 0, 0
    for row in range(len(valid)):
        first[row] = count
        if not valid[row]:
            continue
        begin, end = offsets[row], offsets[row + 1]
        if unicode:
            found = find_unicode_words(data, begin, end, classes, start, stop, count)
        else:
            found = find_spaced_words(data, begin, end, classes, start, stop, count)
        for word in range(count, found):
            opened = size
            in_number = False
            at = start[word]
            while at < stop[word]:
                after = at + 1
                point: Any = np.int64(data[at])
                if point >= 0x80:
                    point, after = decode(data, at, stop[word])
                if numbers and (classes[point] & DIGIT) != 0 and (point >= 0x80 or ascii[point] != _GONE):
                    # A digit that is punctuation to datatrove is neither a number nor the end of one.
                    if point < 0x80 or change[point] == 0 or edges[change[point]] < edges[change[point] + 1]:
                        if not in_number:
                            out[size] = 0x30
                            size += 1
                        in_number = True
                elif point < 0x80:
                    if ascii[point] != _GONE:
                        out[size] = ascii[point]
                        size += 1
                        in_number = False
                else:
                    becomes = change[point]
                    if becomes == 0:
                        for k in range(at, after):
                            out[size] = data[k]
                            size += 1
                        in_number = False
                    else:
                        for k in range(edges[becomes], edges[becomes + 1]):
                            out[size] = changed[k]
                            size += 1
                            in_number = False
                at = after
            if size > opened:
                start[count] = start[word]
                stop[count] = stop[word]
                edge[count + 1] = size
                hashes[count] = hash_bytes(out, opened, size)
                count += 1
    first[len(valid)] = count
