"""Chinese words as jieba finds them (its default mode), compiled.

The most probable division into words of a dictionary with their frequencies (a shortest path, from the end);
what it leaves as single characters side by side, unless that is a word itself, is divided again by a hidden
Markov model over the positions begin, middle, end and single. Dictionary and model are read from the
installed package jieba (MIT), and the result is the same as that of `jieba.cut`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..kernels import kernel
from .characters import BYTES_TYPE, decode

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# The characters that jieba divides; every other one is a word of its own.
FIRST: Final = 0x4E00
LAST: Final = 0x9FD5

_NEVER: Final = -3.14e100  # jieba's logarithm of the probability 0
_PREFIX: Final = -1.0  # in place of the logarithm of a frequency, which is 0 or more

# The order of the letters B, E, M, S: between equal probabilities jieba takes the later letter.
_BEGIN: Final = 0
_END: Final = 1
_MIDDLE: Final = 2
_SINGLE: Final = 3

_FLOATS: Final = "Array(float64, 1, 'C', readonly=True)"
_TABLES: Final = "Array(float64, 2, 'C', readonly=True)"
_KEYS: Final = "Array(uint64, 1, 'C', readonly=True)"
_INTS: Final = "int64[::1]"


@dataclass(frozen=True)
class Dictionary:
    """jieba's words and their beginnings, by hash, and its model; logarithms are natural."""

    keys: npt.NDArray[np.uint64]  # [slots], a power of two; 0 where a slot is empty
    logs: Floats  # [slots]: of the word's frequency; _PREFIX where it only begins words
    log_total: float
    emission: Floats  # [4, LAST - FIRST + 1]
    first: Floats  # [4]
    transition: Floats  # [4, 4]: from, to


@functools.cache
def dictionary() -> Dictionary:
    """Reads the installed jieba's dictionary and model, once per process."""
    import jieba  # type: ignore[import-untyped]
    from jieba.finalseg import emit_P, start_P, trans_P  # type: ignore[import-untyped]

    listed = np.frombuffer(Path(jieba.__file__).with_name("dict.txt").read_bytes(), np.uint8)
    slots = 1 << 20
    total = -1
    while total < 0:
        slots *= 2
        keys, logs = np.zeros(slots, np.uint64), np.full(slots, _PREFIX)
        total = _read_words(listed, keys, logs)
    emission = np.full((4, LAST - FIRST + 1), _NEVER)
    transition = np.full((4, 4), _NEVER)
    first = np.array([start_P[state] for state in "BEMS"])
    for row, state in enumerate("BEMS"):
        for character, probability in emit_P[state].items():
            if FIRST <= ord(character) <= LAST:
                emission[row, ord(character) - FIRST] = probability
        for after, probability in trans_P[state].items():
            transition[row, "BEMS".index(after)] = probability
    return Dictionary(keys, logs, math.log(total), emission, first, transition)


def cut_chinese(data: npt.NDArray[np.uint8], start: Int64s, stop: Int64s) -> Int64s:
    """The byte offsets where the words of the runs data[start:stop] begin, ascending."""
    words = dictionary()
    longest = int((stop - start).max(initial=0))
    cuts = np.empty(int((stop - start).sum()), np.int64)
    n = _cut_runs(
        data,
        start,
        stop,
        words.keys,
        words.logs,
        words.log_total,
        words.emission,
        words.first,
        words.transition,
        np.empty(longest, np.int64),
        np.empty(longest, np.int64),
        np.empty(longest + 1, np.float64),
        np.empty(longest, np.int64),
        np.empty((longest, 4), np.int8),
        cuts,
    )
    return cuts[:n]


@kernel("uint64(uint64, int64)", forceinline=True)
def _extend(key: Any, point: int) -> Any:
    """The key of a string from that of the string without its last character; the empty one's is 0."""
    key = (key ^ np.uint64(point)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    return key ^ (key >> np.uint64(32))


@kernel(f"int64({_KEYS}, uint64)", forceinline=True)
def _find(keys: Any, key: Any) -> Any:
    """The slot of `key`, or the empty one where it would be."""
    mask = np.uint64(keys.size - 1)
    slot = key & mask
    while keys[slot] != key and keys[slot] != 0:
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)


@kernel(f"int64({BYTES_TYPE}, uint64[::1], float64[::1])")
def _read_words(listed: Any, keys: Any, logs: Any) -> int:
    """Fills the table from lines "word frequency tag"; returns their sum, or -1 where it gets full."""
    at, end, total, used = 0, listed.size, 0, 0
    while at < end:
        key, slot = np.uint64(0), np.int64(0)
        while at < end and listed[at] != 0x20 and listed[at] != 0x0A:
            point, at = decode(listed, at, end)
            key = _extend(key, point)
            slot = _find(keys, key)
            if keys[slot] == 0:
                keys[slot] = key
                used += 1
        frequency = 0
        at += 1
        while at < end and 0x30 <= listed[at] <= 0x39:
            frequency = 10 * frequency + listed[at] - 0x30
            at += 1
        while at < end and listed[at - 1] != 0x0A:
            at += 1
        logs[slot] = math.log(frequency) if frequency > 0 else _PREFIX
        total += frequency
        if 2 * used > keys.size:
            return -1
    return total


@kernel(
    f"int64({_INTS}, int64, int64, {_TABLES}, {_FLOATS}, {_TABLES}, int8[:, ::1], {_INTS}, {_INTS}, int64)"
)
def _cut_unknown(
    points: Any,
    begin: int,
    end: int,
    emission: Any,
    first: Any,
    transition: Any,
    back: Any,
    position: Any,
    cuts: Any,
    count: int,
) -> int:
    """Appends where words begin by the hidden Markov model; returns how many cuts there are now."""
    best, last = np.empty(4, np.float64), np.empty(4, np.float64)
    for state in range(4):
        best[state] = first[state] + emission[state, points[begin] - FIRST]
    for i in range(begin + 1, end):
        last[:] = best
        for state in range(4):
            # A word ends before one begins, and begins before it goes on.
            if state in (_BEGIN, _SINGLE):
                lower, upper = _END, _SINGLE
            else:
                lower, upper = _BEGIN, _MIDDLE
            seen = emission[state, points[i] - FIRST]
            from_lower = last[lower] + transition[lower, state] + seen
            from_upper = last[upper] + transition[upper, state] + seen
            chosen = upper if from_upper >= from_lower else lower
            back[i, state] = chosen
            best[state] = max(from_lower, from_upper)
    ending: Any = np.int64(_SINGLE if best[_SINGLE] >= best[_END] else _END)
    # From the end, so the cuts are written backwards: first count them.
    words, path = 1, ending
    for i in range(end - 1, begin, -1):
        path = np.int64(back[i, path])
        words += path in (_END, _SINGLE)
    write, path = count + words, ending
    for i in range(end - 1, begin, -1):
        path = np.int64(back[i, path])
        if path in (_END, _SINGLE):
            write -= 1
            cuts[write] = position[i]
    cuts[count] = position[begin]
    return count + words


@kernel(
    f"int64({BYTES_TYPE}, {_INTS}, {_INTS}, {_KEYS}, {_FLOATS}, float64, {_TABLES}, {_FLOATS}, {_TABLES}, "
    f"{_INTS}, {_INTS}, float64[::1], {_INTS}, int8[:, ::1], {_INTS})"
)
def _cut_runs(
    data: Any,
    start: Any,
    stop: Any,
    keys: Any,
    logs: Any,
    log_total: float,
    emission: Any,
    first: Any,
    transition: Any,
    points: Any,
    position: Any,
    route: Any,
    follow: Any,
    back: Any,
    cuts: Any,
) -> int:
    """Writes where words begin, run by run; the arrays between `transition` and `cuts` are room for a run."""
    count = 0
    for run in range(len(start)):
        n = 0
        at: Any = start[run]
        while at < stop[run]:
            position[n] = at
            points[n], at = decode(data, at, stop[run])
            n += 1
        begin = 0
        while begin < n:
            end = begin
            while end < n and FIRST <= points[end] <= LAST:
                end += 1
            if end == begin:
                cuts[count] = position[begin]
                count += 1
                begin += 1
                continue
            route[end] = 0.0
            for i in range(end - 1, begin - 1, -1):
                follow[i] = i + 1
                route[i] = -np.inf
                key, j = np.uint64(0), i
                while j < end:
                    key = _extend(key, points[j])
                    j += 1
                    slot = _find(keys, key)
                    if keys[slot] == 0:
                        break
                    if logs[slot] >= 0:
                        along = logs[slot] - log_total + route[j]
                        if along >= route[i]:
                            route[i], follow[i] = along, j
                if route[i] == -np.inf:
                    route[i] = 0.0 - log_total + route[i + 1]
            i = begin
            while i < end:
                if follow[i] > i + 1:
                    cuts[count] = position[i]
                    count += 1
                    i = follow[i]
                    continue
                single = i
                key = np.uint64(0)
                while i < end and follow[i] == i + 1:
                    key = _extend(key, points[i])
                    i += 1
                if i == single + 1 or logs[_find(keys, key)] >= 0:
                    for k in range(single, i):
                        cuts[count] = position[k]
                        count += 1
                else:
                    count = _cut_unknown(
                        points, single, i, emission, first, transition, back, position, cuts, count
                    )
            begin = end
    return count
