"""Phone numbers among groups of digits, international and national; 0 is no match."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...kernels import kernel
from ..characters import BYTES_TYPE
from .addresses import is_digit, is_letter, is_word
from .numbers import (
    DOT,
    GROUPS_TYPE,
    HYPHEN,
    OPEN,
    PARENTHESES,
    SEPARATOR,
    SLASH,
    SPACE,
    STOP,
    closes,
    group_digit,
    group_length,
)

# Country calling codes (ITU-T E.164) as libphonenumber lists them.
_CALLING_CODES: Final = (
    "1 7 20 27 30-34 36 39-41 43-49 51-58 60-66 81-82 84 86 90-95 98 211-213 216 218 220-258 260-269 290-291 "
    "297-299 350-359 370-378 380-383 385-387 389 420-421 423 500-509 590-599 670 672-683 685-692 800 808 850 "
    "852-853 855-856 870 878 880-883 886 888 960-968 970-977 979 992-996 998"
)

# What announces a phone number, in lower case; our list. Of a longer word the last eight bytes count, and
# what is written without spaces is looked for at the end of what precedes.
_LABELS: Final = (
    "tel phone telephone ph fon telefon telefono teléfono téléphone tél tlf fax telefax mobile mobil "
    "cell call gsm handy hotline whatsapp тел телефон факс"
)
_UNSPACED_LABELS: Final = "电话 電話 手机 手機 传真 傳真"


def calling_codes() -> npt.NDArray[np.bool_]:
    """For each number below 1000 whether it is a country calling code."""
    table = np.zeros(1000, np.bool_)
    for item in _CALLING_CODES.split():
        first, _, last = item.partition("-")
        table[int(first) : int(last or first) + 1] = True
    return table


def phone_labels() -> npt.NDArray[np.uint64]:
    """The words that announce a phone number, as numbers of their last eight bytes; the unspaced last."""
    names = [*_LABELS.split(), *_UNSPACED_LABELS.split()]
    return np.array([int.from_bytes(name.encode()[-8:], "big") for name in names], np.uint64)


_UNSPACED: Final = len(_UNSPACED_LABELS.split())
_SIX_BYTES: Final = np.uint64(2**48 - 1)


@kernel(f"boolean({BYTES_TYPE}, int64, int64)")
def _follows_number(data: Any, begin: int, at: int) -> bool:
    return at - begin > 1 and data[at - 1] == SPACE and is_digit(data[at - 2])


@kernel(f"boolean({BYTES_TYPE}, int64, int64, uint64[::1])")
def _is_labelled(data: Any, begin: int, at: int, labels: Any) -> bool:
    """Whether a word of phone_labels precedes, with at most four characters of punctuation between."""
    pos, skipped = at, 0
    while pos > begin and skipped < 4:
        byte = data[pos - 1]
        if is_word(byte):
            break
        if byte >= 0x80:
            if pos - begin < 3 or data[pos - 3] != 0xEF or data[pos - 2] != 0xBC or byte != 0x9A:
                break
            pos -= 2  # the full-width colon
        pos -= 1
        skipped += 1
    packed = np.uint64(0)
    n = 0
    while pos > begin and n < 8 and (is_letter(data[pos - 1]) or data[pos - 1] >= 0x80):
        byte = data[pos - 1]
        folded = byte | 0x20 if byte < 0x80 else byte
        packed |= np.uint64(folded) << np.uint64(8 * n)
        n += 1
        pos -= 1
    if n < 8 and pos > begin and is_word(data[pos - 1]):
        return False
    for k in range(len(labels)):
        if packed == labels[k]:
            return True
        if k >= len(labels) - _UNSPACED and (packed & _SIX_BYTES) == labels[k]:
            return True
    return False


@kernel(f"int64({BYTES_TYPE}, int64, {GROUPS_TYPE}, int64)")
def _match_north_american(data: Any, end: int, groups: Any, count: int) -> int:
    """[1] NXX NXX-XXXX, where N is 2 to 9.

    Unlike in Dolma's rule, spaces alone do not do, unless the area code is in parentheses or 1 precedes.
    """
    k = 1 if count > 3 and group_length(groups, 0) == 1 and group_digit(data, groups, 0, 0) == 1 else 0
    if count < k + 2 or group_length(groups, k) != 3 or group_digit(data, groups, k, 0) < 2:
        return 0
    if group_digit(data, groups, k + 1, 0) < 2:
        return 0
    if groups[k, PARENTHESES] and group_length(groups, k + 1) == 7 and closes(data, end, groups, k + 1):
        return int(groups[k + 1, STOP])
    if count < k + 3 or group_length(groups, k + 1) != 3 or group_length(groups, k + 2) != 4:
        return 0
    one, two = groups[k, SEPARATOR], groups[k + 1, SEPARATOR]
    if k == 1 and groups[0, SEPARATOR] == DOT and one != DOT:
        return 0  # digits of a decimal, in groups
    spaced = one == SPACE and two == SPACE and k == 1
    alike = one == two and one in (HYPHEN, DOT)
    area = groups[k, PARENTHESES] and two in (HYPHEN, DOT, SPACE)
    if not (spaced or alike or area or (one == SPACE and two == HYPHEN)):
        return 0
    return int(groups[k + 2, STOP]) if closes(data, end, groups, k + 2) else 0


@kernel(f"int64({BYTES_TYPE}, int64, {GROUPS_TYPE}, int64)")
def _match_pairs(data: Any, end: int, groups: Any, count: int) -> int:
    """Five pairs after the French fashion: 01 23 45 67 89, with one kind of separator."""
    if count < 5 or group_digit(data, groups, 0, 0) != 0 or groups[0, SEPARATOR] == SLASH:
        return 0
    for k in range(5):
        if group_length(groups, k) != 2 or (k < 4 and groups[k, SEPARATOR] != groups[0, SEPARATOR]):
            return 0
    if group_digit(data, groups, 0, 1) == 0 or (count > 5 and group_length(groups, 5) == 2):
        return 0
    return int(groups[4, STOP]) if closes(data, end, groups, 4) else 0


@kernel(f"int64({BYTES_TYPE}, int64, {GROUPS_TYPE}, int64)")
def _match_trunk(data: Any, end: int, groups: Any, count: int) -> int:
    """0, an area code and a number: 9 to 11 digits in two to four groups, with no dots between them."""
    if count < 2 or group_digit(data, groups, 0, 0) != 0:
        return 0
    area = group_length(groups, 0)
    if (
        area < 2
        or area > 5
        or group_digit(data, groups, 0, 1) == 0
        or (area == 2 and group_length(groups, 1) < 3)
    ):
        return 0
    total, stop = area, 0
    for k in range(1, min(count, 4)):
        separator = groups[k - 1, SEPARATOR]
        if separator in (DOT, OPEN) or (k > 2 and separator != groups[1, SEPARATOR]):
            break
        total += group_length(groups, k)
        if total > 11:
            break
        long_enough = group_length(groups, k) > 2 and (k > 1 or group_length(groups, 1) > 4)
        if total >= 9 and long_enough and closes(data, end, groups, k):
            stop = groups[k, STOP]
    return int(stop)


@kernel(f"boolean({GROUPS_TYPE}, int64)")
def _is_date_or_address(groups: Any, count: int) -> bool:
    """Day, month and year in either order; or four groups of at most three digits between dots."""
    if count >= 3 and groups[0, SEPARATOR] == groups[1, SEPARATOR] and group_length(groups, 1) <= 2:
        one, three = group_length(groups, 0), group_length(groups, 2)
        if (one <= 2 and three == 4) or (one == 4 and three <= 2):
            return True
    dotted = count == 4
    for k in range(min(count, 4)):
        dotted = dotted and group_length(groups, k) <= 3 and (k == 3 or groups[k, SEPARATOR] == DOT)
    return dotted


@kernel(f"int64({BYTES_TYPE}, int64, int64, boolean[::1], {GROUPS_TYPE}, int64, int64)")
def match_international(
    data: Any, begin: int, end: int, codes: Any, groups: Any, count: int, prefix: int
) -> int:
    """Where the number of `groups` ends: `prefix` digits (those of "00"), a calling code, 7 to 13 digits.

    Numbers of the codes 1 and 7 have ten digits, those of 1 as in _match_north_american; elsewhere a number
    does not begin with 00, so that a round sum is none. A single dot makes a decimal.
    """
    if count == 0:
        return 0
    code, size = 0, 0
    for i in range(3):
        if prefix + i < group_length(groups, 0) and size == 0:
            code = code * 10 + group_digit(data, groups, 0, prefix + i)
            if codes[code]:
                size = i + 1
    if size == 0:
        return 0
    total, stop, dots = -prefix - size, 0, 0
    leading = np.empty(4, np.int64)
    leading[:] = -1
    for k in range(count):
        if not (
            k > 0
            and groups[k, PARENTHESES]
            and group_length(groups, k) == 1
            and group_digit(data, groups, k, 0) == 0
        ):
            for i in range(group_length(groups, k)):
                if total >= 0 and total < 4:
                    leading[total] = group_digit(data, groups, k, i)
                total += 1
        if stop and groups[k - 1, SEPARATOR] == SPACE and (total > 11 or group_length(groups, k) == 1):
            break
        if total + size > 15 or ((code == 1 or code == 7) and total > 10):
            break
        enough = total == 10 if code == 1 or code == 7 else total >= 7 + (prefix > 0)
        if enough and dots != 1 and closes(data, end, groups, k):
            stop = groups[k, STOP]
        dots += groups[k, SEPARATOR] == DOT
    if code == 1 and (leading[0] < 2 or leading[3] < 2):
        return 0
    return 0 if leading[0] == 0 and leading[1] == 0 else int(stop)


@kernel(f"int64({BYTES_TYPE}, int64, int64, int64, boolean[::1], uint64[::1], {GROUPS_TYPE}, int64)")
def match_national(
    data: Any, begin: int, end: int, at: int, codes: Any, labels: Any, groups: Any, count: int
) -> int:
    """Where the phone number of `groups`, which begins at `at` without a plus, ends (see numbers.opens).

    Without a word such as "Tel." before it only three forms count, the North American, the French and the
    one with a trunk 0, and the international one after 00; after such a word any 7 to 15 digits that are
    neither a date nor an IP address.
    """
    if count == 0:
        return 0
    stop = _match_north_american(data, end, groups, count)
    if stop == 0 and not _follows_number(data, begin, at):
        stop = _match_pairs(data, end, groups, count)
        if stop == 0:
            stop = _match_trunk(data, end, groups, count)
        doubled = (
            group_length(groups, 0) > 2
            and group_digit(data, groups, 0, 0) == 0
            and group_digit(data, groups, 0, 1) == 0
        )
        if stop == 0 and doubled and count > 1:
            stop = match_international(data, begin, end, codes, groups, count, 2)
    if stop == 0 and not _is_date_or_address(groups, count) and _is_labelled(data, begin, at, labels):
        total = 0
        for k in range(count):
            # what follows a whole number after a space is something else
            if stop and total > 9 and groups[k - 1, SEPARATOR] == SPACE:
                break
            total += group_length(groups, k)
            if total > 15:
                break
            if total >= 7 and closes(data, end, groups, k):
                stop = groups[k, STOP]
    return int(stop)
