"""The pass over a batch that finds candidates, looking closer only where a byte asks for it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...kernels import kernel
from ..buffers import VALID_TYPE
from ..characters import BYTES_TYPE
from .addresses import is_digit, is_letter, is_word, match_email, match_ipv4, match_ipv6
from .keys import AWS, GENERIC, GITHUB, GOOGLE, JWT, PEM, SLACK
from .numbers import GROUP_COLUMNS, LAST, MAX_GROUPS, opens, read_groups
from .payments import match_card, match_iban
from .phones import match_international, match_national

# Kinds in the order of their priority.
KEY, IBAN, CARD, EMAIL, IP, PHONE = range(6)
# The bytes at which a kind of PII is looked for. AWS's and Google's keys begin with A, a JSON Web Token
# with "eyJ", where J is the rare one; GitHub's and Slack's prefixes end in _ and -.
ANCHORS: Final = {
    KEY: b"AJ_-=:",
    IBAN: b"0123456789",
    CARD: b"0123456789",
    EMAIL: b"@",
    IP: b"0123456789:",
    PHONE: b"0123456789+(",
}
# Columns of a candidate; `detail` is which key it is, `sign` where the sign of an assignment is.
DOCUMENT, KIND, START, STOP, DETAIL, SIGN = range(6)
CANDIDATE_COLUMNS: Final = 6
_MIN_SECRET, _MAX_SECRET = 16, 256  # bytes of a generic secret; ours
_FOUND_TYPE: Final = "int64[:, ::1]"


def anchors(kinds: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """For each byte whether one of the wanted kinds is looked for there."""
    table = np.zeros(256, np.bool_)
    for kind, bytes_ in ANCHORS.items():
        if kinds[kind]:
            table[list(bytes_)] = True
    return table


@kernel(f"int64({BYTES_TYPE}, int64, int64, boolean[::1])")
def _next_anchor(data: Any, at: int, end: int, anchored: Any) -> int:
    # a loop of its own, for the compiler keeps little in registers across a long body
    for k in range(at, end):
        if anchored[data[k]]:
            return k
    return end


@kernel(f"{_FOUND_TYPE}({_FOUND_TYPE}, int64, int64, int64, int64, int64, int64, int64)")
def _add(found: Any, n: int, document: int, kind: int, start: int, stop: int, detail: int, sign: int) -> Any:
    if n == found.shape[0]:
        larger = np.empty((2 * n, CANDIDATE_COLUMNS), np.int64)
        larger[:n] = found
        found = larger
    row = found[n]
    row[DOCUMENT], row[KIND], row[START], row[STOP] = document, kind, start, stop
    row[DETAIL], row[SIGN] = detail, sign
    return found


@kernel(f"boolean({BYTES_TYPE}, int64, int64, int64, int64, int64)", forceinline=True)
def _reads(data: Any, at: int, a: int, b: int, c: int, d: int) -> bool:
    return bool(data[at] == a and data[at + 1] == b and data[at + 2] == c and data[at + 3] == d)


@kernel(f"UniTuple(int64, 2)({BYTES_TYPE}, int64, int64, int64)")
def _key_prefix(data: Any, begin: int, end: int, at: int) -> Any:
    """Which key may be around `at`, and where it begins; -1 is none."""
    byte = data[at]
    kind, start = -1, at
    if byte == 0x41 and end - at > 3:  # A
        if _reads(data, at, 0x41, 0x49, 0x7A, 0x61):  # AIza
            kind = GOOGLE
        elif data[at + 3] == 0x41 and (
            _reads(data, at, 0x41, 0x4B, 0x49, 0x41)  # AKIA
            or _reads(data, at, 0x41, 0x53, 0x49, 0x41)  # ASIA
            or _reads(data, at, 0x41, 0x42, 0x49, 0x41)  # ABIA
            or _reads(data, at, 0x41, 0x43, 0x43, 0x41)  # ACCA
        ):
            kind = AWS
    elif byte == 0x4A and at - begin > 1 and data[at - 1] == 0x79 and data[at - 2] == 0x65:  # eyJ
        kind, start = JWT, at - 2
    elif byte == 0x5F and at - begin > 2:
        if data[at - 3] == 0x67 and data[at - 2] == 0x68:  # gh?_
            kind, start = GITHUB, at - 3
        elif at - begin > 9 and _reads(data, at - 10, 0x67, 0x69, 0x74, 0x68):  # github_pat_
            kind, start = GITHUB, at - 10
    elif byte == 0x2D:
        if at - begin > 3 and data[at - 4] == 0x78 and data[at - 3] == 0x6F and data[at - 2] == 0x78:  # xox?-
            kind, start = SLACK, at - 4
        elif end - at > 10 and _reads(data, at + 4, 0x2D, 0x42, 0x45, 0x47):  # -----BEGIN
            return PEM, at
    if kind >= 0 and start > begin and (is_word(data[start - 1]) or data[start - 1] == 0x2D):
        kind = -1
    return kind, start


@kernel(f"UniTuple(int64, 2)({BYTES_TYPE}, int64, int64)")
def _secret(data: Any, end: int, at: int) -> Any:
    """The value assigned by the `=` or `:` at `at`, if it may be a secret: long, with digits and letters.

    It is quoted, or it follows `=` directly, as in a file of settings and in a URL.
    """
    pos = at + 1
    if pos < end and data[pos] == 0x3E:  # =>
        pos += 1
    spaces = 0
    while pos < end and spaces < 3 and (data[pos] == 0x20 or data[pos] == 0x09):
        pos += 1
        spaces += 1
    if pos >= end:
        return 0, 0
    quote = data[pos]
    quoted = quote == 0x22 or quote == 0x27 or quote == 0x60
    if quoted:
        pos += 1
    elif spaces > 0 or data[at] != 0x3D:
        return 0, 0
    start = pos
    digits, letters = 0, 0
    while pos < end and pos - start <= _MAX_SECRET:
        byte = data[pos]
        digit, letter = is_digit(byte), is_letter(byte)
        # _ - + / ~
        other = byte == 0x5F or byte == 0x2D or byte == 0x2B or byte == 0x2F or byte == 0x7E
        if not (digit or letter or other):
            break
        digits += digit
        letters += letter
        pos += 1
    size = pos - start
    if size < _MIN_SECRET or size > _MAX_SECRET or digits == 0 or letters == 0 or data[start] == 0x2F:
        return 0, 0
    while pos < end and pos - start - size < 2 and data[pos] == 0x3D:
        pos += 1
    if quoted and (pos >= end or data[pos] != quote):
        return 0, 0
    return start, pos


@kernel(
    f"Tuple(({_FOUND_TYPE}, int64))({BYTES_TYPE}, int64[::1], {VALID_TYPE}, boolean[::1], boolean[::1], "
    "boolean, boolean[::1], uint64[::1], int64[:, ::1], int64[::1])"
)
def scan(
    data: Any,
    offsets: Any,
    valid: Any,
    anchored: Any,
    wanted: Any,
    private_ips: bool,
    calling_codes: Any,
    phone_labels: Any,
    card_issuers: Any,
    iban_lengths: Any,
) -> Any:
    """Candidates by document and place, and how many; all but the keys are decided. Skips null documents."""
    found = np.empty((256, CANDIDATE_COLUMNS), np.int64)
    groups = np.empty((MAX_GROUPS, GROUP_COLUMNS), np.int64)
    n = 0
    for document in range(len(valid)):
        if not valid[document]:
            continue
        begin, end = offsets[document], offsets[document + 1]
        at = begin
        while at < end:
            at = _next_anchor(data, at, end, anchored)
            if at == end:
                break
            byte = data[at]
            if is_digit(byte):
                if wanted[IBAN]:
                    stop = match_iban(data, begin, end, at - 2, iban_lengths)
                    if stop:
                        found = _add(found, n, document, IBAN, at - 2, stop, 0, 0)
                        n += 1
                if wanted[IP]:
                    stop = match_ipv4(data, begin, end, at, private_ips)
                    if stop:
                        found = _add(found, n, document, IP, at, stop, 0, 0)
                        n += 1
                if (wanted[CARD] or wanted[PHONE]) and opens(data, begin, at):
                    count = read_groups(data, end, at, False, groups)
                    stop = 0
                    if wanted[CARD]:
                        stop = match_card(data, end, card_issuers, groups, count)
                    if stop:
                        found = _add(found, n, document, CARD, at, stop, 0, 0)
                        n += 1
                    stop = 0
                    if wanted[PHONE]:
                        stop = match_national(
                            data, begin, end, at, calling_codes, phone_labels, groups, count
                        )
                    if stop:
                        found = _add(found, n, document, PHONE, at, stop, 0, 0)
                        n += 1
                while at < end and is_digit(data[at]):
                    at += 1
                continue
            if byte == 0x40:
                start, stop = match_email(data, begin, end, at)
                if stop:
                    found = _add(found, n, document, EMAIL, start, stop, 0, 0)
                    n += 1
            elif byte == 0x2B:
                opened = at > begin and data[at - 1] == 0x28
                before = at - opened
                follows = at + 1 < end and (is_digit(data[at + 1]) or data[at + 1] == 0x28)
                if follows and (
                    before == begin or not (is_word(data[before - 1]) or data[before - 1] == 0x2B)
                ):
                    count = read_groups(data, end, at + 1, False, groups)
                    if opened and count > 0 and groups[0, LAST] < end and data[groups[0, LAST]] == 0x29:
                        # (+49) 30 901820, but not (+4930901820)
                        opened = read_groups(data, end, at + 1, True, groups) > 1
                        count = read_groups(data, end, at + 1, opened, groups)
                    else:
                        opened = False
                    before = at - opened
                    stop = match_international(data, begin, end, calling_codes, groups, count, 0)
                    if stop:
                        found = _add(found, n, document, PHONE, before, stop, 0, 0)
                        n += 1
            elif byte == 0x28:
                if at + 1 < end and is_digit(data[at + 1]) and opens(data, begin, at):
                    count = read_groups(data, end, at, False, groups)
                    stop = match_national(data, begin, end, at, calling_codes, phone_labels, groups, count)
                    if stop:
                        found = _add(found, n, document, PHONE, at, stop, 0, 0)
                        n += 1
            else:
                if byte == 0x3A and wanted[IP]:
                    start, stop = match_ipv6(data, begin, end, at, private_ips)
                    if stop:
                        found = _add(found, n, document, IP, start, stop, 0, 0)
                        n += 1
                if wanted[KEY]:
                    if byte == 0x3A or byte == 0x3D:
                        start, stop = _secret(data, end, at)
                        if stop:
                            found = _add(found, n, document, KEY, start, stop, GENERIC, at)
                            n += 1
                    else:
                        which, start = _key_prefix(data, begin, end, at)
                        if which >= 0:
                            found = _add(found, n, document, KEY, start, start, which, at)
                            n += 1
            at += 1
    return found, n


@kernel("int64(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1])")
def choose(start: Any, stop: Any, kind: Any, order: Any, chosen: Any) -> int:
    """Fills `chosen` with the candidates that stay, by place, and returns how many there are.

    `order` sorts them by kind and start. The better kind stays, and of one kind what begins first.
    """
    n = 0
    before = np.empty(len(order), np.int64)
    at = 0
    while at < len(order):
        last = at
        while last < len(order) and kind[order[last]] == kind[order[at]]:
            last += 1
        before[:n] = chosen[:n]
        kept, i, end = 0, 0, -1
        for k in range(at, last):
            one = order[k]
            while i < n and start[before[i]] < start[one]:
                chosen[kept] = before[i]
                end = max(end, stop[before[i]])
                kept += 1
                i += 1
            if start[one] < end or (i < n and start[before[i]] < stop[one]):
                continue
            chosen[kept] = one
            end = stop[one]
            kept += 1
        while i < n:
            chosen[kept] = before[i]
            kept += 1
            i += 1
        n, at = kept, last
    return n
