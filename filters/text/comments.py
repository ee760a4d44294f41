"""Comments of source code whose language is not known.

`hash` comments begin with "#" and go to the end of the line; a triple-quoted string that begins a line counts
too, for that is how Python writes its docstrings. `slashes` are "//" to the end of the line and "/*" to "*/".
`dashes` are "--" to the end of the line. What stands between two equal quotation marks (", ' or `) on one
line opens no comment, and a backslash there takes the next character with it; after a mark without a second
one, others of its kind on that line count for nothing. Marks count as characters of the comment, line ends
behind it do not.

`guess` takes the kind that opens the most lines; of "#" only where white space, "!", another "#" or the end
of the line follows, as it does not in a directive of C. On ties slashes go before hash and dashes.
"""

from __future__ import annotations

from typing import Any, Final

from ..kernels import kernel
from .characters import BYTES_TYPE

GUESS: Final = 0
HASH: Final = 1
SLASHES: Final = 2
DASHES: Final = 3
KINDS: Final = {"guess": GUESS, "hash": HASH, "slashes": SLASHES, "dashes": DASHES}

_HASH: Final = 0x23
_SLASH: Final = 0x2F
_STAR: Final = 0x2A
_DASH: Final = 0x2D
_NEWLINE: Final = 0x0A
_RETURN: Final = 0x0D
_BACKSLASH: Final = 0x5C
_DOUBLE: Final = 0x22
_SINGLE: Final = 0x27
_BACK: Final = 0x60


@kernel("boolean(int64)", forceinline=True)
def _ends_line(byte: int) -> bool:
    return byte in (_NEWLINE, _RETURN)


@kernel(f"int64({BYTES_TYPE}, int64, int64)")
def _end_of_line(data: Any, at: int, end: int) -> int:
    while at < end and not _ends_line(data[at]):
        at += 1
    return at


@kernel(f"int64({BYTES_TYPE}, int64, int64)")
def guess_comments(data: Any, begin: int, end: int) -> int:
    """The kind of comment that opens the most lines of data[begin:end]; GUESS where none does."""
    hashes, slashes, dashes = 0, 0, 0
    at = begin
    while at < end:
        while at < end and (data[at] == 0x20 or data[at] == 0x09):
            at += 1
        if at + 1 < end:
            first, second = data[at], data[at + 1]
            slashes += first == _SLASH and second in (_SLASH, _STAR)
            dashes += first == _DASH and second == _DASH
            hashes += first == _HASH and (
                second == 0x20 or second == 0x09 or second == 0x21 or second == _HASH or _ends_line(second)
            )
        elif at < end:
            hashes += data[at] == _HASH
        at = _end_of_line(data, at, end) + 1
    if slashes > 0 and slashes >= hashes and slashes >= dashes:
        return SLASHES
    if hashes > 0 and hashes >= dashes:
        return HASH
    return DASHES if dashes > 0 else GUESS


@kernel(f"boolean({BYTES_TYPE}, int64, int64)", forceinline=True)
def _opens_three(data: Any, at: int, end: int) -> bool:
    """Whether the quotation mark at `at` is the first of three."""
    return at + 3 <= end and data[at + 1] == data[at] and data[at + 2] == data[at] and data[at] != _BACK


@kernel(f"int64({BYTES_TYPE}, int64, int64)")
def _after_three(data: Any, at: int, end: int) -> int:
    """Where the string ends that three quotation marks before `at` have opened."""
    quote = data[at - 1]
    while at < end:
        if data[at] == _BACKSLASH:
            at += 2
        elif data[at] == quote and at + 3 <= end and data[at + 1] == quote and data[at + 2] == quote:
            return at + 3
        else:
            at += 1
    return end


@kernel(f"int64({BYTES_TYPE}, int64, int64)")
def _after_string(data: Any, at: int, end: int) -> int:
    """Where to go on from a quotation mark at `at`: behind the second one, or `at` if the line has none."""
    quote, inside = data[at], at + 1
    while inside < end and not _ends_line(data[inside]):
        if data[inside] == quote:
            return inside + 1
        inside += 1
        inside += data[inside - 1] == _BACKSLASH and inside < end and not _ends_line(data[inside])
    return at


@kernel(f"int64({BYTES_TYPE}, int64, int64, int64)")
def _end_of_comment(data: Any, at: int, end: int, kind: int) -> int:
    """Where the comment ends that begins at `at`; `at` where none does."""
    if kind == HASH:
        return _end_of_line(data, at, end) if data[at] == _HASH else at
    if at + 1 >= end:
        return at
    if kind == DASHES:
        return _end_of_line(data, at, end) if data[at] == _DASH and data[at + 1] == _DASH else at
    if data[at] != _SLASH or (data[at + 1] != _SLASH and data[at + 1] != _STAR):
        return at
    if data[at + 1] == _SLASH:
        return _end_of_line(data, at, end)
    at += 2
    while at + 2 <= end:
        if data[at] == _STAR and data[at + 1] == _SLASH:
            return at + 2
        at += 1
    return end


@kernel(f"int64({BYTES_TYPE}, int64, int64)", forceinline=True)
def _characters(data: Any, start: int, stop: int) -> int:
    count = 0
    for at in range(start, stop):
        count += (data[at] & 0xC0) != 0x80
    return count


@kernel(f"int64({BYTES_TYPE}, int64, int64, int64)")
def count_comments(data: Any, begin: int, end: int, kind: int) -> int:
    """Characters of data[begin:end] in comments of this kind."""
    if kind == GUESS:
        kind = guess_comments(data, begin, end)
    if kind == GUESS:
        return 0
    chars, at, opens_line = 0, begin, True
    # The mark of which a second one was looked for in vain: to look again would take time squared.
    no_double, no_single, no_back = False, False, False
    while at < end:
        byte = data[at]
        after = _end_of_comment(data, at, end, kind)
        if after > at:
            chars += _characters(data, at, after)
        elif byte in (_DOUBLE, _SINGLE, _BACK):
            if kind == HASH and _opens_three(data, at, end):
                after = min(_after_three(data, at + 3, end), end)
                chars += _characters(data, at, after) if opens_line else 0
            elif not (
                (byte == _DOUBLE and no_double)
                or (byte == _SINGLE and no_single)
                or (byte == _BACK and no_back)
            ):
                after = _after_string(data, at, end)
                no_double = no_double or (byte == _DOUBLE and after == at)
                no_single = no_single or (byte == _SINGLE and after == at)
                no_back = no_back or (byte == _BACK and after == at)
        elif _ends_line(byte):
            no_double, no_single, no_back = False, False, False
        opens_line = _ends_line(byte) or (opens_line and (byte == 0x20 or byte == 0x09))
        at = max(after, at + 1)
    return chars
