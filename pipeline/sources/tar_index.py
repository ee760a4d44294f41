"""Finds the samples of a tar in memory, compiled: those of which all is as usual, which are most.

Whatever else there is ends what is found, before the sample that it is in; TarArchive goes on there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ...filters.kernels import kernel

BLOCK: Final = 512
MOST_MEMBERS: Final = 16  # of a sample; each suffix is compared with those before it
IMAGE: Final = 0
TEXT: Final = 1
JSON: Final = 2

# Columns of what is found: offsets of the window. Where a sample has no member of a kind both are -1.
BEGIN: Final = 0  # of its first header
MEMBERS: Final = 1  # how many it has
KEY: Final = 2  # start and stop, as of the members below
CONTENT: Final = 4  # start and stop of the image, of the text, of the JSON
COLUMNS: Final = 10

_BYTES: Final = "Array(uint8, 1, 'C', readonly=True)"
_CHECKSUM_BLANKS: Final = 8 * 32  # the checksum is taken with blanks in its own place
_MOST_EXTENSION: Final = 1 << 20
_PAX: Final = 120
_PAX_OF_SUN: Final = 88
_FILE: Final = 48
# What in a PAX header says more than who wrote the member, and when; joined, and where each ends.
_TELLING: Final = np.frombuffer(b" path= size= GNU.sparse.", np.uint8)
_TELLING_ENDS: Final = (6, 12, 24)


@kernel(f"int64({_BYTES}, int64)")
def _measure(window: Any, at: int) -> int:
    """The size that a sound header states, in the form that nearly all programs write; -1 for another."""
    if window[at + 154] != 0 or (window[at + 135] & 0xDF) != 0:
        return -1
    size, stated = 0, 0
    for place in range(at + 124, at + 135):
        if window[place] & 0xF8 != 48:
            return -1
        size = 8 * size + (window[place] & 7)
    for place in range(at + 148, at + 154):
        if window[place] & 0xF8 != 48:
            return -1
        stated = 8 * stated + (window[place] & 7)
    total: Any = np.int32(_CHECKSUM_BLANKS)
    for byte in window[at : at + BLOCK]:
        total += np.int32(byte)
    for byte in window[at + 148 : at + 156]:
        total -= np.int32(byte)
    return size if total == stated else -1


@kernel(f"boolean({_BYTES}, int64, int64, {_BYTES}, int64, int64, boolean)")
def _equal(
    one: Any, begin: int, stop: int, other: Any, other_begin: int, other_stop: int, any_case: bool
) -> bool:
    """Whether they are the same, with `any_case` but for the case of ASCII letters."""
    if stop - begin != other_stop - other_begin:
        return False
    for place in range(stop - begin):
        here, there = np.int64(one[begin + place]), np.int64(other[other_begin + place])
        if any_case:
            here += 32 * np.int64(65 <= here <= 90)
            there += 32 * np.int64(65 <= there <= 90)
        if here != there:
            return False
    return True


@kernel(f"boolean({_BYTES}, int64, int64, {_BYTES})")
def _tells(window: Any, begin: int, stop: int, telling: Any) -> bool:
    """Whether a PAX header in window[begin:stop] says something of the member that counts."""
    for place in range(begin, stop):
        if window[place] == 32:
            key = 0
            for end in _TELLING_ENDS:
                after = place + end - key
                if after <= stop and _equal(window, place, after, telling, key, end, False):
                    return True
                key = end
    return False


@kernel(f"int64({_BYTES}, int64, int64)")
def _dot(window: Any, begin: int, stop: int) -> int:
    """Where in a name the first dot behind the last slash is; -1 without one, or if a sample has no such."""
    dot = -1
    base = begin
    for place in range(begin, stop):
        if window[place] == 47:
            base, dot = place + 1, -1
        elif window[place] == 46 and dot < 0:
            dot = place
    return dot if dot > base else -1


@kernel(
    f"int64({_BYTES}, int64, {_BYTES}, int64[::1], int64[::1], boolean, int64, int64, {_BYTES},"
    " int64[:, ::1], int64[:, ::1])"
)
def _index(
    window: Any,
    at: int,
    suffixes: Any,
    ends: Any,
    kinds: Any,
    of_images: bool,
    largest: int,
    limit: int,
    telling: Any,
    met: Any,
    found: Any,
) -> int:
    """See SampleIndex.find. `met` has room for MOST_MEMBERS suffixes, `found` for limit + 1 samples."""
    count = 0
    members = 0
    name = 0
    key = 0  # bytes of the name of the sample at hand
    while True:
        begin = at
        size = -1
        while at + BLOCK <= len(window):
            size = _measure(window, at)
            flag = window[at + 156]
            if size < 0 or (flag != _PAX and flag != _PAX_OF_SUN):
                break
            body = at + BLOCK
            at = body + size + (-size & (BLOCK - 1))
            if size > _MOST_EXTENSION or at > len(window) or _tells(window, body, body + size, telling):
                return count
            size = -1
        if size < 0 or window[at + 156] != _FILE or window[at + 345] != 0:
            return count
        stop = at
        while stop < at + 100 and window[stop] != 0:
            stop += 1
        dot = _dot(window, at, stop)
        if dot < 0 or (window[at] == 95 and window[at + 1] == 95):
            return count
        if members == 0 or not _equal(window, name, name + key, window, at, dot, False):
            if members:
                if of_images and found[count, CONTENT] == found[count, CONTENT + 1]:
                    return count
                found[count, MEMBERS] = members
                count += 1
            found[count, BEGIN] = begin
            if count == limit:
                return count
            name, key, members = at, dot - at, 0
            found[count, KEY], found[count, KEY + 1] = at, dot
            found[count, CONTENT:] = -1
        elif members == MOST_MEMBERS:
            return count
        for other in range(members):
            if _equal(window, dot + 1, stop, window, met[other, 0], met[other, 1], True):
                return count
        met[members, 0], met[members, 1] = dot + 1, stop
        members += 1
        content = at + BLOCK
        at = content + size + (-size & (BLOCK - 1))
        if at > len(window):
            return count
        first = 0
        for place in range(len(ends)):
            if _equal(window, dot + 1, stop, suffixes, first, ends[place], True):
                column = CONTENT + 2 * kinds[place]
                if found[count, column] < 0:
                    if size > largest:
                        return count
                    found[count, column], found[count, column + 1] = content, content + size
                break
            first = ends[place]


class SampleIndex:
    """Finds samples whose members have the wanted suffixes, in lower case, of the kinds IMAGE, TEXT and JSON;
    the first suffix that fits counts. With `of_images` only those with an image that has bytes."""

    def __init__(self, wanted: Sequence[tuple[bytes, int]], of_images: bool, largest: int) -> None:
        self._suffixes = np.frombuffer(b"".join(suffix for suffix, _ in wanted), np.uint8)
        self._ends = np.cumsum([len(suffix) for suffix, _ in wanted])
        self._kinds = np.array([kind for _, kind in wanted], np.int64)
        self._of_images, self._largest = of_images, largest
        self._met = np.empty((MOST_MEMBERS, 2), np.int64)
        self._found = np.empty((0, COLUMNS), np.int64)

    def find(self, window: bytes | memoryview, at: int, limit: int) -> list[list[int]]:
        """Samples, at most `limit` of them, the first header of the first being at window[at]: a row of
        COLUMNS each, and one more, in which only BEGIN counts: where to go on. Without a sample it is empty.

        A sample counts if another begins behind it in the window, if all that it has is regular files, none
        of them twice, and no member that is wanted is larger than `largest`.
        """
        limit = min(limit, (len(window) - at) // BLOCK)
        if len(self._found) <= limit:
            self._found = np.empty((limit + 1, COLUMNS), np.int64)
        count = _index(
            np.frombuffer(window, np.uint8),
            at,
            self._suffixes,
            self._ends,
            self._kinds,
            self._of_images,
            self._largest,
            limit,
            _TELLING,
            self._met,
            self._found,
        )
        found: list[list[int]] = self._found[: count + 1].tolist() if count else []
        return found
