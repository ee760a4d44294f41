"""Who survives of each cluster, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..operator import Operator, Output, Reducer
from .groups import Giant, groups

DUPLICATES: Final = pa.schema(
    [
        pa.field("position", pa.uint64(), nullable=False),  # unique: of a record that does not survive
        pa.field("keeper", pa.string(), nullable=False),  # id of the record that stands for it
    ]
)


class ByRoot(Operator):
    """The members of clusters among the records of a part, with what their survivor is chosen by."""

    kernels = ("thresher.filters.dedup.stars",)

    def __init__(self) -> None:
        from ...filters.dedup.stars import spread

        self._spread = spread

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        batch = batch.filter(pc.is_valid(batch.column("root")))
        keys = self._spread(batch.column("root").to_numpy(zero_copy_only=False))
        return batch.drop_columns(["root"]).append_column("key", pa.array(keys))


class ChooseSurvivors(Reducer):
    """Names the duplicates of each cluster and the record that stands for them.

    Holds one cluster, up to a bound, beyond which it is read twice from disk; with `ordered`, for a single
    partition, all its duplicates too, to commit them in the order of positions.
    """

    def __init__(self, kind: str, column: str | None, length: str, hash: str, ordered: bool) -> None:
        from ...filters.dedup import clusters

        self._keepers, self._keep = clusters.keepers, clusters.Keep(kind, column)  # type: ignore[arg-type]
        self._names = {length: "length", hash: "hash"}
        self._ordered = ordered

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        empty = pa.RecordBatch.from_pylist([], schema=DUPLICATES)
        out.emit("duplicates", empty)
        held = [empty]
        for group in groups(inputs["members"], out.new_file):
            for found in self._of_giant(group) if isinstance(group, Giant) else [self._of_whole(group)]:
                if self._ordered:
                    held.append(found)
                else:
                    out.emit("duplicates", found)
        if self._ordered:
            rows = pa.concat_batches(held)
            out.emit("duplicates", rows.take(pa.array(np.argsort(rows.column("position").to_numpy()))))

    def _of_whole(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        best = self._best(batch)
        gone = np.flatnonzero(best != np.arange(len(best)))
        return _duplicates(batch.column("position").take(pa.array(gone)), batch.column("id"), best[gone])

    def _of_giant(self, giant: Giant) -> Iterator[pa.RecordBatch]:
        champion: pa.RecordBatch | None = None
        for batch in giant.batches():
            contest = batch if champion is None else pa.concat_batches([champion, batch])
            champion = contest.slice(int(self._best(contest)[0]), 1)
        assert champion is not None, "a giant has rows"
        champion = pa.concat_batches([champion])  # a slice would keep all of its batch
        for batch in giant.batches():
            gone = batch.column("position").filter(
                pc.not_equal(batch.column("position"), champion.column("position")[0])
            )
            yield _duplicates(gone, champion.column("id"), np.zeros(len(gone), np.int64))

    def _best(self, batch: pa.RecordBatch) -> np.ndarray:
        names = [self._names.get(name, name) for name in batch.schema.names]
        return self._keepers(batch.column("key").to_numpy(), batch.rename_columns(names), self._keep)


def _duplicates(positions: pa.Array, ids: pa.Array, keepers: np.ndarray) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([positions, ids.take(pa.array(keepers))], schema=DUPLICATES)


class DropDuplicates(Operator):
    """Writes the duplicates of a part to the ledger, with the id of the record that was kept.

    `keepers` are columns that name it; the first that does counts.
    """

    def __init__(self, step: str, keepers: Sequence[str]) -> None:
        self._step, self._keepers = step, list(keepers)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        keeper = pc.coalesce(*(batch.column(name) for name in self._keepers))
        reasons = pc.if_else(pc.is_valid(keeper), "duplicate", None)
        return out.drop(self._step, batch, reasons, keeper, "duplicate")
