"""E-mail and IP addresses in UTF-8 bytes: what counts as one, decided around an `@`, a digit or a colon.

Positions are those of `data`; 0 or (0, 0) is no match, for an address never ends at byte 0.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ...kernels import kernel
from ..characters import BYTES_TYPE

_MAX_LOCAL: Final = 64  # octets; RFC 5321, section 4.5.3.1.1
_MAX_LABEL: Final = 63  # RFC 1035, section 2.3.4
_MAX_DOMAIN: Final = 253

# No top-level domains, but what names of pictures for dense screens end in (icon@2x.png).
_PICTURES: Final = tuple(
    int.from_bytes(suffix, "big") for suffix in (b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp")
)

# IANA's special-purpose IPv4 blocks that are not globally reachable (RFC 6890 and its updates), and
# multicast: first address, last address.
SPECIAL_IPV4: Final = np.array(
    [
        (0x00000000, 0x00FFFFFF),  # 0.0.0.0/8, "this network"
        (0x0A000000, 0x0AFFFFFF),  # 10.0.0.0/8
        (0x64400000, 0x647FFFFF),  # 100.64.0.0/10, carrier-grade NAT
        (0x7F000000, 0x7FFFFFFF),  # 127.0.0.0/8
        (0xA9FE0000, 0xA9FEFFFF),  # 169.254.0.0/16
        (0xAC100000, 0xAC1FFFFF),  # 172.16.0.0/12
        (0xC0000000, 0xC00000FF),  # 192.0.0.0/24, with the two anycast addresses in it: nobody's
        (0xC0000200, 0xC00002FF),  # 192.0.2.0/24, documentation
        (0xC0A80000, 0xC0A8FFFF),  # 192.168.0.0/16
        (0xC6120000, 0xC613FFFF),  # 198.18.0.0/15, benchmarks
        (0xC6336400, 0xC63364FF),  # 198.51.100.0/24, documentation
        (0xCB007100, 0xCB0071FF),  # 203.0.113.0/24, documentation
        (0xE0000000, 0xFFFFFFFF),  # 224.0.0.0/4 multicast and 240.0.0.0/4 reserved
    ],
    np.int64,
)


@kernel("boolean(uint8)", forceinline=True)
def is_digit(byte: Any) -> bool:
    """Whether the byte is an ASCII digit."""
    return bool(byte >= 0x30 and byte <= 0x39)


@kernel("boolean(uint8)", forceinline=True)
def is_letter(byte: Any) -> bool:
    """Whether the byte is an ASCII letter."""
    folded = byte | 0x20
    return bool(folded >= 0x61 and folded <= 0x7A)


@kernel("boolean(uint8)", forceinline=True)
def is_word(byte: Any) -> bool:
    """Whether the byte is an ASCII letter, a digit or an underscore."""
    return is_digit(byte) or is_letter(byte) or byte == 0x5F


@kernel("boolean(uint8)", forceinline=True)
def _is_hex(byte: Any) -> bool:
    folded = byte | 0x20
    return bool(is_digit(byte) or (folded >= 0x61 and folded <= 0x66))


@kernel("boolean(uint8, uint8)", forceinline=True)
def _is_wide_letter(lead: Any, trail: Any) -> bool:
    """Whether two bytes are a letter from U+00C0 to U+052F: Latin, Greek or Cyrillic, not × or ÷."""
    if lead < 0xC3 or lead > 0xD4 or (trail & 0xC0) != 0x80:
        return False
    return not (lead == 0xC3 and (trail == 0x97 or trail == 0xB7))


@kernel(f"int64({BYTES_TYPE}, int64, int64)")
def _local_start(data: Any, begin: int, at: int) -> int:
    """Where the part before the `@` at `at` begins; `at` where there is none."""
    pos = at
    while pos > begin and at - pos <= _MAX_LOCAL:
        byte = data[pos - 1]
        # . _ % + - ' beside letters and digits
        if is_word(byte) or byte == 0x2E or byte == 0x25 or byte == 0x2B or byte == 0x2D or byte == 0x27:
            pos -= 1
        elif byte >= 0x80 and pos - begin >= 2 and _is_wide_letter(data[pos - 2], byte):
            pos -= 2
        else:
            break
    # a hyphen and a plus may end the part, but not a dot or an apostrophe
    if at - pos > _MAX_LOCAL or pos == at or data[at - 1] == 0x2E or data[at - 1] == 0x27:
        return at
    for k in range(pos, at - 1):
        if data[k] == 0x2E and data[k + 1] == 0x2E:
            pos = k + 2
    while pos < at and not (is_word(data[pos]) or data[pos] >= 0x80):
        pos += 1
    return pos


@kernel(f"int64({BYTES_TYPE}, int64, int64)")
def _domain_stop(data: Any, at: int, end: int) -> int:
    """Where the domain that begins at `at` ends; 0 where there is none."""
    pos = at
    stop = 0
    labels = 0
    while pos < end:
        label = pos
        letters = label  # the end of those that the label begins with
        while pos < end and pos - label <= _MAX_LABEL:
            byte = data[pos]
            size = 1
            if byte >= 0x80 and pos + 1 < end and _is_wide_letter(byte, data[pos + 1]):
                size = 2
            elif is_digit(byte) or byte == 0x2D:
                size = 0
            elif not is_letter(byte):
                break
            if letters == pos:
                letters += size
            pos += max(size, 1)
        tail = pos
        while tail > label and data[tail - 1] == 0x2D:
            tail -= 1
        if tail == label or data[label] == 0x2D or pos - label > _MAX_LABEL or tail - at > _MAX_DOMAIN:
            break
        labels += 1
        # xn-- opens the ASCII form of an internationalised label
        coded = tail - label > 4 and (data[label] | 0x20) == 0x78 and (data[label + 1] | 0x20) == 0x6E
        coded = coded and data[label + 2] == 0x2D and data[label + 3] == 0x2D
        if coded:
            letters = tail
        # "jane@example.com-style" holds an address too
        if labels > 1 and letters - label > 1 and (letters == tail or data[letters] == 0x2D):
            name: Any = 0
            for k in range(label, min(letters, label + 5)):
                name = name << 8 | (np.int64(data[k]) | 0x20)
            picture = False
            for k in range(len(_PICTURES)):
                picture |= name == _PICTURES[k]
            if not picture:
                stop = letters
        if tail != pos or pos + 1 >= end or data[pos] != 0x2E:
            break
        pos += 1
    return stop


@kernel(f"UniTuple(int64, 2)({BYTES_TYPE}, int64, int64, int64)")
def match_email(data: Any, begin: int, end: int, at: int) -> Any:
    """The e-mail address around the `@` at `at`.

    Before it up to 64 bytes of letters, digits and . _ % + - ' (the other characters that RFC 5322 allows in
    an atom are punctuation or URL syntax in running text, and end it); after it two or more labels of
    letters, digits and inner hyphens, the last of letters or in its `xn--` form. Letters are those of ASCII
    and from U+00C0 to U+052F. datatrove knows ASCII lower case and all of RFC 5322's atom; Dolma and BigCode
    take whatever is neither space nor punctuation. Quoted local parts, `[1.2.3.4]` as the domain and
    disguises such as "(at)" are not found.
    """
    start = _local_start(data, begin, at)
    if start == at:
        return 0, 0
    stop = _domain_stop(data, at + 1, end)
    if stop == 0:
        return 0, 0
    return start, stop


@kernel("boolean(int64)")
def is_public_ipv4(value: int) -> bool:
    """Whether the address is in none of SPECIAL_IPV4."""
    for k in range(len(SPECIAL_IPV4)):
        if value >= SPECIAL_IPV4[k, 0] and value <= SPECIAL_IPV4[k, 1]:
            return False
    return True


@kernel(f"int64({BYTES_TYPE}, int64, int64, int64, boolean)")
def match_ipv4(data: Any, begin: int, end: int, at: int, private: bool) -> int:
    """Where the IPv4 address that begins at the digit at `at` ends.

    Four numbers up to 255 without leading zeros, part of no word and of no longer dotted number. Four single
    digits are a version, as BigCode's rule has it (theirs makes an exception near "dns" and "server").
    """
    if at > begin and is_word(data[at - 1]):
        return 0
    if at - begin > 1 and data[at - 1] == 0x2E and is_digit(data[at - 2]):
        return 0
    value: Any = 0
    pos = at
    for k in range(4):
        first = pos
        octet: Any = 0
        while pos < end and pos - first < 4 and is_digit(data[pos]):
            octet = octet * 10 + np.int64(data[pos]) - 0x30
            pos += 1
        digits = pos - first
        if digits == 0 or octet > 255 or digits > 3 or (digits > 1 and data[first] == 0x30):
            return 0
        value = value << 8 | octet
        if k < 3:
            if pos >= end or data[pos] != 0x2E:
                return 0
            pos += 1
    if pos < end and is_word(data[pos]):
        return 0
    if pos + 1 < end and data[pos] == 0x2E and is_digit(data[pos + 1]):
        return 0
    if pos - at == 7 or not (private or is_public_ipv4(value)):
        return 0
    return pos


@kernel("boolean(int64, int64, boolean)", forceinline=True)
def _counts_as_ipv6(first: int, second: int, private: bool) -> bool:
    """Decided by the first two groups.

    Public is 2000::/3, all that IANA has allocated for global unicast, without 2001::/23 (protocol
    assignments), 2001:db8::/32 and 3fff::/20 (documentation).
    """
    special = (first == 0x2001 and (second < 0x200 or second == 0xDB8)) or (
        first == 0x3FFF and second < 0x1000
    )
    if first >> 13 == 1 and not special:
        return True
    # fc00::/7 unique local, fe80::/10 link-local and fec0::/10 once site-local, ff00::/8 multicast
    return private and (special or first >> 9 == 0x7E or first >> 7 == 0x1FD or first >> 8 == 0xFF)


@kernel(f"UniTuple(int64, 2)({BYTES_TYPE}, int64, int64, int64, boolean)")
def match_ipv6(data: Any, begin: int, end: int, at: int, private: bool) -> Any:
    """The IPv6 address whose first colon is at `at`.

    Eight groups, or fewer with one `::`, but not at the front: `::1` is a slice as often as it is an address,
    and names nobody. What lies in no block that IANA has assigned (`dead::beef`, `std::abs`) is no address.
    In an IPv4-mapped address the IPv4 part is found, as an IPv4 address.
    """
    start = at
    while start > begin and at - start < 5 and _is_hex(data[start - 1]):
        start -= 1
    if start == at or at - start > 4:
        return 0, 0
    if start > begin:
        before = data[start - 1]
        if is_word(before) or before == 0x3A or before == 0x2E:
            return 0, 0
    pos = start
    n, gap, first, second = 0, -1, 0, 0
    while True:
        if n > 0:
            if pos + 1 >= end or data[pos] != 0x3A:
                break
            if data[pos + 1] == 0x3A:
                if gap >= 0:
                    return 0, 0
                gap = n
                pos += 2
                if pos >= end or not _is_hex(data[pos]):
                    break
            elif _is_hex(data[pos + 1]):
                pos += 1
            else:
                break
        digits = 0
        value: Any = 0
        while pos < end and digits < 5 and _is_hex(data[pos]):
            nibble = np.int64(data[pos])
            value = value << 4 | (nibble - 0x30 if nibble < 0x3A else (nibble | 0x20) - 0x57)
            digits += 1
            pos += 1
        if digits > 4 or n == 8:
            return 0, 0
        if n == 0:
            first = value
        elif n == 1 and gap < 0:
            second = value
        n += 1
    if (gap < 0 and n != 8) or (gap >= 0 and n > 7):
        return 0, 0
    if pos < end and (is_word(data[pos]) or (data[pos] == 0x3A and gap == n)):
        return 0, 0
    if pos + 1 < end and data[pos] == 0x2E and is_digit(data[pos + 1]):
        return 0, 0
    if not _counts_as_ipv6(first, second, private):
        return 0, 0
    return start, pos
