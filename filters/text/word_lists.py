"""Lists of words and phrases, and where their entries occur in texts.

An entry occurs where its characters stand in the text, whatever white space is between its words, and both
its ends are ends of words: no letter, mark, number or underscore touches a letter or number of the entry from
outside. Between letters of scripts without spaces (characters.UNSPACED_BLOCKS), and beside symbols, every
place is the end of a word. Occurrences do not overlap: the first, and of those that begin there the longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.contracts import AssetError
from ..kernels import kernel
from .buffers import VALID_TYPE, TextBuffers, text_buffers
from .characters import BYTES_TYPE, CLASSES_TYPE, MARK, SPACE, UNSPACED, WORD, character_classes, decode
from .hashing import BLOCK, fold

MAX_ENTRY: Final = 256  # bytes; bounds the work for each place in a text

# Columns of what is counted for each text.
COUNT: Final = 0  # occurrences
DISTINCT: Final = 1  # different entries that occur
COVERED: Final = 2  # words, of kind `unicode`, inside occurrences
WORDS: Final = 3  # words of kind `unicode`
COLUMNS: Final = 4

_BLANK: Final = 0x20
_UNDERSCORE: Final = 0x5F

_TRIE_TYPE: Final = "uint64[::1], int32[::1], int32[::1]"


@dataclass(frozen=True)
class Occurrences:
    """What is found in each of n texts."""

    counts: npt.NDArray[np.int64]  # [n, COLUMNS]
    weights: npt.NDArray[np.float64]  # [n], the sum over the occurrences
    valid: npt.NDArray[np.bool_]  # [n], False where the text is null


class WordList:
    """Entries with their weights, ready to be looked for.

    `lowercase` compares entries and texts in lower case, character by character. With `whole_words: false`
    entries occur anywhere, also inside words. `underscore` says whether "_" is part of words.
    Raises ValueError for an entry that is blank or longer than MAX_ENTRY bytes.
    """

    def __init__(
        self,
        entries: Sequence[str],
        weights: Sequence[float] | None = None,
        *,
        lowercase: bool = True,
        whole_words: bool = True,
        underscore: bool = True,
    ) -> None:
        self._lowercase, self._whole_words = lowercase, whole_words
        self._classes = character_classes()
        if not underscore:
            self._classes = self._classes.copy()
            self._classes[_UNDERSCORE] &= ~np.uint16(WORD)
            self._classes.flags.writeable = False
        normal = [" ".join(entry.split()) for entry in entries]
        for entry in normal:
            if not entry or len(entry.encode()) > MAX_ENTRY:
                raise ValueError(f"{entry[:40]!r} is not an entry of 1 to {MAX_ENTRY} bytes")
        buffers = self._buffers(pa.array(normal, pa.large_string()))
        room = int(buffers.offsets[-1] - buffers.offsets[0]) + 1
        slots = 1 << (2 * room).bit_length()
        self._keys, self._children = np.zeros(slots, np.uint64), np.zeros(slots, np.int32)
        entry_of = np.full(room, -1, np.int32)
        states = _build(buffers.data, buffers.offsets, self._keys, self._children, entry_of)
        self._entry_of = entry_of[:states].copy()
        self._openings = np.zeros((256, 256), np.bool_)
        _fill_openings(self._keys, self._children, self._entry_of, self._openings)
        self._weights = np.array([1.0] * len(normal) if weights is None else weights, np.float64)

    def __len__(self) -> int:
        return len(self._weights)

    def find(self, text: pa.Array) -> Occurrences:
        """Looks for all entries in each text of a string array."""
        buffers = self._buffers(text)
        counts = np.zeros((len(buffers), COLUMNS), np.int64)
        weights = np.zeros(len(buffers), np.float64)
        _find(
            buffers.data,
            buffers.offsets,
            buffers.valid,
            self._classes,
            self._whole_words,
            self._openings,
            self._keys,
            self._children,
            self._entry_of,
            self._weights,
            np.full(len(self), -1, np.int64),
            counts,
            weights,
        )
        return Occurrences(counts, weights, buffers.valid)

    def _buffers(self, text: pa.Array) -> TextBuffers:
        if self._lowercase and not pa.types.is_null(text.type):
            text = pc.utf8_lower(text)
        return text_buffers(text)


def read_word_list(path: Path) -> list[str]:
    """The entries of a file, one per line; blank lines are passed over.

    Raises AssetError, the line in its message, for a line that is not UTF-8 or that holds a control character
    or more than MAX_ENTRY bytes, and where there is no entry.
    """
    entries = [" ".join(line.split()) for _, line in _lines(path)]
    if not entries:
        raise AssetError(f"{path}: no words; write one word or phrase per line")
    return entries


def read_weighted_words(path: Path) -> tuple[list[str], list[float]]:
    """The words of a file and their weights, `word<TAB>weight` per line; blank lines are passed over.

    Raises AssetError as read_word_list does, and for a line without a tab, whose weight is not a finite
    number, or whose word an earlier line has.
    """
    weights: dict[str, float] = {}
    for number, line in _lines(path):
        word, tab, weight = line.partition("\t")
        word = " ".join(word.split())
        try:
            value = float(weight)
        except ValueError:
            value = np.nan
        if not tab or not word or not np.isfinite(value):
            raise AssetError(f"{path}:{number}: {line[:60]!r}; write a word, a tab and a number")
        if word in weights:
            raise AssetError(f"{path}:{number}: {word[:60]!r} has a weight already")
        weights[word] = value
    if not weights:
        raise AssetError(f"{path}: no words; write a word, a tab and a number per line")
    return list(weights), list(weights.values())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AssetError(f"{path}: cannot be read ({error.strerror or error})") from error
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = raw.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise AssetError(f"{path}:{number}: not UTF-8 ({error.reason} at byte {error.start})") from error
        if any(character < " " and character != "\t" for character in line):
            raise AssetError(f"{path}:{number}: holds a control character; is this a list of words?")
        if len(raw) > MAX_ENTRY:
            raise AssetError(f"{path}:{number}: {len(raw)} bytes; an entry has at most {MAX_ENTRY}")
        if line.strip():
            yield number, line


def distinct(entries: Iterable[str], lowercase: bool) -> list[str]:
    """The entries that differ, in lower case if that is how they are compared."""
    return list(dict.fromkeys(pc.utf8_lower(entry).as_py() if lowercase else entry for entry in entries))


@kernel("int64(int64, int64, uint64[::1])", forceinline=True)
def _slot(state: Any, byte: Any, keys: Any) -> int:
    """The slot of the step from a state by a byte; an empty one (key 0) if there is none."""
    mask = np.uint64(len(keys) - 1)
    key = np.uint64(state) << np.uint64(8) | np.uint64(byte)
    slot = fold(key ^ BLOCK, BLOCK) & mask
    while keys[slot] != 0 and keys[slot] != key + np.uint64(1):
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)  # type: ignore[return-value]


@kernel(f"int64({BYTES_TYPE}, int64[::1], {_TRIE_TYPE})")
def _build(data: Any, offsets: Any, keys: Any, children: Any, entry_of: Any) -> int:
    """Fills a trie of the entries' bytes, whose root is state 0; returns how many states there are."""
    states = 1
    for entry in range(len(offsets) - 1):
        state: Any = 0
        for at in range(offsets[entry], offsets[entry + 1]):
            slot = _slot(state, np.int64(data[at]), keys)
            if keys[slot] == 0:
                keys[slot] = (np.uint64(state) << np.uint64(8) | np.uint64(data[at])) + np.uint64(1)
                children[slot] = states
                states += 1
            state = np.int64(children[slot])
        if entry_of[state] < 0:
            entry_of[state] = entry
    return states


@kernel(f"void({_TRIE_TYPE}, boolean[:, ::1])")
def _fill_openings(keys: Any, children: Any, entry_of: Any, openings: Any) -> None:
    """Marks the pairs of bytes that an occurrence may begin with: most places in a text need no more."""
    for byte in range(256):
        slot = _slot(0, byte, keys)
        if keys[slot] == 0:
            continue
        state = np.int64(children[slot])
        # White space in an entry stands for any, whose bytes are many.
        alone = entry_of[state] >= 0 or keys[_slot(state, _BLANK, keys)] != 0
        for following in range(256):
            openings[byte, following] = alone or keys[_slot(state, following, keys)] != 0


@kernel(f"UniTuple(int64, 2)({BYTES_TYPE}, int64, int64, {CLASSES_TYPE}, boolean, {_TRIE_TYPE})")
def _longest(
    data: Any,
    start: int,
    end: int,
    classes: Any,
    whole_words: bool,
    keys: Any,
    children: Any,
    entry_of: Any,
) -> Any:
    """The longest entry that begins at `start`, and where it stops; -1 if there is none."""
    found: Any = -1
    state: Any = 0
    stop = start
    at = start
    while at < end:
        point, after = decode(data, at, end)
        kind = classes[point]
        if (kind & SPACE) != 0:
            slot = _slot(state, _BLANK, keys)
            if keys[slot] == 0:
                break
            state = np.int64(children[slot])
            while after < end:
                point, following = decode(data, after, end)
                if (classes[point] & SPACE) == 0:
                    break
                after = following
        else:
            for k in range(at, after):
                slot = _slot(state, np.int64(data[k]), keys)
                if keys[slot] == 0:
                    return found, stop
                state = np.int64(children[slot])
        at = after
        if entry_of[state] < 0:
            continue
        ended = True
        if whole_words and at < end:
            point, _ = decode(data, at, end)
            following = classes[point]
            ended = (following & MARK) == 0 and not (
                (kind & (WORD | UNSPACED)) == WORD and (following & (WORD | UNSPACED)) == WORD
            )
        if ended:
            found, stop = np.int64(entry_of[state]), at
    return found, stop


@kernel(
    f"void({BYTES_TYPE}, int64[::1], {VALID_TYPE}, {CLASSES_TYPE}, boolean, boolean[:, ::1], "
    f"{_TRIE_TYPE}, float64[::1], int64[::1], int64[:, ::1], float64[::1])"
)
def _find(
    data: Any,
    offsets: Any,
    valid: Any,
    classes: Any,
    whole_words: bool,
    openings: Any,
    keys: Any,
    children: Any,
    entry_of: Any,
    weight_of: Any,
    last_text: Any,
    counts: Any,
    weights: Any,
) -> None:
    """Fills the rows of `counts` and `weights`, which are zeros; `last_text` is -1 for each entry."""
    for i in range(len(valid)):
        if not valid[i]:
            continue
        end, row = offsets[i + 1], counts[i]
        at = offsets[i]
        busy = at  # where the last occurrence stops
        before: Any = np.uint16(0)  # the class of the character before
        in_word, unspaced = False, False  # whether a word goes on, and whether it is a letter of its own
        while at < end:
            point: Any = np.int64(data[at])
            after = at + 1
            if point >= 0x80:
                point, after = decode(data, at, end)
            kind = classes[point]
            joined = (kind & (WORD | UNSPACED)) == WORD and (before & (WORD | UNSPACED)) == WORD
            second = data[at + 1] if at + 1 < end else np.uint8(_BLANK)
            if at >= busy and openings[data[at], second] and not (whole_words and joined):
                entry, stop = _longest(data, at, end, classes, whole_words, keys, children, entry_of)
                if entry >= 0:
                    busy = stop
                    row[COUNT] += 1
                    weights[i] += weight_of[entry]
                    row[DISTINCT] += last_text[entry] != i
                    last_text[entry] = i
            begins = False
            if (kind & UNSPACED) != 0:
                begins, in_word, unspaced = True, True, True
            elif (kind & WORD) == 0:
                in_word = False
            elif not in_word or (unspaced and (kind & MARK) == 0):
                begins, in_word, unspaced = True, True, False
            if begins:
                row[WORDS] += 1
                row[COVERED] += at < busy
            before = kind
            at = after
