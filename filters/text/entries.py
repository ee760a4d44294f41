"""Which entries of a list occur in a text, as MetaCLIP matches its metadata.

Xu et al. 2024, arXiv:2309.16671. Their metaclip/substr_matching.py sets spaces around `,` `.` `;` `:` `?` `!`
and the backtick and at both ends of a text, turns tabs and line ends into spaces, and looks for each entry
between two spaces, in the case that it is written in. Such an entry begins and ends where a space does; so
instead of an automaton over characters we walk through the words between spaces, as long as some entry begins
with them. The entries that are found are the same.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..kernels import kernel
from .buffers import text_buffers
from .characters import BYTES_TYPE
from .hashing import BLOCK, FINISH, SEED, fold, hash_bytes

VERSION: Final = 1  # changes whenever the entries of some text do

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]

# After spacing a mark stands alone and white space is a space, so that such an entry is never found.
_NEVER: Final = re.compile(r"[^ ][,.;:?!`]|[,.;:?!`][^ ]|[\t\n\r]")
_FREE, _BEGINNING = -2, -1  # in a slot of the table: no key, the first words of an entry


class EntriesError(ValueError):
    """A list of entries cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True)
class EntryList:
    """The different entries of a file in their order, and what was left out of it or is of no use."""

    entries: pa.StringArray
    empty: int
    repeated: int
    never: int  # of `entries`: those that no text can have, as "St. John", whose mark is spaced in texts


def read_entries(path: Path) -> EntryList:
    """The entries of a JSON list of strings (`.json`), or of a UTF-8 text file with one a line.

    White space at the ends of an entry does not count. Raises EntriesError.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EntriesError(f"is not UTF-8 (byte {error.start})") from error
    stripped = [entry.strip() for entry in _listed(text, path)]
    filled = [entry for entry in stripped if entry]
    entries = list(dict.fromkeys(filled))
    if not entries:
        raise EntriesError("has no entry")
    never = sum(_NEVER.search(entry) is not None for entry in entries)
    empty, repeated = len(stripped) - len(filled), len(filled) - len(entries)
    return EntryList(pa.array(entries, pa.string()), empty, repeated, never)


def _listed(text: str, path: Path) -> list[str]:
    if path.suffix.lower() != ".json":
        # Not splitlines, which also divides at characters that an entry may have.
        return text.removesuffix("\n").split("\n")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise EntriesError(f"is not JSON: {error}") from error
    if not isinstance(value, list):
        raise EntriesError("is JSON, but no list of strings")
    for number, entry in enumerate(value, 1):
        if not isinstance(entry, str):
            raise EntriesError(f"item {number} of the list is no string")
        if any("\ud800" <= character <= "\udfff" for character in entry):
            raise EntriesError(f"item {number} of the list has half of a surrogate pair")
    return value


class EntryIndex:
    """Entries, none of which is repeated, made ready to be found in texts."""

    def __init__(self, entries: pa.StringArray) -> None:
        """`entries` have no null. Takes some 50 bytes for each word of theirs."""
        buffers = text_buffers(entries)
        self._data, self._offsets = buffers.data, buffers.offsets
        most = int(np.count_nonzero(buffers.data == 0x20)) + len(entries)
        slots = 16
        while slots < 2 * most:
            slots *= 2
        self._keys, self._values = np.zeros(slots, np.uint64), np.full(slots, _FREE, np.int32)
        if _insert(self._data, self._offsets, self._keys, self._values) >= 0:
            raise ValueError("two entries have the same hash")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def find(self, text: pa.Array) -> tuple[Int64s, Int32s]:
        """The numbers of the entries of each text, each once, as they come in it: (first, entries), where
        text i has entries[first[i]:first[i + 1]]. Null has none."""
        buffers = text_buffers(text)
        size, words = _room(buffers.data, buffers.offsets)
        spaced, start, hashes = (
            np.empty(size, np.uint8),
            np.empty(words, np.int64),
            np.empty(words, np.uint64),
        )
        first = np.empty(len(buffers) + 1, np.int64)
        found = np.empty(1024 + int(buffers.offsets[-1] - buffers.offsets[0]) // 4, np.int32)
        while True:
            count = _find(
                buffers.data,
                buffers.offsets,
                np.array(buffers.valid),
                self._data,
                self._offsets,
                self._keys,
                self._values,
                spaced,
                start,
                hashes,
                np.full(len(self), -1, np.int64),
                first,
                found,
            )
            if count <= len(found):
                return first, found[:count]
            found = np.empty(count, np.int32)


def entry_hashes(entries: pa.StringArray) -> Uint64s:
    """A hash of each entry, whatever its number."""
    buffers = text_buffers(entries)
    hashes = np.empty(len(buffers), np.uint64)
    _hash(buffers.data, buffers.offsets, hashes)
    return hashes


def keep_by_entries(
    first: Int64s,
    entries: npt.NDArray[Any],
    probability: npt.NDArray[np.float64],
    hashes: Uint64s,
    draws: Uint64s,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Whether a draw of any of its entries keeps a text, and the probability of that: 1 - prod(1 - p).

    Text i has entries[first[i]:first[i + 1]]; `probability` and `hashes` are those of all entries; `draws` is
    a random number for each text, from which each of its entries takes one of its own.
    """
    keep, chance = np.empty(len(draws), np.bool_), np.empty(len(draws), np.float64)
    _draw(first, entries.astype(np.int64), probability, hashes, draws, keep, chance)
    return keep, chance


@kernel(f"UniTuple(int64, 2)({BYTES_TYPE}, int64[::1])")
def _room(data: Any, offsets: Any) -> Any:
    """The most bytes that a text has with its spaces, and the most words between them."""
    most_bytes, most_words = 0, 0
    for row in range(len(offsets) - 1):
        marks, spaces = 0, 0
        for at in range(offsets[row], offsets[row + 1]):
            spaces += data[at] in (0x20, 0x09, 0x0A, 0x0D)
            marks += data[at] in (0x2C, 0x2E, 0x3A, 0x3B, 0x3F, 0x21, 0x60)
        most_bytes = max(most_bytes, offsets[row + 1] - offsets[row] + 2 * marks + 2)
        most_words = max(most_words, spaces + 2 * marks + 1)
    return most_bytes, most_words


@kernel(f"int64({BYTES_TYPE}, int64, int64, uint8[::1])")
def _space(data: Any, start: int, stop: int, spaced: Any) -> int:
    """Writes a text with its spaces, one at each end, into `spaced`; returns how many bytes that are."""
    spaced[0] = 0x20
    to = 1
    for at in range(start, stop):
        byte = data[at]
        if byte == 0x09 or byte == 0x0A or byte == 0x0D:
            byte = np.uint8(0x20)
        # , . : ; ? ! `
        mark = byte in (0x2C, 0x2E, 0x3A, 0x3B, 0x3F, 0x21, 0x60)
        if mark:
            spaced[to] = 0x20
            to += 1
        spaced[to] = byte
        to += 1
        if mark:
            spaced[to] = 0x20
            to += 1
    spaced[to] = 0x20
    return to + 1


@kernel("int64(uint64, uint64[::1], int32[::1])")
def _slot(key: Any, keys: Any, values: Any) -> int:
    """Where `key` is, or where it belongs."""
    mask = np.uint64(len(keys) - 1)
    slot = key & mask
    while values[slot] != -2 and keys[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)  # type: ignore[return-value]


@kernel(f"int64({BYTES_TYPE}, int64[::1], uint64[::1], int32[::1])")
def _insert(data: Any, offsets: Any, keys: Any, values: Any) -> int:
    """Puts every entry and all that entries begin with into the table; returns an entry whose hash another
    has, or -1."""
    for entry in range(len(offsets) - 1):
        key = SEED
        begin = offsets[entry]
        stop = offsets[entry + 1]
        for at in range(begin, stop + 1):
            if at < stop and data[at] != 0x20:
                continue
            key = fold(key ^ hash_bytes(data, begin, at), BLOCK)
            begin = at + 1
            slot = _slot(key, keys, values)
            if values[slot] == -2:
                keys[slot] = key
                values[slot] = -1
            if at == stop:
                if values[slot] >= 0:
                    return entry
                values[slot] = entry
    return -1


@kernel(
    f"int64({BYTES_TYPE}, int64[::1], boolean[::1], {BYTES_TYPE}, int64[::1], uint64[::1], int32[::1], "
    "uint8[::1], int64[::1], uint64[::1], int64[::1], int64[::1], int32[::1])"
)
def _find(
    data: Any,
    offsets: Any,
    valid: Any,
    entry_data: Any,
    entry_offsets: Any,
    keys: Any,
    values: Any,
    spaced: Any,
    start: Any,
    hashes: Any,
    seen: Any,
    first: Any,
    found: Any,
) -> int:
    """Writes the entries at each word of each text while `found` has room; returns how many there are.

    `seen`: for each entry the last text that had it.
    """
    count = 0
    for row in range(len(valid)):
        first[row] = count
        if not valid[row]:
            continue
        size = _space(data, offsets[row], offsets[row + 1], spaced)
        words, begin = 0, 1
        for at in range(1, size):
            if spaced[at] == 0x20:
                start[words] = begin
                hashes[words] = hash_bytes(spaced, begin, at)
                words += 1
                begin = at + 1
        for word in range(words):
            key = SEED
            for last in range(word, words):
                key = fold(key ^ hashes[last], BLOCK)
                value = values[_slot(key, keys, values)]
                if value == -2:
                    break
                if value < 0 or seen[value] == row:
                    continue
                stop = start[last + 1] - 1 if last + 1 < words else size - 1
                begins, length = entry_offsets[value], stop - start[word]
                same = entry_offsets[value + 1] - begins == length
                at = 0
                while same and at < length:
                    same = spaced[start[word] + at] == entry_data[begins + at]
                    at += 1
                if same:
                    seen[value] = row
                    if count < len(found):
                        found[count] = value
                    count += 1
    first[len(valid)] = count
    return count


@kernel(f"void({BYTES_TYPE}, int64[::1], uint64[::1])")
def _hash(data: Any, offsets: Any, hashes: Any) -> None:
    for row in range(len(hashes)):
        hashes[row] = hash_bytes(data, offsets[row], offsets[row + 1])


@kernel("void(int64[::1], int64[::1], float64[::1], uint64[::1], uint64[::1], boolean[::1], float64[::1])")
def _draw(
    first: Any, entries: Any, probability: Any, hashes: Any, draws: Any, keep: Any, chance: Any
) -> None:
    for row in range(len(draws)):
        kept, lost = False, 1.0
        for k in range(first[row], first[row + 1]):
            entry = entries[k]
            bits = fold(fold(draws[row] ^ hashes[entry], BLOCK), FINISH)
            kept = kept or (bits >> np.uint64(11)) * 2.0**-53 < probability[entry]
            lost *= 1.0 - probability[entry]
        keep[row] = kept
        chance[row] = 1.0 - lost
