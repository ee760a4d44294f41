"""Groups of digits in UTF-8 bytes, and where a number may begin and end; positions are those of `data`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ...kernels import kernel
from ..characters import BYTES_TYPE
from .addresses import is_digit, is_letter, is_word

GROUPS_TYPE: Final = "int64[:, ::1]"
# Columns of a group of digits: where they begin and end, where the group ends with its closing parenthesis,
# the separator before the next group (0: there is none), whether it is in parentheses.
FIRST, LAST, STOP, SEPARATOR, PARENTHESES = 0, 1, 2, 3, 4
GROUP_COLUMNS: Final = 5
MAX_GROUPS: Final = 8
MAX_DIGITS: Final = 19  # ISO/IEC 7812-1: the longest card number; E.164 stops at 15
SPACE, OPEN, CLOSE, HYPHEN, DOT, SLASH = 0x20, 0x28, 0x29, 0x2D, 0x2E, 0x2F


@kernel(f"int64({GROUPS_TYPE}, int64)", forceinline=True)
def group_length(groups: Any, k: int) -> int:
    return int(groups[k, LAST] - groups[k, FIRST])


@kernel(f"int64({BYTES_TYPE}, {GROUPS_TYPE}, int64, int64)", forceinline=True)
def group_digit(data: Any, groups: Any, k: int, i: int) -> int:
    return int(data[groups[k, FIRST] + i]) - 0x30


@kernel(f"int64({BYTES_TYPE}, int64, int64, boolean, {GROUPS_TYPE})")
def read_groups(data: Any, end: int, at: int, opened: bool, groups: Any) -> int:
    """Fills `groups` from the digit or parenthesis at `at`; returns how many there are.

    Between groups is one separator: space, no-break space, hyphen, dot, slash, or a parenthesis.
    """
    count, pos = 0, at
    while count < MAX_GROUPS:
        parentheses = opened
        if not opened and data[pos] == OPEN:
            parentheses = True
            pos += 1
        opened = False
        first = pos
        while pos < end and is_digit(data[pos]) and pos - first <= MAX_DIGITS:
            pos += 1
        if pos == first or pos - first > MAX_DIGITS:
            break
        row = groups[count]
        row[FIRST], row[LAST] = first, pos
        if parentheses:
            if pos >= end or data[pos] != CLOSE:
                break
            pos += 1
        row[STOP], row[SEPARATOR], row[PARENTHESES] = pos, 0, parentheses
        count += 1
        separator: Any = 0
        following = pos
        if pos < end:
            byte = np.int64(data[pos])
            if byte in (SPACE, HYPHEN, DOT, SLASH):
                separator, following = byte, pos + 1
            elif byte == 0xC2 and pos + 1 < end and data[pos + 1] == 0xA0:
                separator, following = SPACE, pos + 2
            elif byte == OPEN:
                separator = OPEN
            elif parentheses:
                separator = CLOSE
        inner = following
        if inner < end and data[inner] == OPEN:
            inner += 1
        if separator == 0 or inner >= end or not is_digit(data[inner]):
            break
        row[SEPARATOR] = separator
        pos = following
    return count


@kernel(f"boolean({BYTES_TYPE}, int64, int64)")
def opens(data: Any, begin: int, at: int) -> bool:
    """Whether a number may begin at `at`: in no word, no longer number, no price, no URL path."""
    if at == begin:
        return True
    before = data[at - 1]
    if is_word(before) or before == 0x24 or before == 0x25 or before == 0x2B or before == SLASH:
        return False
    if before in (HYPHEN, DOT, 0x2C, 0x3A):  # also , and :
        if at - begin > 1 and is_digit(data[at - 2]):
            return False
        return not (before == HYPHEN and at - begin > 1 and is_letter(data[at - 2]))
    # the signs of the pound and the yen, and of the euro
    if at - begin > 1 and data[at - 2] == 0xC2 and (before == 0xA3 or before == 0xA5):
        return False
    return not (at - begin > 2 and data[at - 3] == 0xE2 and data[at - 2] == 0x82 and before == 0xAC)


@kernel(f"boolean({BYTES_TYPE}, int64, {GROUPS_TYPE}, int64)")
def closes(data: Any, end: int, groups: Any, k: int) -> bool:
    """Whether a number may end with group k; an extension ("x12") may follow."""
    if groups[k, SEPARATOR] != 0:
        return bool(groups[k, SEPARATOR] == SPACE)
    pos = groups[k, STOP]
    if pos >= end:
        return True
    byte = data[pos]
    if is_word(byte):
        return bool(byte == 0x78 and pos + 1 < end and is_digit(data[pos + 1]))
    joins = byte in (HYPHEN, DOT, SLASH, 0x2C, 0x3A)
    return not (joins and pos + 1 < end and is_digit(data[pos + 1]))
