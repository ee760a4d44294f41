"""Operators that the engine tests build in worker processes."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from thresher.pipeline.operator import Combiner, Operator, Output, Reader, Reducer

SPREAD = 0x9E3779B97F4A7C15  # odd: multiples spread over all 64 bits


class Numbers(Reader):
    """`rows` rows with a key that repeats: part p has the numbers p * rows …"""

    def __init__(self, rows: int, distinct: int, hot: float = 0.0) -> None:
        self._rows, self._distinct, self._hot = rows, distinct, hot

    def read(self, part: int, out: Output) -> Iterator[pa.RecordBatch]:
        number = np.arange(part * self._rows, (part + 1) * self._rows, dtype=np.uint64)
        bucket = number % np.uint64(self._distinct)
        bucket[: int(self._hot * self._rows)] = 0
        key = bucket * np.uint64(SPREAD)
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
            die(self._directory, self._times)
        return batch


def die(directory: Path, times: int) -> None:
    """Kills this process, if fewer than `times` have left a file in the directory; leaves one."""
    done = len(list(directory.iterdir()))
    if done < times:
        (directory / str(done)).touch()
        os.kill(os.getpid(), signal.SIGKILL)


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


RECORDS = pa.schema(
    [
        ("position", pa.uint64()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("key", pa.uint64()),
        ("number", pa.int64()),
        ("word", pa.string()),
        ("weight", pa.float64()),
        ("tags", pa.list_(pa.int32())),
    ]
)
ODD_RECORDS = pa.schema([field.with_nullable(False) for field in RECORDS])
TALLY = pa.schema([("part", pa.int64()), ("rows", pa.int64()), ("sum", pa.int64())])


def record(part: int, row: int, distinct: int) -> dict[str, Any]:
    """A row of `Records`; only even parts have nulls."""
    may_be_null = part % 2 == 0
    number = part * 10_000 + row
    return {
        "position": part << 32 | row,
        "id": f"{part}-{row}",
        "source": f"made up:{row}",
        "key": number % distinct * SPREAD % 2**64,
        "number": number,
        "word": None if may_be_null and row % 5 == 0 else "ä" * (row % 3) + f"word {row % 11}",
        "weight": None if may_be_null and row % 7 == 0 else row / 8,
        "tags": None if may_be_null and row % 9 == 0 else list(range(row % 4)),
    }


class Records(Reader):
    """Columns of several kinds; part p has `sizes[p]` rows. Odd parts say that no column can be null."""

    def __init__(self, sizes: list[int], distinct: int) -> None:
        self._sizes, self._distinct = sizes, distinct

    def read(self, part: int, out: Output) -> Iterator[pa.RecordBatch]:
        schema = ODD_RECORDS if part % 2 else RECORDS
        for start in range(0, max(1, self._sizes[part]), 64):
            numbers = range(start, min(start + 64, self._sizes[part]))
            rows = [record(part, number, self._distinct) for number in numbers]
            yield pa.RecordBatch.from_pylist(rows, schema=schema)


class DropEvery(Operator):
    """Drops the rows whose number is a multiple of `every`, with a reason."""

    def __init__(self, every: int) -> None:
        self._every = every

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        numbers = batch.column("number").to_pylist()
        reasons = ["a multiple" if number % self._every == 0 else None for number in numbers]
        return out.drop("every", batch, pa.array(reasons, pa.string()))


class Tally(Operator):
    """Replaces the rows of a part by one at its end: how many there were, and their sum."""

    def begin(self, part: int) -> None:
        self._part, self._rows, self._sum = part, 0, 0

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        self._rows += len(batch)
        self._sum += sum(batch.column("number").to_pylist())
        return self._tallied([])

    def end(self, out: Output) -> pa.RecordBatch:
        return self._tallied([{"part": self._part, "rows": self._rows, "sum": self._sum}])

    def _tallied(self, rows: list[dict[str, int]]) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist(rows, schema=TALLY)


class Model(Operator):
    """A model that is loaded once, which leaves a file in `loads`, and remembers what it sees of a part.

    `score`: the number times the weight of the model, and how many rows of the part came before.
    """

    def __init__(self, loads: str, weight: int) -> None:
        self._loads, self._weight = Path(loads), weight

    def open(self) -> None:
        self._loads.mkdir(parents=True, exist_ok=True)
        (self._loads / f"{os.getpid()}-{uuid.uuid4().hex}").touch()

    def begin(self, part: int) -> None:
        self._before = 0

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        numbers = enumerate(batch.column("number").to_pylist(), self._before)
        scores = [[number * self._weight, before] for before, number in numbers]
        self._before += len(batch)
        return batch.append_column("score", pa.array(scores, pa.list_(pa.int64())))


class AsTheyCome(Reducer):
    """Commits the rows of every input in the order in which they arrive."""

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        for name, batches in inputs.items():
            for batch in batches:
                out.emit(name, batch)


class Match(Reducer):
    """For each key of any input how many rows each has, and the words of the first; reads all at a time."""

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        counts: dict[int, dict[str, int]] = {}
        words: dict[int, list[str | None]] = {}
        first = min(inputs)
        for batches in zip_longest(*inputs.values()):
            for name, batch in zip(inputs, batches, strict=True):
                for row in [] if batch is None else batch.to_pylist():
                    of_key = counts.setdefault(row["key"], dict.fromkeys(inputs, 0))
                    of_key[name] += 1
                    if name == first:
                        words.setdefault(row["key"], []).append(row["word"])
        out.accounts.figures["keys"] += len(counts)
        rows = [{"key": key, **counts[key], "words": words.get(key)} for key in sorted(counts)]
        names = [(name, pa.int64()) for name in inputs]
        schema = pa.schema([("key", pa.uint64()), *names, ("words", pa.list_(pa.string()))])
        out.emit("matches", pa.RecordBatch.from_pylist(rows, schema=schema))


class FailOnKey(Reducer):
    """Raises where a partition has the key."""

    def __init__(self, key: int) -> None:
        self._key = key

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        for name, batches in inputs.items():
            for batch in batches:
                out.emit(name, batch)
                if self._key in batch.column("key").to_pylist():
                    raise ValueError("this key is poison")


class KillInReduce(AsTheyCome):
    """Kills its worker `times` times in the partition of a key, when it has seen the rows."""

    def __init__(self, key: int, directory: str, times: int) -> None:
        self._key, self._directory, self._times = key, Path(directory), times

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        for name, batches in inputs.items():
            for batch in batches:
                out.emit(name, batch)
                if self._key in batch.column("key").to_pylist():
                    die(self._directory, self._times)
