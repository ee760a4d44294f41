"""Lines that several records share: found by exchange, and taken out of the texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..operator import Operator, Output, Reducer
from .groups import Giant, groups
from .part_order import ROWS

COPIES: Final = pa.schema(
    [
        pa.field("position", pa.uint64(), nullable=False),
        pa.field("piece", pa.uint32(), nullable=False),  # number of the line in the record
    ]
)
REMOVED: Final = pa.schema(
    [
        pa.field("position", pa.uint64(), nullable=False),  # sorted, unique
        pa.field("removed", pa.list_(pa.uint32()), nullable=False),  # numbers of lines, sorted
    ]
)


class PieceKeys(Operator):
    """A row for each line or paragraph that is compared: its key, the record, its number in it."""

    kernels = ("thresher.filters.dedup.lines",)

    def __init__(self, unit: str, min_length: int, within: str | None) -> None:
        from ...filters.dedup import lines

        self._keys: Any = lines.piece_keys
        self._unit, self._least, self._within = unit, min_length, within

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        within = batch.column(self._within).cast(pa.string()) if self._within else None
        first, keys, compared = self._keys(batch.column("text"), self._unit, self._least, within)
        counts = np.diff(first)
        positions = np.repeat(batch.column("position").to_numpy(), counts)
        numbers = np.arange(len(keys)) - np.repeat(first[:-1], counts)
        columns = [keys[compared], positions[compared], numbers[compared].astype(np.uint32)]
        return pa.RecordBatch.from_arrays(
            [pa.array(column) for column in columns], names=["key", "position", "piece"]
        )


class FindCopies(Reducer):
    """Names the lines that go: all of one key but the first; with `none`, the first too, if another record
    has the line.

    Rows of one key come in the order of records; one row is held.
    """

    def __init__(self, keep: str) -> None:
        self._none = keep == "none"

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit("copies", pa.RecordBatch.from_pylist([], schema=COPIES))
        held: pa.RecordBatch | None = None  # the first row of the last key, unless it has been named
        last_key: int | None = None
        for batch in inputs["pieces"]:
            if not len(batch):
                continue
            goes_on = last_key == int(batch.column("key")[0].as_py())
            unnamed = goes_on and held is not None
            if unnamed:
                batch = pa.concat_batches([held, batch])
            found, held = self._copies(batch, goes_on and not unnamed)
            last_key = int(batch.column("key")[len(batch) - 1].as_py())
            out.emit("copies", found.select(["position", "piece"]).cast(COPIES))

    def _copies(self, batch: pa.RecordBatch, goes_on: bool) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
        """The copies in `batch`, and the first row of its last key, unless it is among them.

        `goes_on`: the first row of the first key was named before.
        """
        keys, positions = batch.column("key").to_numpy(), batch.column("position").to_numpy()
        opens = np.concatenate([[not goes_on], keys[1:] != keys[:-1]])
        group = np.cumsum(opens) - (0 if goes_on else 1)
        gone = ~opens
        if self._none:
            another = np.zeros(int(group[-1]) + 1, np.bool_)
            firsts = positions[np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))]
            np.logical_or.at(another, group, positions != firsts[group])
            gone |= another[group]
        last = np.flatnonzero(opens & (group == group[-1]))
        held = None
        if len(last) and not gone[last[0]]:
            held = pa.concat_batches([batch.slice(int(last[0]), 1)])
        return batch.filter(pa.array(gone)), held


class CollectCopies(Reducer):
    """Commits, for each record that loses lines, their numbers, in the order of positions."""

    def __init__(self, shift: int) -> None:
        self._shift = np.uint64(shift)

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit(ROWS, pa.RecordBatch.from_pylist([], schema=REMOVED))
        for group in groups(inputs[ROWS], out.new_file):
            # The lines of one record, however many, are fewer than its bytes.
            batch = pa.concat_batches(list(group.batches())) if isinstance(group, Giant) else group
            keys, pieces = batch.column("key").to_numpy(), batch.column("piece").to_numpy()
            order = np.lexsort((pieces, keys))
            keys, pieces = keys[order], pieces[order]
            opens = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
            lists = pa.ListArray.from_arrays(
                pa.array(np.append(opens, len(keys)).astype(np.int32)), pa.array(pieces)
            )
            positions = pa.array(keys[opens] >> self._shift)
            out.emit(ROWS, pa.RecordBatch.from_arrays([positions, lists], schema=REMOVED))


class TakeOut(Operator):
    """Takes the copies out of the texts, and drops a record of which too little is left.

    The ledger has `emptied` for a record without any character, else `too_short`, and the characters left.
    """

    kernels = ("thresher.filters.dedup.lines",)

    def __init__(self, step: str, unit: str, min_length: int, min_chars: int) -> None:
        from ...filters.dedup import lines

        self._without: Any = lines.without_pieces
        self._step, self._unit, self._blank, self._least = step, unit, min_length == 0, min_chars

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        text, pieces, bytes_ = self._without(
            batch.column("text"), batch.column("removed"), self._unit, self._blank
        )
        out.accounts.note(self._step, **{f"removed_{self._unit}": pieces, "removed_bytes": bytes_})
        columns = {name: batch.column(name) for name in batch.schema.names if name != "removed"}
        shorter = pc.subtract(_size(batch.column("text")), _size(text))
        columns |= {"text": text, "bytes": pc.subtract(batch.column("bytes"), shorter)}
        left = pc.fill_null(pc.utf8_length(text), 0)
        reasons = pc.if_else(
            pc.less(left, self._least), pc.if_else(pc.equal(left, 0), "emptied", "too_short"), None
        )
        return out.drop(self._step, pa.RecordBatch.from_pydict(columns), reasons, left.cast(pa.string()))


def _size(text: pa.Array) -> pa.Array:
    return pc.fill_null(pc.binary_length(text), 0).cast(pa.int64())
