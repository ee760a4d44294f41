"""Clusters of duplicates: connected components of an edge list, and which member of each survives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..kernels import kernel

Uint64s = npt.NDArray[np.uint64]
Uint32s = npt.NDArray[np.uint32]

_ABSENT = 0xFFFFFFFF  # an empty slot of the hash table
_LOAD = 0.75  # members per slot at which the table is doubled
_EDGES = 1 << 16  # edges added at once: all of their ends might be new members


@kernel("uint64(uint64)")
def mix(value: np.uint64) -> np.uint64:
    """MurmurHash3's 64-bit finalizer, a bijection on uint64 (Appleby, smhasher, MurmurHash3.cpp, fmix64)."""
    value = np.uint64(value ^ (value >> np.uint64(33)))
    value = np.uint64(value * np.uint64(0xFF51AFD7ED558CCD))
    value = np.uint64(value ^ (value >> np.uint64(33)))
    value = np.uint64(value * np.uint64(0xC4CEB9FE1A85EC53))
    return np.uint64(value ^ (value >> np.uint64(33)))


@kernel("int64(uint32[::1], uint64[::1], uint64)")
def _slot(table: Uint32s, ids: Uint64s, id_: np.uint64) -> np.int64:
    """Where `id_` is, or where it belongs: open addressing with linear probing."""
    mask = np.int64(len(table) - 1)
    slot = np.int64(mix(id_)) & mask
    while table[slot] != np.uint32(_ABSENT) and ids[table[slot]] != id_:
        slot = np.int64(slot + 1) & mask
    return slot


@kernel("void(uint32[::1], uint64[::1], int64)")
def _fill(table: Uint32s, ids: Uint64s, count: int) -> None:
    for member in range(count):
        table[_slot(table, ids, ids[member])] = np.uint32(member)


@kernel("uint32(uint32[::1], uint32)")
def _find(parent: Uint32s, member: np.uint32) -> np.uint32:
    while parent[member] != member:
        parent[member] = parent[parent[member]]
        member = parent[member]
    return member


_RO = "Array(uint64, 1, 'C', readonly=True)"  # edges come as columns of Arrow, which are read-only


@kernel(f"int64(uint32[::1], uint64[::1], uint32[::1], int64, {_RO}, {_RO})")
def _join(table: Uint32s, ids: Uint64s, parent: Uint32s, count: int, src: Uint64s, dst: Uint64s) -> int:
    """Unites the ends of each edge; returns the number of members. There is room for two more per edge."""
    ends = np.empty(2, np.uint32)
    for edge in range(len(src)):
        for side in range(2):
            id_ = src[edge] if side == 0 else dst[edge]
            slot = _slot(table, ids, id_)
            if table[slot] == np.uint32(_ABSENT):
                table[slot] = np.uint32(count)
                ids[count] = id_
                parent[count] = np.uint32(count)
                count += 1
            ends[side] = _find(parent, table[slot])
        # The smaller id stays the root: the result depends on the set of edges, not on their order.
        if ids[ends[0]] < ids[ends[1]]:
            parent[ends[1]] = ends[0]
        else:
            parent[ends[0]] = ends[1]
    return count


@kernel("void(uint64[::1], uint32[::1], uint64[::1])")
def _roots(ids: Uint64s, parent: Uint32s, root: Uint64s) -> None:
    for member in range(len(root)):
        root[member] = ids[_find(parent, np.uint32(member))]


class UnionFind:
    """Connected components of edges that arrive in batches; edges are not kept.

    Memory depends on the members (ids that have an edge), not on the edges: 12 bytes a member for id and
    parent, in arrays that grow by half, and 5.3 to 10.7 bytes for the hash table, together 17 to 29; while
    the arrays grow, the old ones exist beside the new. `components` needs 24 bytes a member more. Holds at
    most 2**32 - 1 members, and raises OverflowError beyond.
    """

    def __init__(self) -> None:
        self._count = 0
        self._ids = np.empty(1024, np.uint64)
        self._parent = np.empty(1024, np.uint32)
        self._table = np.full(2048, _ABSENT, np.uint32)

    def __len__(self) -> int:
        """The number of distinct ids that have been named by an edge."""
        return self._count

    def add(self, src: Uint64s, dst: Uint64s) -> None:
        """Adds edges: two uint64 arrays of shape (n,). An edge from an id to itself makes it a member.

        Raises ValueError where the lengths differ.
        """
        if len(src) != len(dst):
            raise ValueError(f"{len(src)} sources, but {len(dst)} destinations")
        src, dst = np.ascontiguousarray(src, np.uint64), np.ascontiguousarray(dst, np.uint64)
        for start in range(0, len(src), _EDGES):
            some = slice(start, start + _EDGES)
            self._reserve(self._count + 2 * len(src[some]))
            self._count = _join(self._table, self._ids, self._parent, self._count, src[some], dst[some])

    def components(self) -> tuple[Uint64s, Uint64s]:
        """The members, sorted, and the least member of the component of each: two uint64 arrays."""
        root = np.empty(self._count, np.uint64)
        _roots(self._ids, self._parent, root)
        order = np.argsort(self._ids[: self._count])
        return self._ids[: self._count][order], root[order]

    def _reserve(self, members: int) -> None:
        if members > _ABSENT:
            raise OverflowError("more than 2**32 - 1 members in one union-find: partition the edges first")
        if members > len(self._ids):
            room = max(members, len(self._ids) + len(self._ids) // 2)
            self._ids = np.concatenate([self._ids[: self._count], np.empty(room - self._count, np.uint64)])
            self._parent = np.concatenate(
                [self._parent[: self._count], np.empty(room - self._count, np.uint32)]
            )
        slots = len(self._table)
        while members > _LOAD * slots:
            slots *= 2
        if slots > len(self._table):
            self._table = np.full(slots, _ABSENT, np.uint32)
            _fill(self._table, self._ids, self._count)


def connected_components(src: Uint64s, dst: Uint64s) -> tuple[Uint64s, Uint64s]:
    """The members of the graph of edges `src[i]`-`dst[i]`, sorted, and the root of each: two uint64 arrays.

    The root is the least member of the component. Memory is that of UnionFind.
    """
    forest = UnionFind()
    forest.add(src, dst)
    return forest.components()


@dataclass(frozen=True)
class Keep:
    """Which member of a cluster survives.

    `first` keeps the least position and is the one kind that depends on the order of the input. `longest`
    keeps the largest value of the column `length` (characters, of images pixels), `best` the largest value of
    `column` (the smallest with `ascending`). Nulls come last, NaN just before them. Ties fall to the least
    (id, content hash, position).
    Raises ValueError for `best` without a column, and for a column or an order with another kind.
    """

    kind: Literal["first", "longest", "best"] = "first"
    column: str | None = None
    ascending: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("first", "longest", "best"):
            raise ValueError(f"keep must be first, longest or best, not {self.kind!r}")
        if self.kind == "best" and not self.column:
            raise ValueError("keep: best needs the column that says what is best")
        if self.kind != "best" and (self.column or self.ascending):
            raise ValueError(f"keep: {self.kind} takes no column and no order")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that `keepers` reads, `position` among them."""
        if self.kind == "first":
            return ("position",)
        return (self.value or "", "id", "hash", "position")

    @property
    def value(self) -> str | None:
        """The column whose value decides; None for `first`."""
        return "length" if self.kind == "longest" else self.column


def keepers(cluster: Uint64s, rank: pa.RecordBatch | pa.Table, keep: Keep) -> npt.NDArray[np.int64]:
    """For each row the number of the row that survives of its cluster: int64, shape (n,).

    `cluster` names the cluster of each row of `rank`, which has the columns that `keep.columns` lists:
    `position` uint64, `id` string, `hash` (of the content) uint64, and the value, of any type that Arrow can
    order. Does not depend on the order of the rows as long as positions are unique. Raises ValueError where
    the lengths differ, and KeyError for a missing column.
    """
    if len(cluster) != rank.num_rows:
        raise ValueError(f"{len(cluster)} clusters, but {rank.num_rows} rows")
    if not len(cluster):
        return np.empty(0, np.int64)
    # lexsort takes the most significant key last.
    criteria = [_column(rank, "position").to_numpy()]
    if keep.value is not None:
        criteria += [_column(rank, "hash").to_numpy(), _ranks(rank, "id")]
        criteria += [_ranks(rank, keep.value, keep.ascending)]
    order = np.lexsort([*criteria, cluster])
    ordered = cluster[order]
    opens = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    best = np.empty(len(cluster), np.int64)
    best[order] = order[opens][np.cumsum(opens) - 1]
    return best


def survivors(cluster: Uint64s, rank: pa.RecordBatch | pa.Table, keep: Keep) -> npt.NDArray[np.bool_]:
    """For each row whether it is the one that survives of its cluster; see `keepers`."""
    mask: npt.NDArray[np.bool_] = keepers(cluster, rank, keep) == np.arange(len(cluster))
    return mask


def _column(table: pa.RecordBatch | pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _ranks(table: pa.RecordBatch | pa.Table, name: str, ascending: bool = True) -> Uint64s:
    """The place of each value among the distinct values of the column, from 1; nulls share the last."""
    order = "ascending" if ascending else "descending"
    ranks: Uint64s = pc.rank(_column(table, name), order, tiebreaker="dense").to_numpy()
    return ranks
