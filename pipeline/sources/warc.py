"""WARC and WET: the records of a crawl, read with fastwarc over a stream that survives faults."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import pyarrow as pa

from .compression import GZIP_MAGIC, Decoded, Fault, compression_of
from .containers import WARC_RECORD, ContainerCounts
from .http_body import BodyError, Limits, decode_body
from .rows import Rows, content_id

PAGE_TYPES: Final = ("text/html", "application/xhtml+xml", "text/plain")

_MEMBER_MAGIC: Final = GZIP_MAGIC + b"\x08"  # deflate is the only method (RFC 1952, section 2.3.1)
_RECORD_START: Final = b"WARC/"
_PLAIN_RECORD: Final = re.compile(rb"(?:\A|(?<=\n))WARC/1\.[01]\r\n")
_HEADER_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n")
_LOOKS_LIKE_HTML: Final = re.compile(rb"(?i)<(?:!doctype\s+html|html|head|body)[\s>]")
_SCAN: Final = 1 << 20


def is_cut_by_record(file: BinaryIO) -> bool:
    """Whether a gzip WARC file has a member of its own for its first record, so that it can be cut at
    members."""
    file.seek(0)
    head = file.read(_SCAN)
    inflate = zlib.decompressobj(wbits=31)
    try:
        inflate.decompress(head)
    except zlib.error:
        return False
    return inflate.eof and inflate.unused_data.startswith(_MEMBER_MAGIC)


def next_member(file: BinaryIO, offset: int) -> int | None:
    """The offset of the first gzip member at or after `offset` that decodes to the beginning of a WARC
    record.

    The bytes of a member's head can occur inside compressed data, so a candidate counts only if it decodes;
    that leaves WARC files stored uncompressed inside a record, which the split before notices
    (`split_boundary`).
    """
    file.seek(offset)
    block, base = b"", offset
    while more := file.read(_SCAN):
        block += more
        at = block.find(_MEMBER_MAGIC)
        while at >= 0:
            if _begins_a_record(file, base + at, block[at : at + 4096]):
                return base + at
            at = block.find(_MEMBER_MAGIC, at + 1)
        base += len(block) - 2
        block = block[-2:]
        file.seek(base + 2)
    return None


def _begins_a_record(file: BinaryIO, offset: int, head: bytes) -> bool:
    if len(head) < 4096:
        file.seek(offset)
        head = file.read(4096)
    try:
        return zlib.decompressobj(wbits=31).decompress(head, len(_RECORD_START)) == _RECORD_START
    except zlib.error:
        return False


def next_plain_record(file: BinaryIO, offset: int) -> int | None:
    """The offset of the first line at or after `offset` that reads `WARC/1.0` or `WARC/1.1`."""
    before = max(0, offset - 1)
    file.seek(before)
    block, base = file.read(_SCAN), before
    while block:
        for match in _PLAIN_RECORD.finditer(block):
            if base + match.start() >= offset and (match.start() or not base + match.start()):
                return base + match.start()
        more = file.read(_SCAN)
        if not more:
            return None
        base += max(0, len(block) - 16)
        block = block[-16:] + more
    return None


class WarcReader:
    """Reads the records of a WARC or WET file that begin in [start, stop), in file order.

    Pages (`response` with status 200, `resource`; HTML, XHTML or plain text) and `conversion` records become
    rows; any other record is a container skipped with a reason. A record that cannot be framed is a container
    with an error, and reading goes on at the next one that can. `faults` says what was wrong with the file.
    """

    def __init__(
        self,
        file: BinaryIO,
        path: str,
        counts: ContainerCounts,
        limit: int | None = None,
        limits: Limits = Limits(),  # noqa: B008
    ) -> None:
        self.faults: list[Fault] = []
        self._file = file
        self._path = path
        self._counts = counts
        self._left = limit
        self._limits = limits
        self._rows = Rows()
        self._suspected: Fault | None = None  # of the record before the segment, if that segment is sound
        file.seek(0)
        self._compression = compression_of(file.read(4))

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[pa.RecordBatch]:
        """Batches of RAW_TEXT. Raises OSError only where the file system does."""
        position = next_member(self._file, start) if start else 0
        while position is not None and (stop is None or position < stop) and self._left != 0:
            segment = _Segment(self._file, self._compression, position)
            for record, origin, within in segment.records(stop):
                self._counts.meet(WARC_RECORD)
                self._take(record, self._source(origin, within))
                if self._rows.full:
                    yield self._rows.take()
                if self._left == 0:
                    break
            else:
                position = self._after(segment, stop)
        if len(self._rows):
            yield self._rows.take()

    def _source(self, origin: int, within: int) -> str:
        if self._compression == "plain":
            return f"{self._path}:{origin + within}"
        return f"{self._path}:{origin}+{within}" if within else f"{self._path}:{origin}"

    def _after(self, segment: _Segment, stop: int | None) -> int | None:
        """Notes what ended a segment and says where to go on."""
        if segment.landed is not None:
            if stop is not None and segment.landed != next_member(self._file, stop):
                detail = f"the split at byte {stop} ends here, and the next one begins elsewhere"
                self.faults.append(Fault("split_boundary", segment.landed, detail))
            return None
        if self._suspected is not None and segment.last_offset is not None:
            self.faults.append(self._suspected)
        self._suspected = None
        diagnosis = segment.diagnosis()
        if diagnosis.fault is not None and diagnosis.fault.offset == segment.last_offset:
            # The record is in the accounts already; where it ends is in doubt, or the record after it is at
            # fault.
            if diagnosis.resume is not None and not diagnosis.certain:
                self._suspected = diagnosis.fault
            else:
                self.faults.append(diagnosis.fault)
        elif diagnosis.fault is not None:
            self._counts.meet(WARC_RECORD)
            fault = diagnosis.fault
            self._counts.fail(WARC_RECORD, fault.reason, self._source(fault.offset, 0), fault.detail)
            self.faults.append(fault)
        return diagnosis.resume

    def _take(self, record: Any, source: str) -> None:
        """Adds the record's row, or says why it gives none."""
        kind = str(record.record_type)
        if kind in ("response", "resource"):
            refusal = self._take_page(record, kind, source)
        elif kind == "conversion":
            refusal = self._take_text(record, source)
        else:
            refusal = _Refusal(kind)
        if refusal is None:
            self._counts.read(WARC_RECORD)
            self._left = None if self._left is None else self._left - 1
        elif refusal.detail is None:
            self._counts.skip(WARC_RECORD, refusal.reason)
        else:
            self._counts.fail(WARC_RECORD, refusal.reason, source, refusal.detail)

    def _take_page(self, record: Any, kind: str, source: str) -> _Refusal | None:
        headers, http = record.headers, None
        content_type = headers.get("Content-Type")
        meta: dict[str, Any] = {}
        if record.is_http:
            try:
                record.parse_http()
            except OSError as error:
                return _Refusal("bad_http_header", str(error))
            http = record.http_headers
            if http is None or http.status_code is None:
                return _Refusal("bad_http_header", "no HTTP status line")
            if http.status_code != 200:
                return _Refusal("http_status")
            content_type = http.get("Content-Type")
            meta = _present(status=http.status_code, content_language=http.get("Content-Language"))
        elif kind == "response":
            return _Refusal("not_http")
        mime = _mime(content_type) or _mime(headers.get("WARC-Identified-Payload-Type"))
        if mime and mime not in PAGE_TYPES:
            return _Refusal("not_html")
        too_large = record.content_length > self._limits.payload_bytes
        body = b"" if too_large else _body(record)
        if body is None:
            return _Refusal("truncated", "the file ends before the record does")
        fields = _identity(record)
        broken: BodyError | None = None
        if too_large:
            broken = BodyError("payload_too_large", f"{record.content_length} bytes")
        elif http is not None:
            try:
                transfer, coding = http.get("Transfer-Encoding"), http.get("Content-Encoding")
                cut = headers.get("WARC-Truncated") is not None
                body = decode_body(body, transfer, coding, self._limits, cut)
            except BodyError as problem:
                broken = problem
        if not mime and broken is None and not _LOOKS_LIKE_HTML.search(body, 0, 1024):
            return _Refusal("not_html")
        self._add(record, source, fields, meta, body, broken, content_type=content_type)
        return None

    def _take_text(self, record: Any, source: str) -> _Refusal | None:
        headers = record.headers
        if _mime(headers.get("Content-Type")) not in ("", "text/plain"):
            return _Refusal("not_text")
        too_large = record.content_length > self._limits.payload_bytes
        body = b"" if too_large else _body(record)
        if body is None:
            return _Refusal("truncated", "the file ends before the record does")
        error = BodyError("payload_too_large", f"{record.content_length} bytes") if too_large else None
        try:
            body.decode()
        except UnicodeDecodeError as problem:
            error = BodyError("invalid_utf8", f"{problem.reason} at byte {problem.start}")
        meta = _present(content_language=headers.get("WARC-Identified-Content-Language"))
        self._add(record, source, _identity(record), meta, body, error, as_text=True)
        return None

    def _add(
        self,
        record: Any,
        source: str,
        fields: dict[str, str | None],
        meta: dict[str, Any],
        body: bytes,
        error: BodyError | None,
        content_type: str | None = None,
        as_text: bool = False,
    ) -> None:
        meta |= _present(truncated=record.headers.get("WARC-Truncated"))
        self._rows.add(
            fields["id"] or content_id(fields["url"], body),
            source,
            url=fields["url"],
            date=fields["date"],
            meta=json.dumps(meta, separators=(",", ":")) if meta else None,
            text=body if as_text and error is None else None,
            payload=body if not as_text and error is None else None,
            content_type=content_type,
            error=error.reason if error else None,
            detail=str(error) if error else None,
        )


@dataclass(frozen=True)
class _Refusal:
    """Why a record gives no row: skipped, or with a detail an error."""

    reason: str
    detail: str | None = None


@dataclass(frozen=True)
class _Diagnosis:
    """Why a segment ended (None: the file did) and where to go on (None: nowhere)."""

    fault: Fault | None = None
    resume: int | None = None
    certain: bool = False  # the fault stands, whether or not what follows is sound


class _Segment:
    """The records from one place in the file up to the first fault, the stop, or the end."""

    def __init__(self, file: BinaryIO, compression: str, position: int) -> None:
        file.seek(position)
        self.landed: int | None = None  # where the first record of the next split begins
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
            if not _is_framed(record):
                self._problem = "a record without WARC-Type or Content-Length"
                return
            self._last = record.stream_pos
            yield record, origin, within

    @property
    def last_offset(self) -> int | None:
        """The file offset of the last record that was given (of its member, where the file is compressed)."""
        if self._last is None:
            return None
        origin, within = self._stream.origin(self._last)
        return origin + within if self._compression == "plain" else origin

    def diagnosis(self) -> _Diagnosis:
        """What ended the segment, and where the next sound record begins."""
        fault, last = self._stream.fault, self.last_offset
        if fault is not None:
            return _Diagnosis(fault, self._next_member(fault.offset + 1), certain=True)
        if self._compression == "plain":
            return self._plain_diagnosis(last)
        if self._last is None or last is None:
            if self._problem is None and not self._stream.length:
                return _Diagnosis()
            fault = Fault("bad_header", self._position, self._problem or "no WARC record here")
            return _Diagnosis(fault, self._next_member(self._position + 1))
        after = self._stream.member_after(self._last)
        if self._problem is None and after is None:
            return _Diagnosis()
        fault = Fault("bad_header", last, self._problem or "what follows this record is no WARC record")
        return _Diagnosis(fault, after or self._next_member(last + 1))

    def _plain_diagnosis(self, last: int | None) -> _Diagnosis:
        end = self._position if last is None else _record_end(self._file, last)
        self._file.seek(end)
        rest = self._file.read(64)
        if not rest.strip(b"\r\n"):
            if last is not None and end > self._file.seek(0, 2):
                return _Diagnosis(Fault("truncated", last, "the file ends inside a record"))
            return _Diagnosis()
        begin = end + len(rest) - len(rest.lstrip(b"\r\n"))
        resume = next_plain_record(self._file, begin + rest.lstrip(b"\r\n").startswith(_RECORD_START))
        return _Diagnosis(Fault("bad_header", begin, self._problem or "no WARC record here"), resume)

    def _next_member(self, offset: int) -> int | None:
        return next_member(self._file, offset) if self._compression == "gzip" else None


def _is_framed(record: Any) -> bool:
    """Whether its header says what the record is and how long."""
    if record.content_length == 0:
        length = record.headers.get("Content-Length")
        if length is None or not length.strip().isdigit():
            return False
    return str(record.record_type) != "unknown" or record.headers.get("WARC-Type") is not None


def _record_end(file: BinaryIO, start: int) -> int:
    """Where the block of the uncompressed record at `start` ends by its own header."""
    file.seek(start)
    head = file.read(64 << 10)
    length = _LENGTH.search(head)
    end = head.find(_HEADER_END)
    return start + end + len(_HEADER_END) + int(length[1]) if length and end >= 0 else start + 1


def _body(record: Any) -> bytes | None:
    """The rest of the record's block; None if the stream ends before it."""
    length = record.content_length
    body: bytes = record.reader.read() if length else b""
    return body if len(body) == length else None


def _identity(record: Any) -> dict[str, str | None]:
    headers = record.headers
    return {
        "id": (record.record_id or "").strip("<> ") or None,
        "url": (headers.get("WARC-Target-URI") or "").strip("<> ") or None,
        "date": headers.get("WARC-Date"),
    }


def _mime(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
