"""Card numbers and IBANs, told by their check digits; 0 is no match."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...kernels import kernel
from ..characters import BYTES_TYPE
from .addresses import is_digit, is_word
from .numbers import (
    GROUPS_TYPE,
    HYPHEN,
    MAX_DIGITS,
    SEPARATOR,
    SPACE,
    STOP,
    closes,
    group_digit,
    group_length,
)

# Issuer prefixes and lengths after braintree/credit-card-type; Maestro and the national schemes of Brazil and
# Nigeria are left out, for their prefixes and lengths take in most long numbers.
# First and last prefix, digits of the prefix, lengths.
_ISSUERS: Final = (
    (4, 4, 1, (16, 18, 19)),  # Visa
    (51, 55, 2, (16,)),  # Mastercard
    (2221, 2720, 4, (16,)),  # Mastercard
    (34, 34, 2, (15,)),  # American Express
    (37, 37, 2, (15,)),
    (300, 305, 3, (14, 16, 19)),  # Diners Club
    (36, 36, 2, (14, 16, 19)),
    (38, 39, 2, (14, 16, 19)),
    (6011, 6011, 4, (16, 19)),  # Discover
    (644, 649, 3, (16, 19)),
    (65, 65, 2, (16, 19)),
    (3528, 3589, 4, (16, 17, 18, 19)),  # JCB
    (620, 627, 3, (16, 17, 18, 19)),  # UnionPay
    (2200, 2204, 4, (16, 17, 18, 19)),  # Mir
)

# Lengths in SWIFT's IBAN registry (release 99), as Apache Commons Validator records them.
_IBAN_LENGTHS: Final = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 "
    "DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 "
    "IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 "
    "MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 "
    "SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)


def card_issuers() -> npt.NDArray[np.int64]:
    """Rows of first and last prefix, digits of the prefix, and a bit for each length."""
    return np.array(
        [(low, high, digits, sum(1 << n for n in lengths)) for low, high, digits, lengths in _ISSUERS],
        np.int64,
    )


def iban_lengths() -> npt.NDArray[np.int64]:
    """The length of an IBAN by country, AA first and ZZ last; 0 where there are none."""
    table = np.zeros(26 * 26, np.int64)
    for item in _IBAN_LENGTHS.split():
        table[(ord(item[0]) - 65) * 26 + ord(item[1]) - 65] = int(item[2:])
    return table


@kernel(f"int64({GROUPS_TYPE}, int64)")
def _card_groups(groups: Any, count: int) -> int:
    """How many groups look like a card number: one; 4-4-4-4 and up to three more; 4-6-5 or 4-6-4."""
    if group_length(groups, 0) >= 14:
        return 1
    separator = groups[0, SEPARATOR]
    if count < 3 or group_length(groups, 0) != 4 or groups[1, SEPARATOR] != separator:
        return 0
    if separator != SPACE and separator != HYPHEN:
        return 0
    if group_length(groups, 1) == 6:
        return 3 if group_length(groups, 2) == 5 or group_length(groups, 2) == 4 else 0
    if count < 4 or groups[2, SEPARATOR] != separator:
        return 0
    if group_length(groups, 1) != 4 or group_length(groups, 2) != 4 or group_length(groups, 3) != 4:
        return 0
    if count > 4 and groups[3, SEPARATOR] == separator and separator == HYPHEN:
        return 5
    return 4


@kernel(f"boolean({BYTES_TYPE}, {GROUPS_TYPE}, int64, int64[:, ::1])")
def is_card(data: Any, groups: Any, parts: int, issuers: Any) -> bool:
    """Whether the digits of the first `parts` groups have an issuer's prefix and length and Luhn's "
    "check digit."""
    digits = np.empty(MAX_DIGITS, np.int64)
    n = 0
    for k in range(parts):
        for i in range(group_length(groups, k)):
            if n == MAX_DIGITS:
                return False
            digits[n] = group_digit(data, groups, k, i)
            n += 1
    issued = False
    for row in range(len(issuers)):
        prefix = 0
        for i in range(min(issuers[row, 2], n)):
            prefix = prefix * 10 + digits[i]
        in_range = prefix >= issuers[row, 0] and prefix <= issuers[row, 1]
        issued = issued or (in_range and (issuers[row, 3] >> n) & 1 == 1)
    if not issued:
        return False
    total = 0
    for i in range(n):
        digit = digits[n - 1 - i]
        if i % 2 == 1:
            digit = 2 * digit - 9 if digit > 4 else 2 * digit
        total += digit
    return total % 10 == 0


@kernel(f"int64({BYTES_TYPE}, int64, int64[:, ::1], {GROUPS_TYPE}, int64)")
def match_card(data: Any, end: int, issuers: Any, groups: Any, count: int) -> int:
    """Where the card number of `groups` ends; a number may begin where they do (numbers.opens)."""
    if count == 0:
        return 0
    parts = _card_groups(groups, count)
    # a nineteen-digit number in spaces may be sixteen digits and something else
    longer = parts == 4 and count > 4 and groups[3, SEPARATOR] == SPACE and group_length(groups, 4) < 4
    if longer and is_card(data, groups, 5, issuers) and closes(data, end, groups, 4):
        return int(groups[4, STOP])
    if parts == 0 or not is_card(data, groups, parts, issuers) or not closes(data, end, groups, parts - 1):
        return 0
    return int(groups[parts - 1, STOP])


@kernel(f"int64({BYTES_TYPE}, int64, int64, int64, int64[::1])")
def match_iban(data: Any, begin: int, end: int, at: int, lengths: Any) -> int:
    """Where the IBAN that begins at `at`, with its country's two letters, ends.

    Upper case, the country's length, a remainder of 1 by 97 (ISO 13616, ISO 7064); a space may stand after
    every fourth character.
    """
    if at < begin or (at > begin and is_word(data[at - 1])):
        return 0
    for k in range(2):
        if data[at + k] < 0x41 or data[at + k] > 0x5A:
            return 0
    length = lengths[(np.int64(data[at]) - 0x41) * 26 + np.int64(data[at + 1]) - 0x41]
    if length == 0 or at + length > end or not is_digit(data[at + 3]):
        return 0
    opening = np.empty(4, np.int64)  # country and check digits, which are read last
    remainder, pos = 0, at
    for n in range(length + 4):
        if n >= length:
            value = opening[n - length]
        else:
            if n > 0 and n % 4 == 0 and pos < end and data[pos] == SPACE:
                pos += 1
            if pos >= end:
                return 0
            byte = np.int64(data[pos])
            pos += 1
            if byte >= 0x30 and byte <= 0x39:
                value = byte - 0x30
            elif byte >= 0x41 and byte <= 0x5A:
                value = byte - 0x37
            else:
                return 0
            if n < 4:
                opening[n] = value
                continue
        remainder = (remainder * (10 if value < 10 else 100) + value) % 97
    if remainder != 1 or (pos < end and is_word(data[pos])):
        return 0
    return pos
