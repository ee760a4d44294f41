"""Operators that show how Ray runs them: when, where, with which devices and threads."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
from operators import AsTheyCome
from thresher.pipeline.operator import Operator, Output


class Slow(Operator):
    """Takes its time for each part, and writes down from when until when, and in which process."""

    def __init__(self, seconds: float, directory: str) -> None:
        self._seconds, self._directory = seconds, Path(directory)

    def begin(self, part: int) -> None:
        self._part, self._began = part, time.time()
        (self._directory / f"{part}-began").touch()
        time.sleep(self._seconds)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        return batch

    def end(self, out: Output) -> None:
        told = f"{self._began} {time.time()} {os.getpid()}"
        (self._directory / f"{self._part}-done").write_text(told)


class Surroundings(Operator):
    """Commits one row for each part: what the process has of devices and threads."""

    def begin(self, part: int) -> None:
        time.sleep(0.2)  # so that no actor takes all of the parts

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        out.emit(
            "surroundings",
            pa.RecordBatch.from_pylist(
                [
                    {
                        "devices": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
                        "threads": os.environ["OMP_NUM_THREADS"],
                        "arrow": f"{pa.cpu_count()} {pa.io_thread_count()}",
                        "process": os.getpid(),
                    }
                ]
            ),
        )
        return batch


class SlowReduce(AsTheyCome):
    """Takes its time for each partition, and writes down that it began."""

    def __init__(self, seconds: float, directory: str) -> None:
        self._seconds, self._directory = seconds, Path(directory)

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        (self._directory / f"{os.getpid()}-{time.time()}-began").touch()
        time.sleep(self._seconds)
        super().reduce(inputs, out)
