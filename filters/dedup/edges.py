"""Star edges: every document of a group of equal keys is joined with the first of its group.

A row is (key, [low,] position, [link]), all uint64. `key` is what the exchange sorts and partitions by;
`low`, where there is one, is the other half of a 128-bit hash, and only rows that agree in both belong
together. A candidate has no `link`, or its own position there. A row whose `link` is another position is an
edge that `combine` has already found; its key only spreads it over the partitions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..kernels import kernel
from .clusters import mix

Uint64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

EDGES: Final = pa.schema(
    [
        pa.field("src", pa.uint64(), nullable=False),  # the position that came first with a key
        pa.field("dst", pa.uint64(), nullable=False),  # the position of another document with that key
    ]
)

_UNSORTED = -1  # what `_star` answers instead of a number of rows
_FULL = -2

# Where the scan stands: state of `_star` between calls and batches.
_ROW, _EDGE, _HEADS, _KEY_SEEN = 0, 1, 2, 3


def key_rows(keys: pa.Array, position: pa.Array, low: pa.Array | None = None) -> pa.RecordBatch:
    """Rows (key, [low,] position) for `combine` and StarEdges, in the order of the documents.

    `keys` is uint64, or a list of uint64 (the bands of `band_keys`), which gives a row for each value;
    `position` is uint64. A document whose key is null gives no row. `low` goes with a plain key only.
    """
    valid = keys.is_valid()
    keys, position = keys.filter(valid), position.filter(valid)
    if not pa.types.is_uint64(keys.type):
        position = pa.array(np.repeat(position.to_numpy(), pc.list_value_length(keys).to_numpy()))
        keys = keys.flatten()
    if low is None:
        return pa.RecordBatch.from_arrays([keys, position], names=["key", "position"])
    return pa.RecordBatch.from_arrays([keys, low.filter(valid), position], names=["key", "low", "position"])


class StarEdges:
    """Reduces rows sorted by key to edges; call it with each batch of a partition in turn.

    Between batches it holds the current key and, for each `low` seen with it, the first position: one entry,
    save where different 128-bit hashes share their upper half. Where batches are cut changes nothing.
    """

    def __init__(self) -> None:
        self._key = np.zeros(1, np.uint64)
        self._heads = np.empty((8, 2), np.uint64)  # (low, first position) for the current key
        self._state = np.zeros(4, np.int64)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The edges (schema EDGES) that the rows of `batch` close, in the order of the rows.

        No edge joins a position with itself. Raises ValueError where a key is smaller than the one before it,
        KeyError where `key` or `position` is missing.
        """
        edges, _ = self.scan(*_columns(batch))
        return pa.RecordBatch.from_arrays([pa.array(edges[0]), pa.array(edges[1])], schema=EDGES)

    def scan(
        self, key: Uint64s, low: Uint64s, position: Uint64s, link: Uint64s
    ) -> tuple[tuple[Uint64s, Uint64s], Bools]:
        """The same on arrays: (src, dst) of the edges, and for each row whether it opened a group."""
        rows = len(key)
        src, dst, opens = np.empty(rows, np.uint64), np.empty(rows, np.uint64), np.empty(rows, np.bool_)
        self._state[_ROW] = self._state[_EDGE] = 0
        while True:
            stopped = _star(key, low, position, link, self._key, self._heads, self._state, src, dst, opens)
            if stopped == _UNSORTED:
                raise ValueError(f"keys are not sorted: row {self._state[_ROW]} is below the row before it")
            if stopped != _FULL:
                break
            self._heads = np.concatenate([self._heads, np.empty_like(self._heads)])
        found = int(self._state[_EDGE])
        return (src[:found], dst[:found]), opens


def combine(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows, with all of a group of equal keys but its first row turned into finished edges.

    Takes rows in any order; gives key, [low,] position, link sorted by key, rows of one key in the order in
    which they came, every edge once. So a key that all documents share costs its partition one candidate per
    chunk, and its edges go everywhere. Associative and idempotent as to connected components: combining once
    more, or what was combined separately, or nothing, gives the same components.
    """
    has_low = "low" in batch.schema.names
    columns = _columns(batch)
    order = np.argsort(columns[0], kind="stable")
    key, low, position, link = (column[order] for column in columns)
    (src, dst), opens = StarEdges().scan(key, low, position, link)
    spread, src, dst = _distinct(src, dst)
    key = np.concatenate([key[opens], spread])
    order = np.argsort(key, kind="stable")  # merges two sorted runs, which costs little
    made = {
        "key": key,
        "low": np.concatenate([low[opens], np.zeros(len(dst), np.uint64)]),
        "position": np.concatenate([position[opens], dst]),
        "link": np.concatenate([position[opens], src]),
    }
    return pa.RecordBatch.from_pydict(
        {name: pa.array(values[order]) for name, values in made.items() if has_low or name != "low"}
    )


def _columns(batch: pa.RecordBatch) -> tuple[Uint64s, Uint64s, Uint64s, Uint64s]:
    """key, low, position and link; where it has none, low is 0 and link is the position."""
    key, position = (np.ascontiguousarray(batch.column(name).to_numpy()) for name in ("key", "position"))
    low, link = np.zeros(len(key), np.uint64), position
    if "low" in batch.schema.names:
        low = np.ascontiguousarray(batch.column("low").to_numpy())
    if "link" in batch.schema.names:
        link = np.ascontiguousarray(batch.column("link").to_numpy())
    return key, low, position, link


def _distinct(src: Uint64s, dst: Uint64s) -> tuple[Uint64s, Uint64s, Uint64s]:
    """Each edge once, sorted by a hash of `dst`: that hash, src, dst."""
    spread = np.empty(len(dst), np.uint64)
    _mix(dst, spread)
    order = np.lexsort((src, spread))
    spread, src, dst = spread[order], src[order], dst[order]
    new = np.ones(len(src), np.bool_)
    new[1:] = (spread[1:] != spread[:-1]) | (src[1:] != src[:-1])
    return spread[new], src[new], dst[new]


@kernel("void(uint64[::1], uint64[::1])")
def _mix(values: Uint64s, mixed: Uint64s) -> None:
    for i in range(len(values)):
        mixed[i] = mix(values[i])


_RO = "Array(uint64, 1, 'C', readonly=True)"  # columns of Arrow are read-only


@kernel(
    f"int64({_RO}, {_RO}, {_RO}, {_RO}, uint64[::1], uint64[:, ::1], int64[::1], uint64[::1], uint64[::1],"
    " boolean[::1])"
)
def _star(
    key: Uint64s,
    low: Uint64s,
    position: Uint64s,
    link: Uint64s,
    current: Uint64s,
    heads: Uint64s,
    state: Int64s,
    src: Uint64s,
    dst: Uint64s,
    opens: Bools,
) -> int:
    """Continues at row state[_ROW]; returns the number of rows, _UNSORTED, or _FULL for lack of `heads`."""
    for row in range(state[_ROW], len(key)):
        state[_ROW] = row
        if state[_KEY_SEEN] and key[row] < current[0]:
            return _UNSORTED
        if not state[_KEY_SEEN] or key[row] != current[0]:
            current[0] = key[row]
            state[_KEY_SEEN] = 1
            state[_HEADS] = 0
        opens[row] = False
        head = link[row]
        if head == position[row]:
            at = 0
            while at < state[_HEADS] and heads[at, 0] != low[row]:
                at += 1
            if at == state[_HEADS]:
                if at == len(heads):
                    return _FULL
                heads[at, 0] = low[row]
                heads[at, 1] = position[row]
                state[_HEADS] += 1
                opens[row] = True
                continue
            head = heads[at, 1]
        if head != position[row]:
            src[state[_EDGE]] = head
            dst[state[_EDGE]] = position[row]
            state[_EDGE] += 1
    return len(key)
