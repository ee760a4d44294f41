"""Text as CCNet shows it to its tokenizer and language model.

Wenzek et al. 2020, arXiv:1911.00359, section 3.3; what is done to each character follows `normalize` in
cc_net/text_normalizer.py of facebookresearch/cc_net with its default arguments.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..kernels import kernel
from .buffers import VALID_TYPE, text_buffers
from .characters import BYTES_TYPE, CLASSES_TYPE, SPACE, character_classes, decode

CCNET_VERSION: Final = 1  # changes whenever the normal form of some text does

# CCNet maps the full-width digit one to a quotation mark too; digits are zeros before that can happen.
PUNCTUATION: Final = {
    **dict.fromkeys("„”“«»」「《》", '"'),
    **dict(zip("，、。´’∶：；？！（）〈〉【】–━►～％", ",,.''::;?!()<>[]---~%", strict=True)),
    "．": ". ",
    "…": "...",
    "—": " - ",
}

_SIGMA: Final = "\u03a3"
_AS_IT_IS: Final = 0  # entries of the table: a character that stays
_IN_CONTEXT: Final = -1  # one whose normal form depends on its neighbours
_DELETED: Final = 0  # entry of the ASCII table, which holds the byte to write
_TABLE_TYPE: Final = "Array(int32, 1, 'C', readonly=True)"


class _Tables(NamedTuple):
    """What becomes of each character."""

    ascii: npt.NDArray[np.uint8]  # [128]
    entries: npt.NDArray[np.int32]  # [0x110000]; above 0: 1 + (where it begins in `forms` << 8 | its length)
    forms: npt.NDArray[np.uint8]  # UTF-8
    growth: int  # most bytes that one byte can become


def normalize(text: pa.Array) -> pa.LargeStringArray:
    """The normal form of each text of a string array; null stays null.

    White space at both ends goes, letters become lower case, all is decomposed (NFD) and loses its marks that
    take no room (category Mn), decimal digits become 0, marks of punctuation beyond ASCII become ASCII's, and
    control characters go: the ends of lines too, with nothing in their place, so that a text is one line.
    Follows the Unicode database of the running Python, as CCNet does.
    """
    buffers = text_buffers(text)
    normal, in_context = _run(buffers.data, buffers.offsets, buffers.valid, _tables(False))
    if in_context.any():
        # A last sigma, and marks that NFD reorders: Python knows both, and nothing that it gives back
        # depends on neighbours any more.
        mask = pa.array(in_context)
        plain = [unicodedata.normalize("NFD", value.lower()) for value in text.filter(mask).to_pylist()]
        whole = pc.replace_with_mask(text.cast(pa.large_string()), mask, pa.array(plain, pa.large_string()))
        buffers = text_buffers(whole)
        normal, _ = _run(buffers.data, buffers.offsets, buffers.valid, _tables(True))
    return normal


def _run(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    valid: npt.NDArray[np.bool_],
    tables: _Tables,
) -> tuple[pa.LargeStringArray, npt.NDArray[np.bool_]]:
    n = len(valid)
    # Memory that is never written is never taken, so the bound on the size costs nothing.
    room = int(offsets[-1] - offsets[0]) * tables.growth
    out, ends = np.empty(room, np.uint8), np.zeros(n + 1, np.int64)
    in_context = np.zeros(n, np.bool_)
    _normalize(
        data,
        offsets,
        valid,
        character_classes(),
        tables.ascii,
        tables.entries,
        tables.forms,
        out,
        ends,
        in_context,
    )
    mask = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    kept = pa.py_buffer(out[: ends[-1]])
    return pa.LargeStringArray.from_buffers(n, pa.py_buffer(ends), kept, mask), in_context


@functools.cache
def _tables(prepared: bool) -> _Tables:
    """`prepared`: texts are lower case and in NFD already, so that no character depends on its neighbours."""
    entries = np.zeros(0x110000, np.int32)
    forms, growth = bytearray(), 1
    for plane in (range(0x80, 0xD800), range(0xE000, 0x40000), range(0xE0000, 0xE1000)):
        for point in plane:
            character = chr(point)
            whole = unicodedata.normalize("NFD", character.lower())
            bare = [part for part in whole if unicodedata.category(part) != "Mn"]
            if not prepared and (character == _SIGMA or any(map(unicodedata.combining, bare))):
                entries[point] = _IN_CONTEXT
                continue
            form = "".join(map(_final_form, bare))
            if form != character:
                encoded = form.encode()
                entries[point] = 1 + (len(forms) << 8 | len(encoded))
                forms += encoded
                growth = max(growth, -(-len(encoded) // len(character.encode())))
    ascii_ = [_final_form(chr(byte).lower()) for byte in range(128)]
    table = np.array([ord(form) if form else _DELETED for form in ascii_], np.uint8)
    return _Tables(table, entries, np.frombuffer(bytes(forms), np.uint8), growth)


def _final_form(character: str) -> str:
    """What a lower-case character without marks becomes."""
    if character < " " or "\x7f" <= character < "\xa0":
        return ""
    return "0" if character.isdecimal() else PUNCTUATION.get(character, character)


@kernel(
    f"void({BYTES_TYPE}, int64[::1], {VALID_TYPE}, {CLASSES_TYPE}, {BYTES_TYPE}, {_TABLE_TYPE}, "
    f"{BYTES_TYPE}, uint8[::1], int64[::1], boolean[::1])"
)
def _normalize(
    data: Any,
    offsets: Any,
    valid: Any,
    classes: Any,
    ascii: Any,
    entries: Any,
    forms: Any,
    out: Any,
    ends: Any,
    in_context: Any,
) -> None:
    """Writes the normal forms one after another, ends[i + 1] behind text i."""
    written = 0
    for i in range(len(valid)):
        ends[i] = written
        if not valid[i]:
            continue
        at, stop = offsets[i], offsets[i + 1]
        last = at  # behind the last character that is not white space
        first: Any = np.int64(-1)
        seek = at
        while seek < stop:
            point, after = decode(data, seek, stop)
            if (classes[point] & SPACE) == 0:
                first = seek
                break
            seek = after
        if first < 0:
            continue
        # White space has at most three bytes: look back from the end.
        last = stop
        while last > first:
            begin = last - 1
            while begin > first and (data[begin] & 0xC0) == 0x80:
                begin -= 1
            point, after = decode(data, begin, last)
            if (classes[point] & SPACE) == 0:
                break
            last = begin
        at = first
        while at < last:
            byte = data[at]
            if byte < 0x80:
                form = ascii[byte]
                out[written] = form
                written += form != 0
                at += 1
                continue
            point, after = decode(data, at, last)
            entry = entries[point]
            if entry == 0:
                for k in range(at, after):
                    out[written] = data[k]
                    written += 1
            elif entry < 0:
                in_context[i] = True
                break
            else:
                begin = (entry - 1) >> 8
                for k in range(begin, begin + ((entry - 1) & 0xFF)):
                    out[written] = forms[k]
                    written += 1
            at = after
    ends[len(valid)] = written
