"""Where methods find the pool and the target, leave what they train, and have jobs score."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from selection_data import BATCH
from selection_training import Model

from jobs import Job, command

Scores = npt.NDArray[np.float64]
Step = Mapping[str, Any]

POOL, TARGET = "pool.parquet", "target.parquet"
# Of fastText's classifiers. Its table takes 400 bytes a place, and a pool of megabytes has fewer pairs of
# words than the two million that DCLM's has place for. Its own 5 epochs at 0.1 are for hundreds of thousands
# of documents: of hundreds it learned so little that all probabilities were between 0.4999 and 0.5003.
FASTTEXT: Mapping[str, Any] = {"bucket": 200_000, "epoch": 25, "lr": 0.5}
HELD_OUT = 20_000  # tokens that a language model is measured on as it learns


@dataclass(frozen=True)
class Place:
    """A folder with pool and target as Parquet, the tokenizer, and what methods make."""

    folder: Path
    model: Model
    prior_tokens: int
    conditional_tokens: int

    def batches(self, name: str, rows: int | None = None) -> Sequence[pa.RecordBatch]:
        table = pq.read_table(self.folder / name, columns=["text"])
        if rows is not None:
            table = table.slice(0, rows)
        return table.to_batches(max_chunksize=BATCH)

    def rows(self, name: str) -> int:
        return int(pq.read_metadata(self.folder / name).num_rows)

    def settings(self) -> dict[str, Any]:
        """Of scorers.lm.training.LMTrainer, so that what it trains is the model of the benchmark."""
        model = self.model
        return {
            "context": model.context,
            "batch_tokens": model.batch_tokens,
            "device": model.device,
            "threads": model.threads,
            "held_out_tokens": HELD_OUT,
        }

    def shape(self) -> dict[str, Any]:
        """The same, of a model from random weights."""
        model = self.model
        return {
            "tokenizer": str(self.folder / "tokenizer.json"),
            "layers": model.layers,
            "width": model.width,
            "heads": model.heads,
            "lr": model.lr,
        }


def scored(source: Path, steps: Sequence[Step], columns: Sequence[str]) -> tuple[pa.Table, float]:
    """What a job with these steps makes of a Parquet file with unique ids, and its CPU seconds.

    In the order of the file; null where a step has no score; one that fails on a record is told.
    """
    with tempfile.TemporaryDirectory(dir=source.parent) as name:
        job = Job([{**step, "on_null": "keep"} for step in steps], {"format": "parquet", "card": False})
        cpu = command(job, source, Path(name)).cpu
        shards = sorted((Path(name) / "out").glob("shard-*.parquet"))
        found = pa.concat_tables([pq.read_table(path, columns=["id", *columns]) for path in shards])
        lost = pq.read_table(Path(name) / "out" / "ledger", columns=["step", "reason"])
    for number in lost.group_by(["step", "reason"]).aggregate([([], "count_all")]).to_pylist():
        print(f"{number['count_all']} passages are without scores: {number['step']}: {number['reason']}")
    row = {name: number for number, name in enumerate(found["id"].to_pylist())}
    order = [row.get(name) for name in pq.read_table(source, columns=["id"])["id"].to_pylist()]
    return found.select(list(columns)).take(pa.array(order, pa.int64())), cpu
