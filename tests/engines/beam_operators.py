"""Operators for the tests of the Beam engine: those that take their time, and those that fail for a while."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
from operators import AsTheyCome
from thresher.pipeline.operator import Operator, Output


class Slow(Operator):
    """Takes `seconds` for each part, but for the first `quick` ones."""

    def __init__(self, seconds: float, quick: int = 0) -> None:
        self._seconds, self._quick = seconds, quick

    def begin(self, part: int) -> None:
        if part >= self._quick:
            time.sleep(self._seconds)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        return batch


class SlowReduce(AsTheyCome):
    """Takes `seconds` for each partition that has rows, and leaves a file in `marks` when it begins."""

    def __init__(self, seconds: float, marks: str) -> None:
        self._seconds, self._marks = seconds, Path(marks)

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        self._marks.mkdir(exist_ok=True)
        (self._marks / str(len(list(self._marks.iterdir())))).touch()
        time.sleep(self._seconds)
        super().reduce(inputs, out)


class FailAtFirst(Operator):
    """Raises in the last batch of part `part`, until `times` attempts have left a file in `marks`."""

    def __init__(self, part: int, marks: str, times: int) -> None:
        self._part, self._marks, self._times = part, Path(marks), times
        self._here = -1

    def begin(self, part: int) -> None:
        self._here = part

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        return batch

    def end(self, out: Output) -> None:
        self._marks.mkdir(exist_ok=True)
        done = len(list(self._marks.iterdir()))
        if self._here == self._part and done < self._times:
            (self._marks / str(done)).touch()
            raise OSError(5, "the network was away")


class Pid(Operator):
    """Commits the number of the process that runs it."""

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        out.emit("pid", pa.record_batch([pa.array([os.getpid()])], names=["pid"]))
        return batch
