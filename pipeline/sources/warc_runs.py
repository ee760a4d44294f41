"""Runs of WARC records: natively decoded while all is well, and watched over where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from .compression import Decoded, Fault
from .warc_boundaries import RECORD_START, next_member, next_plain_record, record_end


class NativeRun:
    """Records decoded by fastwarc itself, for files with one gzip member per record: half the cost of a
    Segment.

    fastwarc ends in silence where a file is cut, and places a record that shares its member with another by
    the member after it. So a run says nothing of why it ended: a Segment goes over its last two records again
    (`given`, from `anchor` on) and judges what follows.
    """

    def __init__(self, file: BinaryIO, position: int) -> None:
        file.seek(position)
        self.anchor = position
        self.given: tuple[int, ...] = ()
        self._file = _Watched(file)

    @property
    def failure(self) -> OSError | None:
        """What the file system raised."""
        return self._file.failure

    def records(self, stop: int | None) -> Iterator[tuple[Any, int, int]]:
        """Each record that begins before `stop`, with the offset of its member and 0."""
        from fastwarc.warc import ArchiveIterator

        iterator = ArchiveIterator(self._file, parse_http=False, fsspec_args=False)
        while True:
            try:
                record = next(iterator, None)
            except OSError:
                if self.failure is not None:
                    raise
                return
            if record is None or not is_framed(record):
                return
            origin = record.stream_pos
            if (stop is not None and origin >= stop) or (self.given and origin <= self.given[-1]):
                return
            self.given = (*self.given[-1:], origin)
            self.anchor = self.given[0]
            yield record, origin, 0


class _Watched:
    """A file that remembers what its file system raised, so that it is not taken for bad data."""

    def __init__(self, file: BinaryIO) -> None:
        self.failure: OSError | None = None
        self._file = file

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self.failure = error
            raise

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def close(self) -> None:
        """The file belongs to the caller."""


@dataclass(frozen=True)
class Diagnosis:
    """Why a segment ended (None: the file did) and where to go on (None: nowhere)."""

    fault: Fault | None = None
    resume: int | None = None
    certain: bool = False  # the fault stands, whether or not what follows is sound


class Segment:
    """The records from one place in the file up to the first fault, the stop, or the end, and what ended
    them.

    Records that a NativeRun gave before (`given`, from `position` on) are passed over.
    """

    def __init__(self, file: BinaryIO, compression: str, position: int, given: tuple[int, ...] = ()) -> None:
        file.seek(position)
        self.landed: int | None = None  # where the first record of the next split begins
        self._given = given
        self._file = file
        self._compression = compression
        self._position = position
        self._stream = Decoded(file, compression, position)
        self._last: int | None = None  # decoded offset of the last sound record
        self._problem: str | None = None

    def records(self, stop: int | None) -> Iterator[tuple[Any, int, int]]:
        """Each record with the offset of its member and its decoded offset within it."""
        from fastwarc.warc import ArchiveIterator

        iterator = ArchiveIterator(self._stream, parse_http=False, stream_detect=False, fsspec_args=False)
        passed = 0
        while True:
            try:
                record = next(iterator, None)
            except OSError as error:
                if self._stream.failure is not None:
                    raise
                self._problem = str(error)
                return
            if record is None:
                return
            origin, within = self._stream.origin(record.stream_pos)
            if stop is not None and within == 0 and origin >= stop:
                self.landed = origin
                return
            if not is_framed(record):
                self._problem = "a record without WARC-Type or Content-Length"
                return
            self._last = record.stream_pos
            if passed < len(self._given):
                passed += 1
            else:
                yield record, origin, within

    @property
    def failure(self) -> OSError | None:
        """What the file system raised."""
        return self._stream.failure

    def has_given(self, offset: int) -> bool:
        """Whether the record at this file offset is in the accounts already."""
        return offset == self.last_offset or offset in self._given

    @property
    def last_offset(self) -> int | None:
        """The file offset of the last record that was given (of its member, where the file is compressed)."""
        if self._last is None:
            return None
        origin, within = self._stream.origin(self._last)
        return origin + within if self._compression == "plain" else origin

    def diagnosis(self) -> Diagnosis:
        """What ended the segment, and where the next sound record begins."""
        fault, last = self._stream.fault, self.last_offset
        if fault is not None:
            return Diagnosis(fault, self._next_member(fault.offset + 1), certain=True)
        if self._compression == "plain":
            return self._plain_diagnosis(last)
        if self._last is None or last is None:
            if self._problem is None and not self._stream.length:
                return Diagnosis()
            fault = Fault("bad_header", self._position, self._problem or "no WARC record here")
            return Diagnosis(fault, self._next_member(self._position + 1))
        after = self._stream.member_after(self._last)
        if self._problem is None and after is None:
            return Diagnosis()
        fault = Fault("bad_header", last, self._problem or "what follows this record is no WARC record")
        return Diagnosis(fault, after or self._next_member(last + 1))

    def _plain_diagnosis(self, last: int | None) -> Diagnosis:
        end = self._position if last is None else record_end(self._file, last)
        # A length may be any number, also one that no file can be asked for.
        if last is not None and end > self._file.seek(0, 2):
            return Diagnosis(Fault("truncated", last, "the file ends inside a record"))
        self._file.seek(end)
        rest = self._file.read(64)
        if not rest.strip(b"\r\n"):
            return Diagnosis()
        begin = end + len(rest) - len(rest.lstrip(b"\r\n"))
        resume = next_plain_record(self._file, begin + rest.lstrip(b"\r\n").startswith(RECORD_START))
        return Diagnosis(Fault("bad_header", begin, self._problem or "no WARC record here"), resume)

    def _next_member(self, offset: int) -> int | None:
        return next_member(self._file, offset) if self._compression == "gzip" else None


def is_framed(record: Any) -> bool:
    """Whether its header says what the record is and how long."""
    if record.content_length == 0:
        length = record.headers.get("Content-Length")
        if length is None or not length.strip().isdigit():
            return False
    return str(record.record_type) != "unknown" or record.headers.get("WARC-Type") is not None
