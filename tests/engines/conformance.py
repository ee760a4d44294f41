"""Stages that every engine must run alike, with the rows that each must commit, known without any engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import operators
import pyarrow as pa
from logical_hash import Tables
from operators import ODD_RECORDS, RECORDS, SPREAD, TALLY, record
from thresher.pipeline.driver import layer_of
from thresher.pipeline.stage import (
    Committed,
    Engine,
    Input,
    OperatorRef,
    PartRef,
    Resources,
    Stage,
    StreamRef,
    TaskId,
)
from thresher.schemas.ledger import LEDGER

Row = dict[str, Any]
Commits = dict[TaskId, Committed]
Make = Callable[[str, Commits], Stage]  # from its directory and what the stage before committed
EMIT = OperatorRef.of(operators.Emit)


@dataclass(frozen=True)
class Case:
    """Stages in order, and what the last of them has to commit."""

    name: str
    stages: tuple[Make, ...]
    expected: Callable[[], Tables]
    fails: Mapping[TaskId, str] = field(default_factory=dict)  # tasks of the last stage: what is said of each
    of_parts: bool = True  # how these are numbered

    def __str__(self) -> str:
        return self.name


def run(engine: Engine, stage: Stage, todo: Sequence[TaskId] | None = None) -> Commits:
    """What the engine commits. Each task once, and no other."""
    todo = stage.tasks if todo is None else todo
    commits: Commits = {}
    for committed in engine.run(stage, todo):
        assert committed.task not in commits, f"task {committed.task} was yielded twice"
        commits[committed.task] = committed
    assert sorted(commits) == sorted(todo)
    return commits


def run_case(engine: Engine, case: Case, directory: str) -> list[Commits]:
    """What each stage of the case commits."""
    commits: list[Commits] = []
    for number, make in enumerate(case.stages):
        commits.append(run(engine, make(f"{directory}/{number}", commits[-1] if commits else {})))
    return commits


def bare(commits: Commits) -> dict[TaskId, Any]:
    """All of an entry but where its files are: checksums, columns, rows, accounts."""

    def bare_stream(stream: StreamRef) -> StreamRef:
        return replace(stream, path="")

    return {
        task: replace(committed, streams={n: bare_stream(s) for n, s in committed.streams.items()})
        for task, committed in commits.items()
    }


# The stages.


def records(sizes: Sequence[int], distinct: int = 40, first: int = 0) -> tuple[PartRef, ...]:
    """Parts of so many rows, numbered from `first`, which has to be below the length of the list."""
    reader = OperatorRef.of(operators.Records, sizes=[0] * first + list(sizes), distinct=distinct)
    return tuple(
        PartRef(first + index, reader=reader, rows=size, bytes=size * 50) for index, size in enumerate(sizes)
    )


def numbers(count: int, rows: int, distinct: int, hot: float = 0.0) -> tuple[PartRef, ...]:
    reader = OperatorRef.of(operators.Numbers, rows=rows, distinct=distinct, hot=hot)
    return tuple(PartRef(index, reader=reader, rows=rows, bytes=rows * 24) for index in range(count))


def rows_of(sizes: Sequence[int], distinct: int = 40, first: int = 0) -> list[Row]:
    """What `records` with the same arguments yields, in the order of parts."""
    parts = enumerate(sizes, first)
    return [record(part, row, distinct) for part, size in parts for row in range(size)]


def partition_of(row: Row, partitions: int) -> int:
    return int(row["key"]) * partitions // 2**64


def arrived(rows: Iterable[Row], partitions: int, schema: pa.Schema) -> dict[TaskId, pa.Table]:
    """Rows in the order of parts, as partitions get them: sorted by key, rows of a key as they were."""
    cut: dict[TaskId, list[Row]] = {task: [] for task in range(partitions)}
    for row in rows:
        cut[partition_of(row, partitions)].append(row)
    return {
        task: pa.Table.from_pylist(sorted(its, key=lambda row: row["key"]), schema=schema)
        for task, its in cut.items()
    }


def _streams(**tables: dict[TaskId, pa.Table]) -> Tables:
    tasks = sorted({task for stream in tables.values() for task in stream})
    return {task: {name.replace("_", "-"): tables[name][task] for name in tables} for task in tasks}


SIZES = [230, 64, 0, 301, 1]


def map_only(directory: str, before: Commits) -> Stage:
    maps = (OperatorRef.of(operators.DropEvery, every=3), EMIT)
    return Stage("map", directory, {"in": Input(records(SIZES), maps)})


def map_only_rows() -> Tables:
    found: Tables = {}
    for part, size in enumerate(SIZES):
        rows = [record(part, row, 40) for row in range(size)]
        dropped = [
            {name: row[name] for name in ("position", "id", "source")}
            | {"step": "every", "verdict": "dropped", "reason": "a multiple", "value": None}
            for row in rows
            if row["number"] % 3 == 0
        ]
        kept = [row for row in rows if row["number"] % 3]
        found[part] = {
            "rows": pa.Table.from_pylist(kept, schema=ODD_RECORDS if part % 2 else RECORDS),
            "ledger": pa.Table.from_pylist(dropped, schema=LEDGER),
        }
    return found


def tallied(directory: str, before: Commits) -> Stage:
    """Reads what the map-only stage committed; the rows that flow out come when each part ends."""
    parts = tuple(
        PartRef(task, (layer_of(before[task], "rows"),), rows=before[task].rows_out) for task in before
    )
    maps = (OperatorRef.of(operators.Tally), EMIT)
    return Stage("tally", directory, {"in": Input(parts, maps, columns=("number",))})


def tallied_rows() -> Tables:
    found: Tables = {}
    for part, streams in map_only_rows().items():
        numbers = streams["rows"].column("number").to_pylist()
        row = {"part": part, "rows": len(numbers), "sum": sum(numbers)}
        found[part] = {"rows": pa.Table.from_pylist([row], schema=TALLY)}
    return found


def exchange(directory: str, before: Commits) -> Stage:
    return Stage(
        "exchange",
        directory,
        {"in": Input(records(SIZES), (OperatorRef.of(operators.DropEvery, every=4),), "key")},
        partitions=4,
        reduce=OperatorRef.of(operators.AsTheyCome),
    )


def exchange_rows() -> Tables:
    return _streams(**{"in": arrived([r for r in rows_of(SIZES) if r["number"] % 4], 4, RECORDS)})


MANY = 70_000  # more rows than a chunk has


def many_chunks(directory: str, before: Commits) -> Stage:
    """Every part sends its rows in several chunks, and every key is in all of them."""
    source = Input(numbers(3, MANY, 2), (), "key")
    return Stage("chunks", directory, {"in": source}, 1, OperatorRef.of(operators.AsTheyCome))


@cache
def many_chunks_rows() -> Tables:
    number = np.arange(3 * MANY, dtype=np.uint64)
    part = number // np.uint64(MANY)
    key = number % np.uint64(2) * np.uint64(SPREAD)
    order = np.lexsort((number, key))
    columns = {"position": number + (part << np.uint64(32)), "key": key, "number": number}
    return {0: {"in": pa.table({name: values[order] for name, values in columns.items()})}}


LEFT, MIDDLE, RIGHT = [120, 90, 33], [40, 0, 77, 5], [150]


def co_grouped(directory: str, before: Commits) -> Stage:
    """Three inputs, numbered one after the other as in jobs, whose keys overlap in part."""
    second, third = len(LEFT), len(LEFT) + len(MIDDLE)
    return Stage(
        "match",
        directory,
        {
            "left": Input(records(LEFT, 40), (), "key"),
            "right": Input(records(RIGHT, 31, third), (), "key", ("key", "word", "tags")),
            "middle": Input(records(MIDDLE, 17, second), (), "key"),
        },
        partitions=4,
        reduce=OperatorRef.of(operators.Match),
    )


def co_grouped_rows() -> Tables:
    second, third = len(LEFT), len(LEFT) + len(MIDDLE)
    inputs = {
        "left": rows_of(LEFT, 40),
        "right": rows_of(RIGHT, 31, third),
        "middle": rows_of(MIDDLE, 17, second),
    }
    names = [(name, pa.int64()) for name in inputs]
    schema = pa.schema([("key", pa.uint64()), *names, ("words", pa.list_(pa.string()))])
    found: Tables = {}
    for task in range(4):
        keys = {row["key"] for rows in inputs.values() for row in rows if partition_of(row, 4) == task}
        made = []
        for key in sorted(keys):
            counts = {name: sum(row["key"] == key for row in rows) for name, rows in inputs.items()}
            words = [row["word"] for row in inputs["left"] if row["key"] == key]
            made.append({"key": key, **counts, "words": words or None})
        found[task] = {"matches": pa.Table.from_pylist(made, schema=schema)}
    return found


def empty_partitions(directory: str, before: Commits) -> Stage:
    """All rows have one of three keys, so most of the eight partitions get none of either input."""
    sources = {"left": Input(records([50, 20], 3), (), "key"), "right": Input(records([9], 1, 2), (), "key")}
    return Stage("few keys", directory, sources, 8, OperatorRef.of(operators.AsTheyCome))


def empty_partitions_rows() -> Tables:
    left, right = rows_of([50, 20], 3), rows_of([9], 1, 2)
    return _streams(left=arrived(left, 8, RECORDS), right=arrived(right, 8, RECORDS))


def empty_parts(directory: str, before: Commits) -> Stage:
    """An input with some parts without rows, and one whose parts have none at all."""
    sources = {
        "some": Input(records([0, 30, 0], 7), (), "key"),
        "none": Input(records([0, 0], 7, 3), (OperatorRef.of(operators.DropEvery, every=2),), "key"),
    }
    return Stage("empty", directory, sources, 2, OperatorRef.of(operators.AsTheyCome))


def empty_parts_rows() -> Tables:
    return _streams(some=arrived(rows_of([0, 30, 0], 7), 2, RECORDS), none=arrived([], 2, RECORDS))


def skewed(combine: bool) -> Make:
    def make(directory: str, before: Commits) -> Stage:
        return Stage(
            "sums",
            directory,
            {"in": Input(numbers(4, 500, 100, 0.5), (), "key"), "few": Input(numbers(2, 0, 1), (), "key")},
            partitions=4,
            reduce=OperatorRef.of(operators.SumByKey),
            combine=OperatorRef.of(operators.SumEarly) if combine else None,
        )

    return make


def skewed_rows() -> Tables:
    totals: dict[TaskId, dict[int, list[int]]] = {task: {} for task in range(4)}
    for number in range(4 * 500):
        key = (0 if number % 500 < 250 else number % 100) * SPREAD % 2**64
        total = totals[partition_of({"key": key}, 4)].setdefault(key, [0, 0])
        total[0] += 1
        total[1] += number
    schema = pa.schema([("key", pa.uint64()), ("count", pa.int64()), ("sum", pa.int64())])
    return {
        task: {
            "sums-in": pa.Table.from_pylist(
                [{"key": key, "count": total[0], "sum": total[1]} for key, total in sorted(sums.items())],
                schema=schema,
            ),
            "sums-few": schema.empty_table(),
        }
        for task, sums in totals.items()
    }


MODEL_SIZES = [60, 1500, 0, 10, 700, 3, 80, 41]


def before_the_model(directory: str, before: Commits) -> Stage:
    return Stage("read", directory, {"in": Input(records(MODEL_SIZES), (EMIT,))})


def model(loads: str, fails_on: int | None = None) -> Make:
    """Reads what an earlier stage committed; each load leaves a file in the folder `loads`."""

    def make(directory: str, before: Commits) -> Stage:
        parts = tuple(PartRef(task, (layer_of(before[task], "rows"),)) for task in sorted(before))
        fail = () if fails_on is None else (OperatorRef.of(operators.Fail, part=fails_on),)
        maps = (OperatorRef.of(operators.Model, loads=loads, weight=7), *fail, EMIT)
        source = Input(parts, maps, columns=("position", "number"))
        return Stage("model", directory, {"in": source}, resources=Resources(actors=(1, 2)))

    return make


def model_rows() -> Tables:
    schema = pa.schema([("position", pa.uint64()), ("number", pa.int64()), ("score", pa.list_(pa.int64()))])
    found: Tables = {}
    for part, size in enumerate(MODEL_SIZES):
        rows = [
            {
                "position": part << 32 | row,
                "number": part * 10_000 + row,
                "score": [7 * (part * 10_000 + row), row],
            }
            for row in range(size)
        ]
        found[part] = {"rows": pa.Table.from_pylist(rows, schema=schema)}
    return found


def model_case(loads: str) -> Case:
    """A stage that owns a stateful model."""
    return Case("a stage that owns a model", (before_the_model, model(loads)), model_rows)


CASES = (
    Case("map only", (map_only,), map_only_rows),
    Case("map only over committed parts", (map_only, tallied), tallied_rows),
    Case("one input with exchange", (exchange,), exchange_rows),
    Case("several chunks of a part", (many_chunks,), many_chunks_rows),
    Case("several co-grouped inputs", (co_grouped,), co_grouped_rows),
    Case("empty partitions", (empty_partitions,), empty_partitions_rows),
    Case("empty parts", (empty_parts,), empty_parts_rows),
    Case("half of the rows with one key", (skewed(False),), skewed_rows),
    Case("half of the rows with one key, combined", (skewed(True),), skewed_rows),
)


# Stages of which some tasks fail.


def failing_map(directory: str, before: Commits) -> Stage:
    maps = (OperatorRef.of(operators.Fail, part=1), EMIT)
    return Stage("map", directory, {"in": Input(records([10, 10, 10, 10]), maps)})


def failing_map_rows() -> Tables:
    return {
        part: {
            "rows": pa.Table.from_pylist(
                [record(part, row, 40) for row in range(10)], schema=ODD_RECORDS if part % 2 else RECORDS
            )
        }
        for part in (0, 2, 3)
    }


def failing_send(directory: str, before: Commits) -> Stage:
    maps = (OperatorRef.of(operators.Fail, part=2),)
    source = Input(records([10, 10, 10, 10]), maps, "key")
    return Stage("send", directory, {"in": source}, 2, OperatorRef.of(operators.AsTheyCome))


def failing_reduce(directory: str, before: Commits) -> Stage:
    source = Input(records([10, 10, 10, 10]), (), "key")
    return Stage("reduce", directory, {"in": source}, 4, OperatorRef.of(operators.FailOnKey, key=0))


def failing_reduce_rows() -> Tables:
    streams = arrived(rows_of([10, 10, 10, 10]), 4, RECORDS)
    return {task: {"in": streams[task]} for task in range(1, 4)}


def failing_model_rows() -> Tables:
    return {part: streams for part, streams in model_rows().items() if part != 4}


POISON_PART, POISON_KEY = "this part is poison", "this key is poison"


def failing_cases(loads: str) -> tuple[Case, ...]:
    """Parts and partitions that fail whenever they are tried."""
    model_stages = (before_the_model, model(loads, fails_on=4))
    return (
        Case("a part fails", (failing_map,), failing_map_rows, {1: POISON_PART}),
        Case("a part of an exchange fails", (failing_send,), dict, {2: POISON_PART}),
        Case("a partition fails", (failing_reduce,), failing_reduce_rows, {0: POISON_KEY}, of_parts=False),
        Case("a part of a model's stage fails", model_stages, failing_model_rows, {4: POISON_PART}),
    )
