"""How token sequences become the windows that a model reads, and windows batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Spans of sequences that a model reads at a time, in the order of the sequences and within them.

    Window i reads the tokens [begin, end) of sequence `row`; the tokens from `scored` on count, each of which
    counts in one window.
    """

    row: Numbers
    begin: Numbers
    end: Numbers
    scored: Numbers

    def __len__(self) -> int:
        return len(self.row)

    def take(self, numbers: Numbers) -> Windows:
        """These windows, in this order."""
        return Windows(self.row[numbers], self.begin[numbers], self.end[numbers], self.scored[numbers])

    @property
    def reads(self) -> Numbers:
        """Tokens that the model is given of each: the last one is foretold and never read."""
        return self.end - self.begin - 1

    @property
    def counts(self) -> Numbers:
        """Tokens that count in each."""
        return self.end - self.scored


def sliding(lengths: Numbers, first: Numbers, window: int, stride: int) -> Windows:
    """Windows of at most `window` tokens that begin `stride` apart, the last one at the end of the sequence.

    `first`: of each sequence the token from which on they count; the first token of all never does, as
    nothing foretells it. From the second window on a token has at least window - stride tokens before it.
    """
    more = np.maximum(lengths - window, 0)
    row, number = _numbered(1 + -(-more // stride))
    begin = number * stride
    end = np.minimum(begin + window, lengths[row])
    fresh = np.where(number > 0, begin - stride + window, 0)
    return _with_tokens(Windows(row, begin, end, np.maximum(fresh, np.maximum(first[row], 1))))


def fixed(lengths: Numbers, length: int) -> Windows:
    """The sequences cut into windows of exactly `length` tokens; what is left at the end is not read."""
    row, number = _numbered(lengths // length)
    begin = number * length
    return Windows(row, begin, begin + length, begin + 1)


def packed(reads: Numbers, tokens: int) -> Iterator[Numbers]:
    """The numbers of the windows of each batch: together about `tokens` at most, and nearly as many in each.

    Windows of like length come together, the longest first. A single window may be longer than `tokens`.
    """
    order = np.argsort(-reads, kind="stable")
    ends = np.cumsum(reads[order])
    if not len(order):
        return
    batches = -(-int(ends[-1]) // tokens)
    # Equal shares, so that the last batch keeps the device as busy as the others.
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, batches) / batches, side="right")
    for part in np.split(order, np.unique(cuts)):
        if len(part):
            yield part


def padded(reads: Numbers, tokens: int) -> Iterator[Numbers]:
    """As `packed`, for windows that are filled up to the longest of their batch, which counts as well."""
    order = np.argsort(-reads, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, tokens // int(reads[order[start]]))
        yield order[start : start + rows]
        start += rows


def spans(begin: Numbers, counts: Numbers) -> Numbers:
    """begin, begin + 1, … of each span, one span behind the other."""
    total = int(counts.sum())
    ends = np.cumsum(counts)
    return np.arange(total) + np.repeat(begin - ends + counts, counts)


def _numbered(counts: Numbers) -> tuple[Numbers, Numbers]:
    """The row of each window, and its number within the row."""
    row = np.repeat(np.arange(len(counts)), counts)
    return row, spans(np.zeros(len(counts), np.int64), counts)


def _with_tokens(windows: Windows) -> Windows:
    return windows.take(np.flatnonzero(windows.scored < windows.end))
