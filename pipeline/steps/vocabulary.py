"""Records with a rare word: words and pairs counted over the corpus, and what is rare told to its parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..operator import Operator, Output, Reducer
from .groups import Giant, groups
from .occurrences import COUNTED, add_up, totals
from .part_order import ROWS

KERNELS: Final = ("thresher.filters.text.word_pairs",)
# A word or a pair of a part.
NGRAMS: Final = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),  # its hash
        pa.field("position", pa.uint64(), nullable=False),  # of the first record of the part that has it
        pa.field(COUNTED, pa.int64(), nullable=False),  # occurrences, in the end those of the corpus
    ]
)
HISTOGRAM: Final = pa.schema(
    [
        pa.field("occurrences", pa.int64(), nullable=False),  # unique
        pa.field("ngrams", pa.int64(), nullable=False),  # that have so many
    ]
)
RARE_WORD: Final = "rare_word"
TOLD: Final = 100  # characters of a rare word or pair in the ledger


class NgramRows(Operator):
    """A row for each word and pair that a batch has.

    `version_of`, of words and hashes, is for the fingerprint.
    """

    kernels = KERNELS

    def __init__(self, ngrams: Sequence[int], lowercase: bool, version_of: str) -> None:
        from ...filters.text.word_pairs import word_pairs

        self._pairs: Any = word_pairs
        self._ngrams, self._lowercase = list(ngrams), lowercase

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        found = self._pairs(batch.column("text"), self._ngrams, self._lowercase)
        positions = batch.column("position").to_numpy()[found.text]
        ones = np.ones(len(positions), np.int64)
        columns = [pa.array(column) for column in (found.hash, positions, ones)]
        return add_up(pa.RecordBatch.from_arrays(columns, schema=NGRAMS))


class CountNgrams(Reducer):
    """Commits the words and pairs of each part with their occurrences in the corpus, and how many have so
    many occurrences.

    Holds the rows of one, up to a bound, and a number for each different count: these are few, for a corpus
    of n words has at most about the square root of 2n.
    """

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit("ngrams", pa.RecordBatch.from_pylist([], schema=NGRAMS))
        histogram: Counter[int] = Counter()
        for rows, new in totals(inputs["ngrams"], out):
            out.emit("ngrams", rows.cast(NGRAMS))
            counts, times = np.unique(rows.column(COUNTED).to_numpy()[new], return_counts=True)
            histogram.update(dict(zip(counts.tolist(), times.tolist(), strict=True)))
        ordered = sorted(histogram.items())
        columns = [pa.array([item[k] for item in ordered], pa.int64()) for k in (0, 1)]
        out.emit("histogram", pa.RecordBatch.from_arrays(columns, schema=HISTOGRAM))


def least_known(histograms: Iterable[pa.Table], size: int) -> tuple[int | None, int, int]:
    """The fewest occurrences of a known word or pair, how many are known, and how many there are.

    At most `size` are known: all that have so many occurrences, or more. None where all there are fit.
    """
    merged: Counter[int] = Counter()
    for table in histograms:
        counts, ngrams = (table.column(name).to_pylist() for name in HISTOGRAM.names)
        for count, number in zip(counts, ngrams, strict=True):
            merged[count] += number
    total, known = sum(merged.values()), 0
    least = max(merged, default=0) + 1
    if total <= size:
        return None, total, total
    for count in sorted(merged, reverse=True):
        if known + merged[count] > size:
            break
        known, least = known + merged[count], count
    return least, known, total


class RareRows(Operator):
    """The words and pairs with fewer occurrences than `least`, by the positions that they are told to."""

    def __init__(self, least: int, shift: int) -> None:
        self._least, self._shift = least, np.uint64(shift)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        batch = batch.filter(pc.less(batch.column(COUNTED), self._least))
        keys = pa.array(batch.column("position").to_numpy() << self._shift)
        return pa.RecordBatch.from_arrays([keys, batch.column("key")], names=["key", "ngram"])


class CollectRare(Reducer):
    """Commits, for each record that is the first of its part with something rare, what that is, in the order
    of positions."""

    def __init__(self, shift: int, column: str) -> None:
        self._shift = np.uint64(shift)
        self._schema = pa.schema(
            [
                pa.field("position", pa.uint64(), nullable=False),
                pa.field(column, pa.list_(pa.uint64()), nullable=False),
            ]
        )

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit(ROWS, pa.RecordBatch.from_pylist([], schema=self._schema))
        for group in groups(inputs[ROWS], out.new_file):
            # The words and pairs of one record, however many, are fewer than twice its bytes.
            batch = pa.concat_batches(list(group.batches())) if isinstance(group, Giant) else group
            keys, ngrams = batch.column("key").to_numpy(), batch.column("ngram").to_numpy()
            order = np.lexsort((ngrams, keys))
            keys, ngrams = keys[order], ngrams[order]
            opens = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
            lists = pa.ListArray.from_arrays(
                pa.array(np.append(opens, len(keys)).astype(np.int32)), pa.array(ngrams)
            )
            positions = pa.array(keys[opens] >> self._shift)
            out.emit(ROWS, pa.RecordBatch.from_arrays([positions, lists], schema=self._schema))


class DropRare(Operator):
    """Drops the records that have a rare word or pair, as `rare_word`, with the first one as the value.

    `rare` lists what is rare beside the first record of the part that has it, so that it is known when a
    later one is looked at. Holds 16 to 32 bytes for each different rare word and pair of a part.
    """

    kernels = KERNELS

    def __init__(self, step: str, ngrams: Sequence[int], lowercase: bool, rare: str, version_of: str) -> None:
        from ...filters.text import word_pairs

        self._library = word_pairs
        self._step, self._rare = step, rare
        self._ngrams, self._lowercase = list(ngrams), lowercase

    def begin(self, part: int) -> None:
        self._known_rare = self._library.HashSet()

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        self._known_rare.add(batch.column(self._rare).drop_null().flatten().to_numpy())
        found = self._library.word_pairs(batch.column("text"), self._ngrams, self._lowercase)
        rare: npt.NDArray[np.int64] = np.flatnonzero(self._known_rare.has(found.hash))
        rows, places = np.unique(found.text[rare], return_index=True)
        gone = np.zeros(len(batch), np.bool_)
        gone[rows] = True
        told: list[str | None] = [None] * len(batch)
        for row, which in zip(rows.tolist(), rare[places].tolist(), strict=True):
            told[row] = found.read(which)[:TOLD]
        reasons = pc.if_else(pa.array(gone), RARE_WORD, pa.scalar(None, pa.string()))
        return out.drop(self._step, batch, reasons, pa.array(told, pa.string()))


class KeepAll(Operator):
    """Counts the records of a step that has nothing to drop."""

    def __init__(self, step: str) -> None:
        self._step = step

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        return out.drop(self._step, batch, pa.nulls(len(batch), pa.string()))
