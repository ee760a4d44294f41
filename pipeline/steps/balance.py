"""Captions of frequent entries thinned out: entries found, counted over the corpus, and drawn for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..draws import draws
from ..operator import Operator, Output, Reducer
from ..store import at_hand
from .groups import Giant, groups

KERNELS: Final = ("thresher.filters.text.entries",)
SUMS: Final = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("number", pa.int32(), nullable=False),  # of the entry
        pa.field("captions", pa.int64(), nullable=False),  # that have it
    ]
)
COUNTS: Final = pa.schema(
    [
        pa.field("entry", pa.string(), nullable=False),
        pa.field("number", pa.int32(), nullable=False),  # of the entry in the list, from 0
        pa.field("captions", pa.int64(), nullable=False),  # of the corpus that have it: 1 or more
        pa.field("probability", pa.float64(), nullable=False),  # t / max(captions, t)
    ]
)
NO_ENTRY, BALANCED = "no_entry", "balanced"


class FindEntries(Operator):
    """Adds the column `column`, the numbers of the entries of the file `path` that a text has.

    `checksum`, of the file, and `matching`, the version of the search, are for the fingerprint.
    """

    kernels = KERNELS

    def __init__(self, path: str, checksum: str, matching: int, column: str) -> None:
        self._path, self._column = path, column

    def open(self) -> None:
        from ...filters.text.entries import EntryIndex, read_entries

        self._index = EntryIndex(read_entries(Path(self._path)).entries)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        first, entries = self._index.find(batch.column("text"))
        lists = pa.ListArray.from_arrays(pa.array(first.astype(np.int32)), pa.array(entries))
        return batch.append_column(self._column, lists)


class CountEntries(Operator):
    """A row for each entry that a part has, with its captions there. Holds a number for each entry."""

    kernels = ("thresher.filters.dedup.stars",)

    def __init__(self, column: str, entries: int) -> None:
        self._column, self._entries = column, entries

    def begin(self, part: int) -> None:
        self._captions = np.zeros(self._entries, np.int64)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        # Each entry is once in a list, so that to count entries is to count captions.
        numbers = batch.column(self._column).flatten().to_numpy()
        np.add.at(self._captions, numbers, 1)
        return pa.RecordBatch.from_pylist([], schema=SUMS)

    def end(self, out: Output) -> pa.RecordBatch:
        from ...filters.dedup.stars import spread

        numbers = np.flatnonzero(self._captions)
        columns = [spread(numbers.astype(np.uint64)), numbers.astype(np.int32), self._captions[numbers]]
        return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=SUMS)


class AddCaptions(Reducer):
    """Commits the captions of each entry over the corpus, and the probability that goes with them.

    Holds the rows of one entry, one for each part, up to a bound, beyond which they are on disk, and the
    entries.
    """

    def __init__(self, step: str, path: str, checksum: str, t: int) -> None:
        self._step, self._path, self._t = step, path, t

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        from ...filters.text.entries import read_entries

        entries = read_entries(Path(self._path)).entries
        out.emit("counts", self._counts(np.zeros(0, np.int32), np.zeros(0, np.int64), entries))
        for group in groups(inputs["sums"], out.new_file):
            if isinstance(group, Giant):
                captions = np.zeros(1, np.int64)
                for batch in group.batches():
                    captions += pc.sum(batch.column("captions")).as_py()
                    numbers = batch.column("number").to_numpy()[:1]
            else:
                keys = group.column("key").to_numpy()
                opens = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
                captions = np.add.reduceat(group.column("captions").to_numpy(), opens)
                numbers = group.column("number").to_numpy()[opens]
            over = int((captions > self._t).sum())
            out.accounts.note(self._step, entries=len(numbers), entries_over_t=over)
            out.emit("counts", self._counts(numbers, captions, entries))

    def _counts(self, numbers: Any, captions: Any, entries: pa.StringArray) -> pa.RecordBatch:
        probability = self._t / np.maximum(captions, self._t)
        columns = [entries.take(pa.array(numbers)), *map(pa.array, (numbers, captions, probability))]
        return pa.RecordBatch.from_arrays(columns, schema=COUNTS)


class Balance(Operator):
    """Keeps a record if a draw of any of its entries succeeds.

    The others are dropped: as `no_entry`, or as `balanced`, with the probability that they had to be kept as
    the value. The draw is of (seed, step, id, entry), whatever the number of the entry. `counts`: the streams
    of AddCaptions. Holds 16 bytes for each entry.
    """

    kernels = KERNELS

    def __init__(self, step: str, column: str, counts: Sequence[str], entries: int, seed: int) -> None:
        self._step, self._column, self._counts = step, column, list(counts)
        self._entries, self._seed = entries, seed

    def open(self) -> None:
        from ...filters.text.entries import entry_hashes

        self._probability = np.zeros(self._entries, np.float64)
        self._hashes = np.zeros(self._entries, np.uint64)
        for path in self._counts:
            with at_hand(path) as file:
                table = pq.read_table(file).combine_chunks()
            for batch in table.to_batches():
                numbers = batch.column("number").to_numpy()
                self._probability[numbers] = batch.column("probability").to_numpy()
                self._hashes[numbers] = entry_hashes(batch.column("entry"))

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        from ...filters.text.entries import keep_by_entries

        lists = batch.column(self._column)
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        drawn = draws(batch.column("id"), self._seed, self._step)
        keep, chance = keep_by_entries(
            first, lists.flatten().to_numpy(), self._probability, self._hashes, drawn
        )
        none = pa.scalar(None, pa.string())
        thinned = pc.if_else(pa.array(counts > 0), BALANCED, NO_ENTRY)
        reasons = pc.if_else(pa.array(keep), none, thinned)
        told = pc.if_else(pa.array(counts > 0), pa.array(chance).cast(pa.string()), none)
        return out.drop(self._step, batch, reasons, told)
