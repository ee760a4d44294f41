"""A total order of records as sequences of 64-bit words: smaller words come first.

Comparing numbers word by word lets a selector find a place in the order with histograms of any resolution,
and without ever sorting the corpus.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Words = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
Kind = Literal["float64", "int64", "uint64"]

_SIGN: Final = np.uint64(1 << 63)
# Bytes of an id in one word; the eighth byte counts how many of the seven are there, so that an id sorts
# before every longer id that begins with it, whatever bytes follow.
ID_BYTES: Final = 7


def kind_of(dtype: pa.DataType, column: str) -> Kind | None:
    """The number type in which scores of `dtype` compare exactly; None for a column of type null.

    Raises ValueError if the column does not hold numbers.
    """
    if pa.types.is_null(dtype):
        return None
    if pa.types.is_floating(dtype):
        return "float64"
    if pa.types.is_unsigned_integer(dtype):
        return "uint64"
    if pa.types.is_signed_integer(dtype):
        return "int64"
    raise ValueError(f"column {column} holds {dtype}; a selection needs numbers to order by")


def score_words(scores: pa.Array) -> tuple[Words, Bools]:
    """One word for each score, the highest score having the smallest word, and which scores there are.

    `scores`: floats, integers or nulls, of any length n. Returns uint64 (n,) and bool (n,), false for null
    and NaN, whose words are 0. -0.0 equals 0.0; infinities are scores. Floats order by their IEEE 754 bits:
    all of them inverted for a negative number, the sign alone for another.
    """
    kind = kind_of(scores.type, "score")
    if kind is None:
        return np.zeros(len(scores), np.uint64), np.zeros(len(scores), np.bool_)
    valid = np.asarray(pc.is_valid(scores).to_numpy(zero_copy_only=False), np.bool_)
    values = pc.fill_null(scores.cast(kind), 0).to_numpy(zero_copy_only=False)
    if kind == "float64":
        valid &= ~np.isnan(values)
        bits = (values + 0.0).view(np.uint64)  # adding 0.0 turns -0.0 into 0.0
        ascending = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    elif kind == "int64":
        ascending = values.view(np.uint64) ^ _SIGN
    else:
        ascending = values
    return np.where(valid, ~ascending, np.uint64(0)), valid


def score_of(word: int, kind: Kind) -> int | float:
    """The score that `score_words` turned into `word`."""
    ascending = ~np.uint64(word)
    if kind == "uint64":
        return int(ascending)
    if kind == "int64":
        return int((ascending ^ _SIGN).view(np.int64))
    bits = ascending ^ _SIGN if ascending & _SIGN else ~ascending
    return float(bits.view(np.float64))


def id_words(ids: pa.Array, positions: Words, chunk: int) -> Words:
    """Seven bytes of each id from byte `7 * chunk` on; the position, once the id has ended.

    Words of chunk 0, 1, 2, … compared in turn order records by the UTF-8 bytes of their id, then by position.
    `ids`: string or large_string (n,), null taken as empty; `positions`: uint64 (n,). Returns uint64 (n,).
    """
    ids = pc.fill_null(ids.cast(pa.large_string()), "")
    _, offset_buffer, data_buffer = ids.buffers()
    if len(ids) == 0:
        return np.zeros(0, np.uint64)
    offsets = np.frombuffer(offset_buffer, np.int64, count=len(ids) + 1, offset=8 * ids.offset)
    data = np.frombuffer(data_buffer or b"", np.uint8)
    start, stop = offsets[:-1] + ID_BYTES * chunk, offsets[1:]
    words = np.clip(stop - start, 0, ID_BYTES).astype(np.uint64)
    for byte in range(ID_BYTES):
        inside = start + byte < stop
        found = data[np.where(inside, start + byte, 0)] if len(data) else np.zeros(len(ids), np.uint8)
        words |= np.where(inside, found, 0).astype(np.uint64) << np.uint64(8 * (ID_BYTES - byte))
    return np.where(start > stop, positions, words)
