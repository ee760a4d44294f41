"""What earlier runs have kept: their keys meet those of new records, which then are duplicates of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from ..operator import Operator, Output, Reader, Reducer
from ..store import open_parquet
from ..view import ROW_BITS
from .groups import Giant, groups

MATCHES: Final = pa.schema(
    [
        pa.field("position", pa.uint64(), nullable=False),  # of a new record
        pa.field("old", pa.uint64(), nullable=False),  # file of saved keys << 32 | row in it
    ]
)
OLDER: Final = pa.schema([*MATCHES, pa.field("older", pa.string(), nullable=False)])  # id of the old record


class SaveKeys(Operator):
    """Commits the keys of the records that survive, with their ids; `names` are the columns of the keys."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        kept = batch.filter(batch.column(self._names["keys"]).is_valid())
        columns = [kept.column("id"), *(kept.column(column) for column in self._names.values())]
        out.emit("keys", pa.RecordBatch.from_arrays(columns, names=["id", *self._names]))
        return batch


class ReadKeys(Reader):
    """Saved keys as rows (key, [low,] old) of an exchange."""

    kernels = ("thresher.filters.dedup.edges",)

    def __init__(self, path: str, number: int) -> None:
        self._path, self._number = path, number

    def read(self, part: int, out: Output) -> Iterator[pa.RecordBatch]:
        from ...filters.dedup.edges import key_rows

        for positions, batch in _numbered(self._path, self._number, ("keys", "low")):
            low = batch.column("low") if "low" in batch.schema.names else None
            rows = key_rows(batch.column("keys"), positions, low)
            yield rows.rename_columns(["old" if n == "position" else n for n in rows.schema.names])


class ReadIds(Reader):
    """The ids of saved keys, by a key that tells which they are."""

    kernels = ("thresher.filters.dedup.stars",)

    def __init__(self, path: str, number: int) -> None:
        self._path, self._number = path, number

    def read(self, part: int, out: Output) -> Iterator[pa.RecordBatch]:
        from ...filters.dedup.stars import spread

        for positions, batch in _numbered(self._path, self._number, ("id",)):
            keys = pa.array(spread(positions.to_numpy()))
            yield pa.RecordBatch.from_arrays([keys, batch.column("id")], names=["key", "older"])


def _numbered(path: str, number: int, wanted: tuple[str, ...]) -> Iterator[tuple[pa.Array, pa.RecordBatch]]:
    """The rows of a file of saved keys, at least one batch, each with its number over all files."""
    row = number << ROW_BITS
    with open_parquet(path) as file:
        columns = [name for name in wanted if name in file.schema_arrow.names]
        empty = pa.RecordBatch.from_pylist(
            [], schema=pa.schema([file.schema_arrow.field(c) for c in columns])
        )
        yield pa.array([], pa.uint64()), empty
        for batch in file.iter_batches(columns=columns):
            yield pa.array(np.arange(row, row + len(batch), dtype=np.uint64)), batch
            row += len(batch)


class MatchOlder(Reducer):
    """For each new row the least old record that has the same key, if there is one."""

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit("matches", pa.RecordBatch.from_pylist([], schema=MATCHES))
        for new, old in aligned(inputs["new"], _distinct(inputs["old"], out)):
            place = _places(new, old)
            found = place >= 0
            positions = new.column("position").filter(pa.array(found))
            olds = old.column("old").take(pa.array(place[found]))
            out.emit("matches", pa.RecordBatch.from_arrays([positions, olds], schema=MATCHES))


class ByOld(Operator):
    """Matches, by a key that tells which old record they are with."""

    kernels = ("thresher.filters.dedup.stars",)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        from ...filters.dedup.stars import spread

        return batch.append_column("key", pa.array(spread(batch.column("old").to_numpy())))


class NameOlder(Reducer):
    """Puts the ids of old records to matches."""

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit("older", pa.RecordBatch.from_pylist([], schema=OLDER))
        for matches, ids in aligned(inputs["matches"], _distinct(inputs["ids"], out)):
            place = _places(matches, ids)
            if len(place) and place.min() < 0:
                raise ValueError("a saved key has no id")
            columns = [
                matches.column("position"),
                matches.column("old"),
                ids.column("older").take(pa.array(place)),
            ]
            out.emit("older", pa.RecordBatch.from_arrays(columns, schema=OLDER))


def aligned(
    left: Iterator[pa.RecordBatch], right: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Pieces of the left with the batch of the right that alone may have their keys.

    Both are sorted by `key`, and no key of the right is in two of its batches. What is behind the last key of
    the right is left out.
    """
    beside = next(right, None)
    for batch in left:
        keys = batch.column("key").to_numpy()
        start = 0
        while start < len(batch) and beside is not None:
            last = beside.column("key")[-1].as_py()
            stop = int(np.searchsorted(keys, np.uint64(last), side="right"))
            if stop > start:
                yield batch.slice(start, stop - start), beside
            start = stop
            if start < len(batch):
                beside = next(right, None)


def _distinct(batches: Iterator[pa.RecordBatch], out: Output) -> Iterator[pa.RecordBatch]:
    """The first row of each (key, low), sorted, with no key in two batches; no batch without rows."""
    for group in groups(batches, out.new_file):
        if isinstance(group, Giant):
            pieces = [_first_rows(batch) for batch in group.batches()]
            yield _first_rows(pa.concat_batches(pieces))
        else:
            yield _first_rows(group)


def _first_rows(batch: pa.RecordBatch) -> pa.RecordBatch:
    names = [name for name in ("low", "key") if name in batch.schema.names]
    columns = [batch.column(name).to_numpy() for name in names]
    order = np.lexsort(columns)
    columns = [column[order] for column in columns]
    new = np.zeros(len(batch), np.bool_)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return batch.take(pa.array(order[new]))


def _places(left: pa.RecordBatch, right: pa.RecordBatch) -> np.ndarray:
    """For each row of the left the row of the right with the same (key, low), -1 where there is none."""
    keys, among = left.column("key").to_numpy(), right.column("key").to_numpy()
    first, last = np.searchsorted(among, keys), np.searchsorted(among, keys, side="right")
    place = np.where(first < last, first, -1)
    if "low" in left.schema.names:
        wanted, lows = left.column("low").to_numpy(), right.column("low").to_numpy()
        place = np.where((place >= 0) & (lows[place] == wanted), place, -1)
        # Two hashes that share their upper half are rare, but they happen.
        for row in np.flatnonzero((place < 0) & (last - first > 1)):
            same = np.flatnonzero(lows[first[row] : last[row]] == wanted[row])
            place[row] = first[row] + same[0] if len(same) else -1
    return place
