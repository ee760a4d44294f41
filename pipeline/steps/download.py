"""Images of records that come with an address."""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ...schemas import images as schema
from ..operator import Operator, Output
from .binary import binary_array

if TYPE_CHECKING:
    from ..download.outcome import Outcome
    from ..download.pool import Downloader

DOWNLOADS: Final = "downloads"  # the stream with the outcome of every address

_ROWS: Final = 1024  # of a batch that is handed on
_BYTES: Final = 8 << 20  # of its images, unless a single one is larger
_AHEAD_ROWS: Final = 8192  # addresses that are on their way or wait for their turn, and a batch at most
_AHEAD_BYTES: Final = 64 << 20  # of the batches that these are in


class Download(Operator):
    """Fetches the images of the records that have an address and no image yet.

    Those that cannot be fetched are errors, those whose sites object are dropped; both with their reasons.
    """

    def __init__(self, step: str, options: Mapping[str, Any]) -> None:
        self._step = step
        self._options = schema.Download.model_validate(dict(options))

    def open(self) -> None:
        """Raises ImportError where what downloads is not installed."""
        if self._options.with_ == "thresher" and importlib.util.find_spec("aiohttp") is None:
            raise ImportError("download needs aiohttp: pip install 'thresher[images]'")

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        """One batch by itself, which takes as long as its slowest address."""
        (whole,) = (pa.Table.from_batches(self.flow(iter([batch]), out)).combine_chunks().to_batches()) or (
            batch.slice(0, 0),
        )
        return whole

    def flow(self, batches: Iterator[pa.RecordBatch], out: Output) -> Iterator[pa.RecordBatch]:
        """See Operator.flow. While a batch is worked on, the images of those that follow are downloaded."""
        from ..download.outcome import SCHEMA

        out.emit(DOWNLOADS, pa.RecordBatch.from_pylist([], schema=SCHEMA))
        downloader = self._downloader()
        try:
            yield from _Window(self._step, downloader, out).run(batches)
        finally:
            downloader.close()

    def _downloader(self) -> Downloader:
        if self._options.with_ == "img2dataset":
            from ..download.by_img2dataset import Img2Dataset

            return Img2Dataset(self._options)
        from ..download.pool import Pool

        return Pool(self._options)


@dataclass
class _Pending:
    """A batch some of whose images are on their way: rows from `first`, of which `at` are handed on."""

    batch: pa.RecordBatch
    first: int
    sizes: list[int | None]  # bytes of the image; None of a row without
    at: int = 0


class _Window:
    """The batches between what is read and what is handed on."""

    def __init__(self, step: str, downloader: Downloader, out: Output) -> None:
        self._step, self._downloader, self._out = step, downloader, out
        self._pending: deque[_Pending] = deque()
        self._rows = self._bytes = self._next = 0

    def run(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        more = True
        while more or self._pending:
            while more and (not self._pending or (self._rows < _AHEAD_ROWS and self._bytes < _AHEAD_BYTES)):
                batch = next(batches, None)
                if batch is None:
                    more = False
                else:
                    self._submit(batch)
                    del batch
            if self._pending:
                yield self._hand_on()

    def _submit(self, batch: pa.RecordBatch) -> None:
        sizes = pc.binary_length(batch.column("image").cast(pa.binary())).to_pylist()
        urls = batch.column("url").to_pylist()
        first = self._next
        self._downloader.submit([(first + row, urls[row]) for row, size in enumerate(sizes) if size is None])
        self._pending.append(_Pending(batch, first, sizes))
        self._next += len(batch)
        self._rows += len(batch)
        self._bytes += batch.nbytes

    def _hand_on(self) -> pa.RecordBatch:
        """The next rows of the oldest batch, as many as make a batch, once all of them are there."""
        pending = self._pending[0]
        images: list[bytes | None] = []
        outcomes: list[tuple[int, Outcome]] = []
        size = 0
        stop = min(pending.at + _ROWS, len(pending.sizes))
        for row in range(pending.at, stop):
            there = pending.sizes[row]
            if there is None:
                outcome = self._downloader.outcome(pending.first + row)
                outcomes.append((row - pending.at, outcome))
                images.append(outcome.body.take() if outcome.body is not None else None)
                there = outcome.size
            else:
                images.append(None)
            size += there
            if size >= _BYTES:
                break
        batch = pending.batch.slice(pending.at, len(images))
        pending.at += len(images)
        self._rows -= len(images)
        if pending.at == len(pending.sizes):
            self._pending.popleft()
            self._bytes -= pending.batch.nbytes
        return self._with_images(batch, images, outcomes)

    def _with_images(
        self, batch: pa.RecordBatch, images: list[bytes | None], outcomes: list[tuple[int, Outcome]]
    ) -> pa.RecordBatch:
        reasons: list[str | None] = [None] * len(batch)
        values: list[str | None] = [None] * len(batch)
        verdicts = ["error"] * len(batch)
        for row, outcome in outcomes:
            reasons[row], values[row], verdicts[row] = outcome.reason, outcome.value, outcome.verdict
        self._tell(batch, outcomes)
        if outcomes:
            column = binary_array(images)
            at = batch.schema.get_field_index("image")
            if len(outcomes) < len(batch):
                column = pc.coalesce(batch.column(at).cast(pa.binary()), column)
            batch = batch.set_column(at, pa.field("image", pa.binary()), column)
        return self._out.drop(
            self._step,
            batch,
            pa.array(reasons, pa.string()),
            pa.array(values, pa.string()),
            pa.array(verdicts, pa.string()),
        )

    def _tell(self, batch: pa.RecordBatch, outcomes: list[tuple[int, Outcome]]) -> None:
        from ..download.outcome import SCHEMA

        if not outcomes:
            return
        rows = pa.array([row for row, _ in outcomes], pa.int64())
        asked = batch.select(["position", "id", "url"]).take(rows)
        found = [outcome for _, outcome in outcomes]
        columns = [
            *asked.columns,
            pa.array([one.final_url for one in found], pa.string()),
            pa.array([one.status for one in found], pa.int32()),
            pa.array([one.size if one.reason is None else None for one in found], pa.int64()),
            pa.array([one.content_type for one in found], pa.string()),
            pa.array([one.reason for one in found], pa.string()),
            pa.array([one.attempts for one in found], pa.int32()),
            pa.array([one.seconds for one in found], pa.float32()),
            pa.array([one.time for one in found], pa.string()),
        ]
        self._out.emit(DOWNLOADS, pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
