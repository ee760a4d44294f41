"""From the surviving records to their uids, sorted, for a DataComp subset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..operator import Operator, Output, Reducer
from ..sinks.datacomp import UIDS, uid_halves
from ..sinks.shard_file import ShardFile
from ..stage import StreamRef
from .writing import SHARD

# What stands for the writing of a subset in the accounts, as records may fail there.
OUTPUT_STEP: Final = "output"
UIDS_STREAM: Final = "uids"
NOT_HEX: Final = "uid_not_hex"
# A figure of a partition: the records whose uid another record has already.
REPEATED_UIDS: Final = "repeated_uids"


class ReadUids(Operator):
    """Commits the uid of each record; one whose id is no uid is an error of the output."""

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        upper, lower, wrong = uid_halves(batch.column("id"))
        reasons = pc.if_else(pa.array(wrong), NOT_HEX, pa.scalar(None, pa.string()))
        kept = out.drop(OUTPUT_STEP, batch, reasons, batch.column("id"), "error")
        rows = pa.RecordBatch.from_arrays(
            [kept.column("position"), pa.array(upper[~wrong]), pa.array(lower[~wrong])],
            names=["position", "key", "lower"],
        )
        out.emit(UIDS_STREAM, rows)
        return kept


class SortUids(Reducer):
    """Writes the uids of a partition, sorted and each once, as the bytes that the subset has of them.

    Holds the uids that share an upper half: one, unless ids were made to.
    """

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        file = ShardFile(out.new_file(f"{SHARD}.uids"))
        written = 0
        held = np.empty(0, UIDS)
        for batch in inputs[UIDS_STREAM]:
            came = np.empty(len(batch), UIDS)
            came["f0"], came["f1"] = batch.column("key").to_numpy(), batch.column("lower").to_numpy()
            held = np.concatenate([held, came])
            # More of the last upper half may come.
            whole = int(np.searchsorted(held["f0"], held["f0"][-1])) if len(held) else 0
            written += self._write(held[:whole], file, out)
            held = held[whole:]
        written += self._write(held, file, out)
        size, digest = file.commit()
        out.attach(SHARD, StreamRef(str(file.path), written, size, digest))

    def _write(self, uids: np.ndarray, file: ShardFile, out: Output) -> int:
        ordered = uids[np.lexsort((uids["f1"], uids["f0"]))]
        first = np.ones(len(ordered), np.bool_)
        first[1:] = ordered[1:] != ordered[:-1]
        once = ordered[first]
        file.write(once.tobytes())
        out.accounts.figures[REPEATED_UIDS] += len(ordered) - len(once)
        return len(once)
