"""Verification of clusters: the sets of shingles of their members meet, and pairs are compared."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..operator import Operator, Output, Reducer
from .components import EMITTED_ROWS, MEMBERS
from .groups import Giant, groups

GATHER_BYTES = 64 << 20  # of sets that are read back at a time


class ShingleSets(Operator):
    """The members of clusters among the records of a part, with their band keys and sets of shingles."""

    kernels = ("thresher.filters.dedup.verify", "thresher.filters.dedup.stars")

    def __init__(self, keys: str, on: str, arguments: Mapping[str, Any], cap: int) -> None:
        from ...filters.dedup import minhash, stars, verify

        self._keys, self._on, self._cap = keys, on, cap
        self._scheme = minhash.MinHashScheme(**arguments)
        self._spread, self._sets = stars.spread, verify.shingle_sets

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        batch = batch.filter(pc.is_valid(batch.column("root")))
        roots = batch.column("root").to_numpy(zero_copy_only=False).astype(np.uint64)
        columns = {
            "key": pa.array(self._spread(roots)),
            "position": batch.column("position"),
            "bands": batch.column(self._keys),
            "shingles": self._sets(batch.column(self._on), self._scheme, self._cap),
        }
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


class VerifyClusters(Reducer):
    """Cuts clusters of candidates down to the connected components of their similar pairs.

    Holds the sets of one cluster, up to a bound, beyond which they are on disk; then, for each member of the
    cluster, about 40 bytes and its band keys.
    """

    def __init__(self, bound: float, heads: int, cap: int) -> None:
        from ...filters.dedup import verify

        self._verify, self._bound, self._heads, self._cap = verify, bound, heads, cap

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit("members", pa.RecordBatch.from_pylist([], schema=MEMBERS))
        for group in groups(inputs["members"], out.new_file):
            if isinstance(group, Giant):
                with _Sets.spilled(group, out) as sets:
                    self._emit(sets, out)
            else:
                self._emit(_Sets.held(group), out)

    def _emit(self, sets: _Sets, out: Output) -> None:
        parent = np.arange(len(sets.positions), dtype=np.int64)
        for band in range(sets.bands.shape[1]):
            for rows, starts in sets.buckets(band, self._heads):
                self._unite(sets, rows, starts, parent)
        roots = self._verify.roots(parent)
        _, of, sizes = np.unique(roots, return_inverse=True, return_counts=True)
        joined = sizes[of] > 1
        positions, of = sets.positions[joined], sets.positions[roots[joined]]
        for first in range(0, len(positions), EMITTED_ROWS):
            some = slice(first, first + EMITTED_ROWS)
            arrays = [pa.array(positions[some]), pa.array(of[some])]
            out.emit("members", pa.RecordBatch.from_arrays(arrays, schema=MEMBERS))

    def _unite(self, sets: _Sets, rows: np.ndarray, starts: np.ndarray, parent: np.ndarray) -> None:
        """Compares within groups of rows, of which a single one may have too many sets to be held at once."""
        for pieces in sets.pieces(rows, self._heads) if len(starts) == 2 else [rows]:
            bounds = starts if pieces is rows else np.array([0, len(pieces)], np.int64)
            self._verify.unite(
                pieces, bounds, self._heads, parent, *sets.gather(pieces), self._bound, self._cap
            )


class _Sets:
    """The members of clusters in the order of positions, with band keys in memory and sets wherever."""

    def __init__(self, positions: np.ndarray, bands: np.ndarray, counts: np.ndarray) -> None:
        order = np.argsort(positions, kind="stable")
        self.positions, self.bands = positions[order], bands[order]
        ends = np.cumsum(counts)
        self._start, self._count = (ends - counts)[order], counts[order]
        self._values: np.ndarray | None = None
        self._file: int | None = None

    @classmethod
    def held(cls, batch: pa.RecordBatch) -> _Sets:
        shingles = batch.column("shingles")
        made = cls(*_columns(batch), np.diff(shingles.offsets.to_numpy()))
        made._values = shingles.flatten().to_numpy()
        return made

    @classmethod
    def spilled(cls, giant: Giant, out: Output) -> _Sets:
        path = out.new_file("shingles")
        light = []
        with path.open("xb") as file:
            for batch in giant.batches():
                shingles = batch.column("shingles")
                light.append((*_columns(batch), np.diff(shingles.offsets.to_numpy())))
                file.write(shingles.flatten().to_numpy().data)
        made = cls(*(np.concatenate(columns) for columns in zip(*light, strict=True)))
        made._file = os.open(path, os.O_RDONLY)
        path.unlink()  # what is open stays readable
        return made

    def __enter__(self) -> _Sets:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)

    def buckets(self, band: int, heads: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The members that share their key of a band with others, as rows and starts of groups.

        Together at most about GATHER_BYTES of sets, except for a group that is larger, which comes alone.
        """
        keys = self.bands[:, band]
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        opens = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        sizes = np.diff(np.append(opens, len(order)))
        order = order[np.repeat(sizes > 1, sizes)]
        starts = np.concatenate([[0], np.cumsum(sizes[sizes > 1])])
        bytes_ = 4 * np.concatenate([[0], np.cumsum(self._count[order])])[starts]
        first = 0
        while first < len(starts) - 1:
            last = int(np.searchsorted(bytes_, bytes_[first] + GATHER_BYTES, side="right")) - 1
            last = max(last, first + 1)
            yield order[starts[first] : starts[last]], starts[first : last + 1] - starts[first]
            first = last

    def pieces(self, rows: np.ndarray, heads: int) -> Iterator[np.ndarray]:
        """The rows of a group, or, where their sets are too large, its heads with some of the others each."""
        size = 4 * np.cumsum(self._count[rows])
        if size[-1] <= GATHER_BYTES or len(rows) <= heads:
            yield rows
            return
        first = heads
        while first < len(rows):
            last = max(int(np.searchsorted(size, size[first - 1] + GATHER_BYTES)), first + 1)
            yield np.concatenate([rows[:heads], rows[first:last]])
            first = last

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the sets of some members start and stop in the values that come third."""
        starts, counts = self._start[rows], self._count[rows]
        if self._values is not None:
            return starts, starts + counts, self._values
        assert self._file is not None
        stops = np.cumsum(counts)
        values = np.empty(stops[-1], np.uint32)
        for stop, start, count in zip(stops.tolist(), starts.tolist(), counts.tolist(), strict=True):
            if count:
                os.preadv(self._file, [values[stop - count : stop].data], 4 * start)
        return stops - counts, stops, values


def _columns(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    bands = batch.column("bands")
    values = bands.flatten().to_numpy().reshape(len(batch), -1)
    return batch.column("position").to_numpy(), values
