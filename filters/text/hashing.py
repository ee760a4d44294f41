"""A fast 64-bit hash of short byte strings, the same on every machine and in every process.

The construction is wyhash's (github.com/wangyi-fudan/wyhash, public domain): a 64 x 64 -> 128 bit product
whose halves are combined by exclusive or. Not cryptographic: an adversary can make collisions. Among m
different strings that nobody chose, one is expected per 2**64 pairs.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from ..kernels import kernel
from .characters import BYTES_TYPE

# The first 64 binary digits after the point of the square roots of 2, 3 and 5: bits that nobody chose.
SEED: Final = np.uint64(0x6A09E667F3BCC908)
BLOCK: Final = np.uint64(0xBB67AE8584CAA73B)
FINISH: Final = np.uint64(0x3C6EF372FE94F82B)

_ONES: Final = np.uint64(0x0101010101010101)


def _load_block(typing_context: Any, data: Any, at: Any) -> Any:
    """Eight bytes of `data` from `at` on, as a little-endian uint64; the caller has checked the bounds."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(array.data, [arguments[1]])
        block = builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)
        if sys.byteorder == "big":  # pragma: no cover
            block = builder.bswap(block)
        return block

    return types.uint64(data, types.int64), generate


def _fold(typing_context: Any, a: Any, b: Any) -> Any:
    """The product of two uint64, its high half combined with its low half by exclusive or."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        high = builder.lshr(product, ir.Constant(wide, 64))
        return builder.trunc(builder.xor(product, high), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


load_block: Any = intrinsic(_load_block)
fold: Any = intrinsic(_fold)


@kernel(f"uint64({BYTES_TYPE}, int64, int64)", forceinline=True)
def load_part(data: npt.NDArray[np.uint8], at: int, size: int) -> Any:
    """From 1 to 8 bytes of `data` from `at` on, little-endian, the missing ones zero."""
    if at + 8 <= data.size:
        return load_block(data, at) & (~np.uint64(0) >> np.uint64(64 - 8 * size))
    block = np.uint64(0)
    for k in range(size):
        block |= np.uint64(data[at + k]) << np.uint64(8 * k)
    return block


@kernel(f"uint64({BYTES_TYPE}, int64, int64)", forceinline=True)
def hash_bytes(data: npt.NDArray[np.uint8], start: int, stop: int) -> Any:
    """The hash of data[start:stop], a uint64.

    h = SEED xor length; for each block of 8 bytes, little-endian, the last one padded with zeros:
    h = fold(h xor block, BLOCK); the result is fold(h, FINISH).
    """
    h = SEED ^ np.uint64(stop - start)
    at = start
    while stop - at > 8:
        h = fold(h ^ load_block(data, at), BLOCK)
        at += 8
    if at < stop:
        h = fold(h ^ load_part(data, at, stop - at), BLOCK)
    return fold(h, FINISH)


@kernel(f"int64({BYTES_TYPE}, int64, int64, boolean)", forceinline=True)
def count_characters(data: npt.NDArray[np.uint8], start: int, stop: int, ascii: bool) -> Any:
    """Code points of data[start:stop]: the bytes that do not continue one (10xxxxxx)."""
    if ascii:
        return stop - start
    continued: Any = 0
    at = start
    while at < stop:
        block = load_part(data, at, min(stop - at, 8))
        continued += np.int64(
            ((block >> np.uint64(7)) & ~(block >> np.uint64(6)) & _ONES) * _ONES >> np.uint64(56)
        )
        at += 8
    return stop - start - continued
