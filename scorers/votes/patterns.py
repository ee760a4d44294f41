"""How often each combination of votes is cast, which is all that a label model learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .labels import ABSTAIN, Votes, votes_of

_HELD: Final = 1_000_000  # combinations that are held before equal ones are added up
_COUNT: Final = "count"

Counts = npt.NDArray[np.int64]


class VotePatterns:
    """Counts combinations of votes; two counts can be merged, in any order.

    `gold`: a column with the true class of some records, whose combinations are then counted apart. Memory:
    one byte for each function and eight more for each combination that occurs.
    """

    def __init__(self, functions: Sequence[str], classes: int, gold: str | None = None) -> None:
        self._functions, self._classes = tuple(functions), classes
        self._gold = (gold,) if gold else ()
        self._names = [str(number) for number in range(len(self._functions) + len(self._gold))]
        self._tables: list[pa.Table] = []
        self._held = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts a batch. Raises ValueError, naming column and value, for what is no vote."""
        votes = votes_of(batch, (*self._functions, *self._gold), self._classes)
        columns = {name: pa.array(votes[:, number]) for number, name in enumerate(self._names)}
        ones = pa.array(np.ones(len(batch), np.int64))
        self._append(_added(pa.table({**columns, _COUNT: ones}), self._names))

    def merge(self, other: VotePatterns) -> None:
        """Adds what another has counted of the same columns."""
        for table in other._tables:
            self._append(table)

    def counted(self) -> Counted:
        """The combinations in the order of their votes, whatever the order of the records was."""
        self._compact()
        (table,) = self._tables or [_added(pa.table(self._empty()), self._names)]
        votes = np.empty((len(table), len(self._names)), np.int8)
        for number, name in enumerate(self._names):
            votes[:, number] = table.column(name).to_numpy()
        order = np.lexsort(votes.T[::-1])
        width, counts = len(self._functions), table.column(_COUNT).to_numpy()[order]
        gold = votes[order, width] if self._gold else np.full(len(order), ABSTAIN, np.int8)
        return Counted(votes[order, :width], counts, gold)

    def _append(self, table: pa.Table) -> None:
        self._tables.append(table)
        self._held += len(table)
        if self._held > _HELD:
            self._compact()
            # What does not shrink is not worth trying again until there is as much once more.
            self._held = 0

    def _compact(self) -> None:
        if len(self._tables) > 1:
            self._tables = [_added(pa.concat_tables(self._tables), self._names)]

    def _empty(self) -> dict[str, pa.Array]:
        return {**{name: pa.array([], pa.int8()) for name in self._names}, _COUNT: pa.array([], pa.int64())}


@dataclass(frozen=True)
class Counted:
    """Combinations of votes that are all different, except for the true class, and how many records each
    has."""

    votes: Votes
    counts: Counts
    gold: npt.NDArray[np.int8]  # the true class, or ABSTAIN where it is not known

    @property
    def records(self) -> int:
        """All records."""
        return int(self.counts.sum())

    @property
    def voted(self) -> npt.NDArray[np.bool_]:
        """Of which combinations a function has voted."""
        there: npt.NDArray[np.bool_] = (self.votes != ABSTAIN).any(axis=1)
        return there

    def coverage(self) -> npt.NDArray[np.float64]:
        """Of each function, the share of records that it votes on."""
        return self._share(self.votes != ABSTAIN)

    def overlap(self) -> npt.NDArray[np.float64]:
        """Of each function, the share of records that it and another one vote on."""
        there = self.votes != ABSTAIN
        return self._share(there & (there.sum(axis=1, keepdims=True) > 1))

    def conflict(self) -> npt.NDArray[np.float64]:
        """Of each function, the share of records that it and another one vote on, differently."""
        there = self.votes != ABSTAIN
        most = self.votes.max(axis=1, initial=ABSTAIN, keepdims=True)
        least = np.where(there, self.votes, np.int8(127)).min(axis=1, initial=127, keepdims=True)
        return self._share(there & (most != least))

    def _share(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        total = (chosen * self.counts[:, None]).sum(axis=0)
        shares: npt.NDArray[np.float64] = total / max(self.records, 1)
        return shares


def _added(table: pa.Table, names: list[str]) -> pa.Table:
    """Equal combinations as one."""
    added = table.group_by(names, use_threads=False).aggregate([(_COUNT, "sum")])
    return added.rename_columns([_COUNT if name == f"{_COUNT}_sum" else name for name in added.column_names])
