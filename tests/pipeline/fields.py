"""Columns of any type, planted in the records of a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import thresher
from inline_engine import inline_tasks
from test_dedup_clusters import ledger
from test_whole_jobs import shards, split_input

MODULE = '''\
import json

import pyarrow as pa
from thresher.scorers import Scorer

TYPES = {
    "float": pa.float32(),
    "double": pa.float64(),
    "int64": pa.int64(),
    "string": pa.string(),
    "strings": pa.list_(pa.string()),
    "integers": pa.list_(pa.int32()),
    "floats": pa.list_(pa.float32()),
    "embedding": pa.list_(pa.float16()),
}


class Field(Scorer):
    """A field of the records as a column."""

    version = 1
    inputs = ("meta",)

    def __init__(self, field, type):
        self._field, self._type = field, TYPES[type]

    @property
    def outputs(self):
        return {self._field: self._type}

    def score(self, batch):
        values = [json.loads(meta).get(self._field) for meta in batch.column("meta").to_pylist()]
        return {self._field: pa.array(values, self._type)}
'''

Record = dict[str, Any]


def field(name: str, type_: str) -> Record:
    """The step that makes a column of a field."""
    return {
        "score": {"fields_of_records:Field": {"field": name, "type": type_}},
        "as": name,
        "on_null": "keep",
    }


def run(
    folder: Path,
    records: list[Record],
    steps: Sequence[Record],
    *,
    files: int = 3,
    part: str = "2KB",
    seed: int = 0,
    out: str = "out",
    listener: Any = None,
) -> tuple[dict[str, Record], dict[str, tuple[str, str]]]:
    """What a job keeps and what it loses (verdict and reason), by id; its tasks run in this process."""
    folder.mkdir(exist_ok=True)
    (folder / "fields_of_records.py").write_text(MODULE)
    job = {
        "name": "planted",
        "input": split_input(records, folder / f"{out}-in", files),
        "steps": list(steps),
        "output": {"path": str(folder / out), "shuffle": "none", "card": False},
        "run": {
            "workers": 1,
            "part": part,
            "seed": seed,
            "directory": str(folder),
            "work": str(folder / f"{out}-work"),
        },
    }
    with inline_tasks():
        thresher.run(thresher.load(job, allow_code=True), allow_code=True, listener=listener)
    lost = {row["id"]: (row["verdict"], row["reason"]) for row in ledger(folder / out)}
    return {row["id"]: row for row in shards(folder / out)}, lost
