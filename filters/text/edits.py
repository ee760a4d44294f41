"""Edits of texts: byte spans and what stands in their place, and the one executor that applies them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...schemas.contracts import EDIT
from ..kernels import kernel
from .buffers import VALID_TYPE, TextBuffers, text_buffers
from .characters import BYTES_TYPE, CLASSES_TYPE, SPACE, character_classes, decode

_INTS: Final = "Array(int64, 1, 'C', readonly=True)"
_MAX_STRING: Final = 2**31 - 1  # bytes of one array of type string

# What can be wrong with an edit; the kernel answers with an index.
_FAULTS: Final = (
    "",
    "ends before it begins",
    "reaches beyond the text",
    "begins before the end of the edit before it",
    "cuts a character in two",
    "is of a text that is null",
)
_REVERSED, _OUTSIDE, _OVERLAPS, _CUTS, _OF_NULL = range(1, 6)


class EditError(Exception):
    """A refiner's edits do not fit the text; the message names the row and the span."""


def edit_lists(
    first: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
    stop: npt.NDArray[np.int64],
    replacement: pa.Array | None = None,
) -> pa.ListArray:
    """list<EDIT> of n texts: text i has the edits first[i]:first[i + 1].

    `start` and `stop` are byte offsets in text i; without `replacement` the spans are deleted.
    """
    if replacement is None:
        replacement = pa.array([""], pa.string()).take(pa.array(np.zeros(len(start), np.int8)))
    fields = [pa.array(start, pa.int64()), pa.array(stop, pa.int64()), replacement]
    edits = pa.StructArray.from_arrays(fields, fields=list(EDIT))
    return pa.ListArray.from_arrays(pa.array(first, pa.int32()), edits)


def deletions(
    buffers: TextBuffers, first: npt.NDArray[np.int64], spans: npt.NDArray[np.int64]
) -> pa.ListArray:
    """list<EDIT> that deletes `spans` (int64[edits, 2], offsets in `buffers.data`) from each text."""
    base = np.repeat(buffers.offsets[:-1], np.diff(first))
    return edit_lists(first, spans[:, 0] - base, spans[:, 1] - base)


def apply_edits(text: pa.Array, edits: pa.ListArray) -> pa.Array:
    """The texts after their edits, in the type of `text` (string or large_string); null stays null.

    A text whose list of edits is null stays as it is. Raises EditError for an edit that is not sorted, that
    overlaps the one before it, reaches beyond its text or cuts a character, or where the result does not fit
    the type; TypeError if `edits` is not list<EDIT>, ValueError if it is not as long as `text`.
    """
    if len(text) != len(edits):
        raise ValueError(f"{len(edits)} lists of edits for {len(text)} texts")
    buffers = text_buffers(text)
    first, last, start, stop, replacement = _columns(edits)
    added = text_buffers(replacement)
    lengths = np.zeros(len(text) + 1, np.int64)
    row, at, fault = _measure(
        buffers.data, buffers.offsets, buffers.valid, first, last, start, stop, added.offsets, lengths
    )
    if fault:
        raise EditError(f"row {row}: the edit of bytes {start[at]} to {stop[at]} {_FAULTS[fault]}")
    offsets = np.cumsum(lengths)
    if not pa.types.is_large_string(text.type) and offsets[-1] > _MAX_STRING:
        raise EditError(f"the edited texts have {offsets[-1]} bytes, more than an array of type string holds")
    data = np.empty(offsets[-1], np.uint8)
    _write(buffers.data, buffers.offsets, first, last, start, stop, added.data, added.offsets, offsets, data)
    narrow = offsets.astype(np.int64 if pa.types.is_large_string(text.type) else np.int32)
    missing = None if buffers.valid.all() else pa.array(buffers.valid).buffers()[1]
    type_ = pa.string() if pa.types.is_null(text.type) else text.type
    return pa.Array.from_buffers(type_, len(text), [missing, pa.py_buffer(narrow), pa.py_buffer(data)])


def _columns(edits: pa.ListArray) -> tuple[Any, Any, Any, Any, pa.Array]:
    """Per row the first and the one past the last edit, then the edits' starts, stops and replacements."""
    if not pa.types.is_list(edits.type) or not pa.types.is_struct(edits.type.value_type):
        raise TypeError(f"edits are of type {edits.type}; they must be list<{EDIT}>")
    found = {field.name: field.type for field in edits.type.value_type}
    if found != {field.name: field.type for field in EDIT}:
        raise TypeError(f"edits are of type {edits.type}; they must be list<{EDIT}>")
    offsets = edits.offsets.to_numpy().astype(np.int64)
    first, last = offsets[:-1].copy(), offsets[1:].copy()
    if edits.null_count:
        nothing = edits.is_null().to_numpy(zero_copy_only=False)
        last[nothing] = first[nothing]
    values = edits.values
    fields = [values.field(name) for name in ("start", "stop", "replacement")]
    if values.null_count or any(field.null_count for field in fields):
        raise EditError("an edit, or a part of one, is null")
    return first, last, fields[0].to_numpy(), fields[1].to_numpy(), fields[2]


@kernel(
    f"UniTuple(int64, 3)({BYTES_TYPE}, int64[::1], {VALID_TYPE}, int64[::1], int64[::1], {_INTS}, {_INTS}, "
    "int64[::1], int64[::1])"
)
def _measure(
    data: Any,
    offsets: Any,
    valid: Any,
    first: Any,
    last: Any,
    start: Any,
    stop: Any,
    added: Any,
    lengths: Any,
) -> Any:
    """Fills lengths[i + 1] for each text i; the row, edit and fault of the first edit that is wrong."""
    for row in range(len(valid)):
        begin, size = offsets[row], offsets[row + 1] - offsets[row]
        if not valid[row]:
            if last[row] > first[row]:
                return row, first[row], _OF_NULL
            continue
        length, before = size, 0
        for k in range(first[row], last[row]):
            a, b = start[k], stop[k]
            if b < a:
                return row, k, _REVERSED
            if a < 0 or b > size:
                return row, k, _OUTSIDE
            if a < before:
                return row, k, _OVERLAPS
            if (a < size and (data[begin + a] & 0xC0) == 0x80) or (
                b < size and (data[begin + b] & 0xC0) == 0x80
            ):
                return row, k, _CUTS
            length += added[k + 1] - added[k] - (b - a)
            before = b
        lengths[row + 1] = length
    return 0, 0, 0


@kernel(f"void({BYTES_TYPE}, int64, int64, uint8[::1], int64)", forceinline=True)
def _copy(source: Any, start: int, stop: int, target: Any, at: int) -> None:
    for k in range(stop - start):
        target[at + k] = source[start + k]


@kernel(
    f"void({BYTES_TYPE}, int64[::1], int64[::1], int64[::1], {_INTS}, {_INTS}, {BYTES_TYPE}, int64[::1], "
    "int64[::1], uint8[::1])"
)
def _write(
    data: Any,
    offsets: Any,
    first: Any,
    last: Any,
    start: Any,
    stop: Any,
    added: Any,
    added_offsets: Any,
    out_offsets: Any,
    out: Any,
) -> None:
    for row in range(len(first)):
        at = out_offsets[row]
        if out_offsets[row + 1] == at:
            continue
        begin, copied = offsets[row], 0
        for k in range(first[row], last[row]):
            _copy(data, begin + copied, begin + start[k], out, at)
            at += start[k] - copied
            _copy(added, added_offsets[k], added_offsets[k + 1], out, at)
            at += added_offsets[k + 1] - added_offsets[k]
            copied = stop[k]
        _copy(data, begin + copied, offsets[row + 1], out, at)


def count_words(text: pa.Array) -> npt.NDArray[np.int64]:
    """How many words `str.split()` finds in each text; null has none."""
    buffers = text_buffers(text)
    counts = np.zeros(len(buffers), np.int64)
    _count_words(buffers.data, buffers.offsets, buffers.valid, character_classes(), counts)
    return counts


@kernel(f"void({BYTES_TYPE}, int64[::1], {VALID_TYPE}, {CLASSES_TYPE}, int64[::1])")
def _count_words(data: Any, offsets: Any, valid: Any, classes: Any, counts: Any) -> None:
    for row in range(len(valid)):
        if not valid[row]:
            continue
        spaced_before: Any = 1
        at, end = offsets[row], offsets[row + 1]
        while at < end:
            point: Any = np.int64(data[at])
            at += 1
            if point >= 0x80:
                point, at = decode(data, at - 1, end)
            spaced = np.int64(classes[point] & SPACE)
            counts[row] += spaced_before & ~spaced
            spaced_before = spaced
