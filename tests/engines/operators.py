"""Operators that the engine tests build in worker processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from thresher.pipeline.operator import Combiner, Operator, Output, Reader, Reducer


class Numbers(Reader):
    """`rows` rows with a key that repeats: part p has the numbers p * rows …"""

    def __init__(self, rows: int, distinct: int, hot: float = 0.0) -> None:
        self._rows, self._distinct, self._hot = rows, distinct, hot

    def read(self, part: int, out: Output) -> Iterator[pa.RecordBatch]:
        number = np.arange(part * self._rows, (part + 1) * self._rows, dtype=np.uint64)
        bucket = number % np.uint64(self._distinct)
        bucket[: int(self._hot * self._rows)] = 0
        key = bucket * np.uint64(0x9E3779B97F4A7C15)  # spreads over all 64 bits
        columns = {"position": number + np.uint64(part << 32), "key": key, "number": number}
        batch = pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in columns.items()})
        for start in range(0, max(1, self._rows), 100):
            yield batch.slice(start, 100)


class Emit(Operator):
    """Commits what flows past."""

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        out.emit("rows", batch)
        return batch


class KillOnce(Operator):
    """Kills its worker on part `part`, as often as `marks` says."""

    def __init__(self, part: int, directory: str, times: int) -> None:
        self._part, self._directory, self._times = part, Path(directory), times
        self._here = -1

    def begin(self, part: int) -> None:
        self._here = part

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        if self._here == self._part:
            done = len(list(self._directory.iterdir()))
            if done < self._times:
                (self._directory / str(done)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return batch


class Fail(Operator):
    """Raises on part `part`."""

    def __init__(self, part: int) -> None:
        self._part, self._here = part, -1

    def begin(self, part: int) -> None:
        self._here = part

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        if self._here == self._part:
            raise ValueError("this part is poison")
        return batch


class SumByKey(Reducer):
    """key, count, sum of numbers, in the order of keys, for each input."""

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        for name in sorted(inputs):
            totals: dict[int, list[int]] = {}
            for batch in inputs[name]:
                counts = (
                    batch.column("count").to_pylist() if "count" in batch.schema.names else [1] * len(batch)
                )
                keys, numbers = batch.column("key").to_pylist(), batch.column("number").to_pylist()
                for key, number, count in zip(keys, numbers, counts, strict=True):
                    total = totals.setdefault(key, [0, 0])
                    total[0] += count
                    total[1] += number
            rows = [(key, *total) for key, total in totals.items()]
            assert [row[0] for row in rows] == sorted(row[0] for row in rows)
            types = [pa.uint64(), pa.int64(), pa.int64()]
            columns = [pa.array([row[i] for row in rows], type_) for i, type_ in enumerate(types)]
            out.emit(f"sums-{name}", pa.RecordBatch.from_arrays(columns, names=["key", "count", "sum"]))


class SumEarly(Combiner):
    """Adds up the rows of a key before they travel."""

    def combine(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        table = pa.Table.from_batches([batch])
        if "count" not in table.schema.names:
            table = table.append_column("count", pa.array([1] * len(table), pa.int64()))
        summed = table.group_by("key", use_threads=False).aggregate([("number", "sum"), ("count", "sum")])
        summed = summed.select(["key", "number_sum", "count_sum"]).rename_columns(["key", "number", "count"])
        schema = pa.schema([("key", pa.uint64()), ("number", pa.uint64()), ("count", pa.int64())])
        rows = summed.cast(schema).combine_chunks().to_batches()
        return rows[0] if rows else pa.RecordBatch.from_pylist([], schema=schema)
