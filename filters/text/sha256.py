"""SHA-256 (FIPS 180-4) of eight short messages at a time, one in each lane of the processor's vectors."""

from __future__ import annotations

import functools
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from ..kernels import kernel
from .characters import BYTES_TYPE
from .hashing import load_block

LANES: Final = 8
BLOCK: Final = 64  # bytes that are taken at a time
ROW: Final = 8 * BLOCK  # bytes between messages: those that are longer with their padding go alone
PADDING: Final = 9  # bytes at least: a one bit, and the length in bits

POWERS_TYPE: Final = "Array(int64, 1, 'C', readonly=True)"
_WORDS: Final = "int64[::1]"


def powers_of_words(divisor: int) -> npt.NDArray[np.int64]:
    """What each of the eight words of a digest is worth modulo `divisor` (at most 2**28)."""
    powers = np.array([pow(2, 32 * (7 - word), divisor) for word in range(8)], np.int64)
    powers.flags.writeable = False
    return powers


def _root_bits(number: int, degree: int) -> int:
    """The first 32 binary digits after the point of a root, found in whole numbers."""
    low, high = 0, number << 32
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**degree <= number << (32 * degree) else (low, middle)
    return low & 0xFFFFFFFF


_PRIMES: Final = [n for n in range(2, 312) if all(n % divisor for divisor in range(2, n))]
_START: Final = np.array([_root_bits(prime, 2) for prime in _PRIMES[:8]], np.uint32)  # section 5.3.3
_ROUNDS: Final = [_root_bits(prime, 3) for prime in _PRIMES]  # section 4.2.2

_LANE: Final = ir.VectorType(ir.IntType(32), LANES)


def _compress(typing_context: Any, state: Any, block: Any) -> Any:
    """Takes a block of 16 words into the state of 8, for each lane (section 6.2.2); uint32[:, LANES] both.

    The words of a block are as load_block reads them, little-endian.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kept = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        taken = context.make_array(signature.args[1])(context, builder, arguments[1]).data

        def vector(data: Any, row: int) -> Any:
            start = builder.gep(data, [ir.Constant(ir.IntType(64), row * LANES)])
            return builder.bitcast(start, _LANE.as_pointer())

        def constant(number: int) -> Any:
            return ir.Constant(_LANE, [number] * LANES)

        def rotated(value: Any, *by: int) -> Any:
            turned = [
                builder.or_(builder.lshr(value, constant(n)), builder.shl(value, constant(32 - n)))
                for n in by
            ]
            return functools.reduce(builder.xor, turned)

        def swapped(value: Any) -> Any:
            odd, even = builder.and_(value, constant(0xFF00FF)), builder.and_(value, constant(0xFF00FF00))
            return builder.or_(rotated(odd, 8), rotated(even, 24))

        words = [swapped(builder.load(vector(taken, row), align=4)) for row in range(16)]
        for t in range(16, 64):
            early, late = words[t - 15], words[t - 2]
            mixed = builder.xor(rotated(early, 7, 18), builder.lshr(early, constant(3)))
            added = builder.xor(rotated(late, 17, 19), builder.lshr(late, constant(10)))
            words.append(builder.add(builder.add(mixed, added), builder.add(words[t - 16], words[t - 7])))
        before = [builder.load(vector(kept, row), align=4) for row in range(8)]
        a, b, c, d, e, f, g, h = before
        for t in range(64):
            chosen = builder.xor(g, builder.and_(e, builder.xor(f, g)))
            majority = builder.or_(builder.and_(a, b), builder.and_(c, builder.or_(a, b)))
            step = builder.add(builder.add(h, constant(_ROUNDS[t])), builder.add(words[t], chosen))
            step = builder.add(step, rotated(e, 6, 11, 25))
            turn = builder.add(majority, rotated(a, 2, 13, 22))
            a, b, c, d, e, f, g, h = builder.add(step, turn), a, b, c, builder.add(d, step), e, f, g
        for row, (old, new) in enumerate(zip(before, (a, b, c, d, e, f, g, h), strict=True)):
            builder.store(builder.add(old, new), vector(kept, row), align=4)
        return context.get_dummy_value()

    return types.void(state, block), generate


compress: Any = intrinsic(_compress)


@kernel(f"int64({BYTES_TYPE}, {_WORDS}, {_WORDS}, int64, int64, uint8[::1], int64)")
def write_message(text: Any, start: Any, stop: Any, word: int, n: int, out: Any, begin: int) -> int:
    """Writes to out[begin:] the n words from `word` on, spaces between them, as SHA-256 pads a message.

    Returns how many blocks it has.
    """
    to = begin
    for k in range(word, word + n):
        if k > word:
            out[to] = 0x20
            to += 1
        for at in range(start[k], stop[k]):
            out[to] = text[at]
            to += 1
    bits = 8 * (to - begin)
    blocks = (to - begin + PADDING + BLOCK - 1) // BLOCK
    end = begin + blocks * BLOCK
    out[to] = 0x80
    for at in range(to + 1, end - 8):
        out[at] = 0
    for k in range(8):
        out[end - 8 + k] = bits >> (56 - 8 * k) & 0xFF
    return blocks


@kernel(
    f"void(uint8[::1], {_WORDS}, int64, int64, {POWERS_TYPE}, uint32[:, ::1], uint32[:, ::1], uint32[::1])"
)
def remainders(
    rows: Any, blocks: Any, n: int, divisor: int, powers: Any, state: Any, block: Any, found: Any
) -> None:
    """Fills `found` with the SHA-256 of n messages, at most LANES, modulo `divisor`.

    Message i is at rows[i * ROW], of blocks[i] blocks. `powers` are powers_of_words(divisor); `state` and
    `block` are room for uint32[8, LANES] and uint32[16, LANES].
    """
    for word in range(8):
        for row in range(LANES):
            state[word, row] = _START[word]
    most = 0
    for row in range(n):
        most = max(most, blocks[row])
    for number in range(most):
        for row in range(n):
            if number < blocks[row]:
                at = row * ROW + number * BLOCK
                for pair in range(8):
                    two = load_block(rows, at + 8 * pair)
                    block[2 * pair, row] = np.uint32(two)
                    block[2 * pair + 1, row] = np.uint32(two >> np.uint64(32))
        compress(state, block)
        for row in range(n):
            if number == blocks[row] - 1:
                total = 0
                for word in range(8):
                    total += np.int64(state[word, row]) * powers[word]
                found[row] = total % divisor
