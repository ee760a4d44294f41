"""Hashed n-grams of words, the features of DSIR (Xie et al. 2023, arXiv:2302.03169, section 4).

They are those of the authors' code (github.com/p-lambda/dsir, data_selection/hashed_ngram_dsir.py), bit for
bit: the text in lower case, as `str.lower` makes it; the words that NLTK's WordPunctTokenizer finds, which
are runs of `\\w` and runs of neither `\\w` nor `\\s`; every n-gram of them for n from 1 on, its words joined
by a space; and for each the SHA-256 of its UTF-8, as a number, modulo the number of buckets.

Most n-grams of a text have been seen in texts before it, so buckets are remembered. What is
remembered is found by two hashes of the n-gram: a new one is taken for another with a probability of about
2**-64.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

from ..kernels import kernel
from .buffers import VALID_TYPE, TextBuffers, text_buffers
from .characters import BYTES_TYPE, MARK, SPACE, WORD, character_classes, decode
from .hashing import fold, hash_bytes, load_part
from .sha256 import BLOCK, LANES, PADDING, POWERS_TYPE, ROW, powers_of_words, remainders, write_message

MOST_BUCKETS: Final = 2**24
LONGEST_NGRAM: Final = 8

_AHEAD: Final = 12  # n-grams between the look for a bucket and its use
_LAST_CASED: Final = 0x20000  # code points from here on are their own lower case
_KIND: Final = 24  # where the kind of a character begins in _cases
_POINT: Final = 2**_KIND - 1

# The first 64 binary digits after the point of the square roots of 7, 11 and 13: bits that nobody chose.
_LEFT: Final = np.uint64(0xA54FF53A5F1D36F1)
_RIGHT: Final = np.uint64(0x510E527FADE682D1)
_OTHER: Final = np.uint64(0x9B05688C2B3E6C1F)

_WORDS: Final = "int64[::1]"
_CASES_TYPE: Final = "Array(int32, 1, 'C', readonly=True)"


@dataclass(frozen=True)
class HashedNgrams:
    """The n-grams of n texts as buckets: text i has buckets[first[i]:first[i + 1]], shorter n-grams first."""

    first: npt.NDArray[np.int64]  # [n + 1]
    buckets: npt.NDArray[np.uint32]
    words: npt.NDArray[np.int64]  # [n]; how many words a text has; 0 where it is null


class NgramHasher:
    """Finds the n-grams of texts and their buckets; remembers buckets, and so belongs to one thread.

    `remembered`: for how many n-grams there is room, a power of two; each takes 16 bytes once it is used.
    """

    def __init__(self, buckets: int = 10_000, ngram: int = 2, remembered: int = 2**22) -> None:
        if not 1 <= buckets <= MOST_BUCKETS:
            raise ValueError(f"buckets is {buckets}; it is from 1 to {MOST_BUCKETS}")
        if not 1 <= ngram <= LONGEST_NGRAM:
            raise ValueError(f"ngram is {ngram}; it is from 1 to {LONGEST_NGRAM}")
        self.buckets, self.ngram = buckets, ngram
        self._powers = powers_of_words(buckets)
        self._memory = np.zeros((remembered, 2), np.uint64)

    def hash(self, text: pa.Array) -> HashedNgrams:
        """The n-grams of each text of a string array; null has none. Raises TypeError for other arrays."""
        buffers = _in_plain_case(text)
        first = np.zeros(len(buffers) + 1, np.int64)
        words = np.zeros(len(buffers), np.int64)
        found = _hash(
            buffers.data,
            buffers.offsets,
            buffers.valid,
            _cases(),
            self.ngram,
            self.buckets,
            self._powers,
            self._memory,
            first,
            words,
        )
        return HashedNgrams(first, found[: first[-1]], words)

    def counts(self, found: HashedNgrams) -> npt.NDArray[np.int64]:
        """How often each bucket occurs in all texts together."""
        return np.bincount(found.buckets, minlength=self.buckets).astype(np.int64)


def sums(found: HashedNgrams, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each text (rows) and each row of `weights` (columns) the sum of the weights of its n-grams.

    Added up in the order of the n-grams, so that it does not depend on which texts are around.
    """
    total = np.zeros((len(found.words), len(weights)))
    _add_up(found.first, found.buckets, np.ascontiguousarray(weights, np.float64), total)
    return total


@functools.cache
def _cases() -> npt.NDArray[np.int32]:
    """For each code point its lower case, and above that the kind of that: 0 blank, 1 word, 2 neither."""
    lower = np.arange(0x110000, dtype=np.int32)
    lower[:_LAST_CASED] = [ord(chr(point).lower()[0]) for point in range(_LAST_CASED)]
    classes = character_classes()[lower]
    kind = np.where(classes & SPACE, 0, np.where((classes & (WORD | MARK)) == WORD, 1, 2))
    table = lower | (kind << _KIND).astype(np.int32)
    table.flags.writeable = False
    return table


def _in_plain_case(text: pa.Array) -> TextBuffers:
    """The texts, those with odd cases in lower case already: what becomes of these, Python decides."""
    buffers = text_buffers(text)
    odd = np.empty(len(buffers), np.bool_)
    _find_odd_cases(buffers.data, buffers.offsets, buffers.valid, odd)
    if not odd.any():
        return buffers
    lower = [document.lower() for document in text.filter(pa.array(odd)).to_pylist()]
    return text_buffers(pc.replace_with_mask(text, pa.array(odd), pa.array(lower, text.type)))


def _expect(typing_context: Any, memory: Any, slot: Any) -> Any:
    """Tells the processor that memory[slot, 0] will be read soon."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.gep(data, [builder.shl(arguments[1], ir.Constant(ir.IntType(64), 1))])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        name = "llvm.prefetch.p0i8"
        function = get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
        flags = [ir.Constant(number, flag) for flag in (0, 3, 1)]  # to read, into all caches, data
        builder.call(function, [builder.bitcast(address, byte), *flags])
        return context.get_dummy_value()

    return types.void(memory, types.int64), generate


expect: Any = intrinsic(_expect)


@kernel("int64(int64, uint8[::1], int64)")
def _encode(point: int, out: Any, at: int) -> int:
    """Writes a code point as UTF-8; returns where it ends."""
    if point < 0x80:
        out[at] = point
        return at + 1
    if point < 0x800:
        out[at] = 0xC0 | point >> 6
        out[at + 1] = 0x80 | (point & 0x3F)
        return at + 2
    if point < 0x10000:
        out[at] = 0xE0 | point >> 12
        out[at + 1] = 0x80 | (point >> 6 & 0x3F)
        out[at + 2] = 0x80 | (point & 0x3F)
        return at + 3
    out[at] = 0xF0 | point >> 18
    out[at + 1] = 0x80 | (point >> 12 & 0x3F)
    out[at + 2] = 0x80 | (point >> 6 & 0x3F)
    out[at + 3] = 0x80 | (point & 0x3F)
    return at + 4


@kernel(f"int64({BYTES_TYPE}, int64, int64, {_CASES_TYPE}, uint8[::1], {_WORDS}, {_WORDS})")
def _read(data: Any, begin: int, end: int, cases: Any, text: Any, start: Any, stop: Any) -> int:
    """Writes data[begin:end] in lower case into `text`, and where its words are; returns their number.

    Bytes that are not UTF-8 stay as they are.
    """
    # Both ends are stored at each character and counted where they are one: no branch to guess.
    at = begin
    size: Any = 0
    started: Any = 0
    stopped: Any = 0
    before: Any = np.int64(0)
    while at < end:
        start[started] = size
        stop[stopped] = size
        case = np.int64(cases[data[at]])
        if data[at] < 0x80:
            text[size] = case & 0x7F
            size += 1
            at += 1
        else:
            point, after = decode(data, at, end)
            case = np.int64(cases[point])
            if case & _POINT == point:
                for k in range(at, after):
                    text[size] = data[k]
                    size += 1
            else:
                size = _encode(int(case & _POINT), text, size)
            at = after
        kind = case >> _KIND
        started += np.int64(kind != before) & np.int64(kind != 0)
        stopped += np.int64(kind != before) & np.int64(before != 0)
        before = kind
    if stopped < started:
        stop[stopped] = size
    return int(started)


@kernel(f"void({BYTES_TYPE}, {_WORDS}, {VALID_TYPE}, boolean[::1])")
def _find_odd_cases(data: Any, offsets: Any, valid: Any, odd: Any) -> None:
    """Marks the texts with a capital sigma or an I with a dot in them.

    The lower case of the one depends on what is around it; that of the other is two characters.
    """
    for i in range(len(valid)):
        found = False
        if valid[i]:
            for at in range(offsets[i], offsets[i + 1] - 1):
                found |= (data[at] == 0xCE) & (data[at + 1] == 0xA3)
                found |= (data[at] == 0xC4) & (data[at + 1] == 0xB0)
        odd[i] = found


@kernel(
    f"uint32[::1]({BYTES_TYPE}, int64[::1], {VALID_TYPE}, {_CASES_TYPE}, int64, int64, "
    f"{POWERS_TYPE}, uint64[:, ::1], {_WORDS}, {_WORDS})"
)
def _hash(
    data: Any,
    offsets: Any,
    valid: Any,
    cases: Any,
    ngram: int,
    buckets: int,
    powers: Any,
    memory: Any,
    first: Any,
    words: Any,
) -> Any:
    """Fills `first` and `words`; returns the buckets, and room behind them."""
    longest = 0
    for i in range(len(valid)):
        if valid[i]:
            longest = max(longest, offsets[i + 1] - offsets[i])
    # Lower case takes at most three bytes where there were two.
    room = longest + longest // 2 + 8
    text = np.empty(room, np.uint8)
    start, stop = np.empty(room, np.int64), np.empty(room, np.int64)
    hashes, others = np.empty(room, np.uint64), np.empty(room, np.uint64)
    left, right = np.empty(room, np.uint64), np.empty(room, np.uint64)
    rows = np.empty(LANES * ROW, np.uint8)
    single = np.empty(room + LONGEST_NGRAM + PADDING + BLOCK, np.uint8)
    blocks, places, slots = np.empty(LANES, np.int64), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    single_blocks = np.empty(1, np.int64)
    state, block = np.empty((8, LANES), np.uint32), np.zeros((16, LANES), np.uint32)
    made = np.empty(LANES, np.uint32)
    tags = np.empty(LANES, np.uint64)
    out = np.empty(1024, np.uint32)
    mask = np.uint64(len(memory) - 1)
    count = 0
    for i in range(len(valid)):
        first[i] = count
        if not valid[i]:
            continue
        n_words = _read(data, offsets[i], offsets[i + 1], cases, text, start, stop)
        words[i] = n_words
        if count + ngram * n_words > len(out):
            grown = np.empty(2 * (count + ngram * n_words), np.uint32)
            grown[:count] = out[:count]
            out = grown
        for word in range(n_words):
            begin, end = start[word], stop[word]
            hashes[word] = hash_bytes(text, begin, end)
            others[word] = fold(hashes[word] ^ load_part(text, begin, min(end - begin, 8)), _OTHER)
            left[word], right[word] = hashes[word], others[word]
        waiting = 0
        for n in range(1, ngram + 1):
            places_left = n_words - n + 1
            if n > 1:
                for word in range(places_left):
                    left[word] = fold(left[word] ^ _LEFT, hashes[word + n - 1] ^ _RIGHT)
                    right[word] = right[word] * _OTHER + others[word + n - 1]
            for word in range(places_left):
                if word + _AHEAD < places_left:
                    expect(memory, np.int64(right[word + _AHEAD] >> np.uint64(32) & mask))
                slot = np.int64(right[word] >> np.uint64(32) & mask)
                if memory[slot, 0] == left[word] and memory[slot, 1] != 0:
                    out[count] = memory[slot, 1] - np.uint64(1)
                    count += 1
                    continue
                # Where it is known without a look at the words that they fit in a row.
                if stop[word + n - 1] - start[word] + n + PADDING <= ROW:
                    blocks[waiting] = write_message(text, start, stop, word, n, rows, waiting * ROW)
                    places[waiting], slots[waiting], tags[waiting] = count, slot, left[word]
                    waiting += 1
                else:
                    single_blocks[0] = write_message(text, start, stop, word, n, single, 0)
                    remainders(single, single_blocks, 1, buckets, powers, state, block, made)
                    out[count] = made[0]
                count += 1
                if waiting == LANES:
                    remainders(rows, blocks, waiting, buckets, powers, state, block, made)
                    for lane in range(waiting):
                        out[places[lane]] = made[lane]
                        memory[slots[lane], 0] = tags[lane]
                        memory[slots[lane], 1] = np.uint64(made[lane]) + np.uint64(1)
                    waiting = 0
        remainders(rows, blocks, waiting, buckets, powers, state, block, made)
        for lane in range(waiting):
            out[places[lane]] = made[lane]
            memory[slots[lane], 0] = tags[lane]
            memory[slots[lane], 1] = np.uint64(made[lane]) + np.uint64(1)
    first[len(valid)] = count
    return out


@kernel(f"void({_WORDS}, uint32[::1], float64[:, ::1], float64[:, ::1])")
def _add_up(first: Any, buckets: Any, weights: Any, total: Any) -> None:
    for text in range(len(total)):
        for row in range(len(weights)):
            added = 0.0
            for at in range(first[text], first[text + 1]):
                added += weights[row, buckets[at]]
            total[text, row] = added
