"""How much of a text is left when it is read as HTML: a scan for tags, without a tree."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..kernels import kernel
from .characters import BYTES_TYPE, CLASSES_TYPE, SPACE, decode

_LETTERS: Final = "Array(uint8, 1, 'C', readonly=True)"
_SCRIPT: Final = np.frombuffer(b"script", np.uint8)
_STYLE: Final = np.frombuffer(b"style", np.uint8)
_HTML: Final = np.frombuffer(b"<html", np.uint8)
_DOCTYPE: Final = np.frombuffer(b"<!doctype html", np.uint8)
_LESS: Final = 0x3C
_GREATER: Final = 0x3E


@kernel(f"boolean({BYTES_TYPE}, int64, int64, {_LETTERS})", forceinline=True)
def reads(data: Any, at: int, end: int, letters: Any) -> bool:
    """Whether data[at:end] begins with `letters` (none of them capital), the case of ASCII letters aside."""
    if end - at < len(letters):
        return False
    for k in range(len(letters)):
        byte: Any = np.int64(data[at + k])
        if 0x41 <= byte <= 0x5A:
            byte += 0x20
        if byte != letters[k]:
            return False
    return True


@kernel(f"boolean({BYTES_TYPE}, int64, int64, {CLASSES_TYPE})")
def opens_html(data: Any, begin: int, end: int, classes: Any) -> bool:
    """Whether data[begin:end] begins, after white space, as an HTML document does."""
    at = begin
    while at < end:
        point, after = decode(data, at, end)
        if (classes[point] & SPACE) == 0:
            break
        at = after
    return reads(data, at, end, _HTML) or reads(data, at, end, _DOCTYPE)


@kernel(f"int64({BYTES_TYPE}, int64, int64)")
def _after_comment(data: Any, at: int, end: int) -> int:
    while at + 3 <= end:
        if data[at] == 0x2D and data[at + 1] == 0x2D and data[at + 2] == _GREATER:
            return at + 3
        at += 1
    return end


@kernel(f"int64({BYTES_TYPE}, int64, int64)")
def _after_tag(data: Any, at: int, end: int) -> int:
    """Where the tag ends that `at` is in; ">" between quotation marks that follow "=" does not end it."""
    equals = False
    while at < end:
        byte = data[at]
        at += 1
        if byte == _GREATER:
            return at
        if equals and (byte == 0x22 or byte == 0x27):
            while at < end and data[at] != byte:
                at += 1
            at = min(at + 1, end)
            equals = False
        elif byte == 0x3D:
            equals = True
        elif byte != 0x20 and not 0x09 <= byte <= 0x0D:
            equals = False
    return end


@kernel(f"int64({BYTES_TYPE}, int64, int64, {_LETTERS})")
def _end_of_raw_text(data: Any, at: int, end: int, name: Any) -> int:
    """Where the end tag of an element of this name begins."""
    while at + 2 < end:
        if data[at] == _LESS and data[at + 1] == 0x2F and reads(data, at + 2, end, name):
            return at
        at += 1
    return end


@kernel(f"boolean({BYTES_TYPE}, int64, int64, {_LETTERS})", forceinline=True)
def _is_named(data: Any, at: int, end: int, name: Any) -> bool:
    if not reads(data, at, end, name):
        return False
    after = at + len(name)
    return after == end or data[after] in (0x20, 0x09, 0x0A, 0x0C, 0x0D, 0x2F, _GREATER)


@kernel(f"int64({BYTES_TYPE}, int64, int64)")
def count_html_text(data: Any, begin: int, end: int) -> int:
    """Characters of data[begin:end] outside of tags, comments, declarations, scripts and styles."""
    chars, at = 0, begin
    while at < end:
        after = data[at + 1] if at + 1 < end else np.uint8(0)
        if data[at] != _LESS or not (
            after == 0x21 or after == 0x2F or after == 0x3F or 0x61 <= (after | 0x20) <= 0x7A
        ):
            chars += (data[at] & 0xC0) != 0x80
            at += 1
            continue
        if after == 0x21 and at + 4 <= end and data[at + 2] == 0x2D and data[at + 3] == 0x2D:
            at = _after_comment(data, at + 4, end)
            continue
        script, style = _is_named(data, at + 1, end, _SCRIPT), _is_named(data, at + 1, end, _STYLE)
        at = _after_tag(data, at + 2, end)
        if script:
            at = _end_of_raw_text(data, at, end, _SCRIPT)
        elif style:
            at = _end_of_raw_text(data, at, end, _STYLE)
    return chars
