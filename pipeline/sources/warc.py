"""WARC and WET: the records of a crawl, read with fastwarc over a stream that survives faults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import pyarrow as pa

from .compression import Fault, compression_of
from .containers import WARC_RECORD, ContainerCounts
from .http_body import BodyError, decode_body
from .limits import ReadLimits
from .rows import Rows, content_id
from .warc_boundaries import is_cut_by_record, next_member
from .warc_runs import NativeRun, Segment

MARKUP_TYPES: Final = ("text/html", "application/xhtml+xml")
PAGE_TYPES: Final = (*MARKUP_TYPES, "text/plain")

LOOKS_LIKE_HTML: Final = re.compile(rb"(?i)<(?:!doctype\s+html|html|head|body)[\s>]")


class WarcReader:
    """Reads the records of a WARC or WET file that begin in [start, stop), in file order.

    Pages (`response` with status 200 and HTML, XHTML or plain text; `resource` with HTML or XHTML, since
    crawlers keep their logs as plain ones) and `conversion` records become rows; any other record is a
    container skipped with a reason. A record that cannot be framed is a container with an error, and reading
    goes on at the next one that can. `faults` says what was wrong with the file.
    """

    def __init__(
        self,
        file: BinaryIO,
        path: str,
        counts: ContainerCounts,
        limit: int | None = None,
        limits: ReadLimits = ReadLimits(),  # noqa: B008
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
        self._native = self._compression == "gzip" and is_cut_by_record(file)

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[pa.RecordBatch]:
        """Batches of RAW_TEXT. Raises OSError only where the file system does."""
        position = next_member(self._file, start) if start else 0
        while position is not None and (stop is None or position < stop) and self._left != 0:
            given: tuple[int, ...] = ()
            if self._native:
                run = NativeRun(self._file, position)
                yield from self._batches(run, stop)
                position, given = run.anchor, run.given
            segment = Segment(self._file, self._compression, position, given)
            yield from self._batches(segment, stop)
            position = self._after(segment, stop) if self._left != 0 else None
        if len(self._rows):
            yield self._rows.take()

    def _batches(self, run: NativeRun | Segment, stop: int | None) -> Iterator[pa.RecordBatch]:
        if self._left == 0:
            return
        for record, origin, within in run.records(stop):
            self._counts.meet(WARC_RECORD)
            try:
                self._take(record, self._source(origin, within))
            except OSError as error:
                if run.failure is not None:
                    raise
                self._counts.fail(WARC_RECORD, "corrupt", self._source(origin, within), str(error))
            if self._rows.full:
                yield self._rows.take()
            if self._left == 0:
                return

    def _source(self, origin: int, within: int) -> str:
        if self._compression == "plain":
            return f"{self._path}:{origin + within}"
        return f"{self._path}:{origin}+{within}" if within else f"{self._path}:{origin}"

    def _after(self, segment: Segment, stop: int | None) -> int | None:
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
        if diagnosis.fault is not None and segment.has_given(diagnosis.fault.offset):
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
        headers, http = _fields(record.headers), None
        content_type = headers.get("content-type")
        meta: dict[str, Any] = {}
        if record.is_http:
            try:
                record.parse_http()
            except OSError as error:
                return _Refusal("bad_http_header", str(error))
            status = record.http_headers.status_code if record.http_headers is not None else None
            if status is None:
                return _Refusal("bad_http_header", "no HTTP status line")
            if status != 200:
                return _Refusal("http_status")
            http = _fields(record.http_headers)
            content_type = http.get("content-type")
            meta = _present(status=status, content_language=http.get("content-language"))
        elif kind == "response":
            return _Refusal("not_http")
        mime = mime_type(content_type) or mime_type(headers.get("warc-identified-payload-type"))
        if mime and mime not in (PAGE_TYPES if http is not None else MARKUP_TYPES):
            return _Refusal("not_html")
        too_large = record.content_length > self._limits.max_payload_bytes
        body = b"" if too_large else _body(record)
        if body is None:
            return _Refusal("truncated", "the file ends before the record does")
        broken: BodyError | None = None
        if too_large:
            broken = BodyError("payload_too_large", f"{record.content_length} bytes")
        elif http is not None:
            try:
                transfer, coding = http.get("transfer-encoding"), http.get("content-encoding")
                cut = "warc-truncated" in headers
                body = decode_body(body, transfer, coding, self._limits, cut)
            except BodyError as problem:
                broken = problem
        if not mime and broken is None and not LOOKS_LIKE_HTML.search(body, 0, 1024):
            return _Refusal("not_html")
        self._add(headers, source, meta, body, broken, content_type=content_type)
        return None

    def _take_text(self, record: Any, source: str) -> _Refusal | None:
        headers = _fields(record.headers)
        if mime_type(headers.get("content-type")) not in ("", "text/plain"):
            return _Refusal("not_text")
        too_large = record.content_length > self._limits.max_payload_bytes
        body = b"" if too_large else _body(record)
        if body is None:
            return _Refusal("truncated", "the file ends before the record does")
        error = BodyError("payload_too_large", f"{record.content_length} bytes") if too_large else None
        try:
            body.decode()
        except UnicodeDecodeError as problem:
            error = BodyError("invalid_utf8", f"{problem.reason} at byte {problem.start}")
        meta = _present(content_language=headers.get("warc-identified-content-language"))
        self._add(headers, source, meta, body, error, as_text=True)
        return None

    def _add(
        self,
        headers: dict[str, str],
        source: str,
        meta: dict[str, Any],
        body: bytes,
        error: BodyError | None,
        content_type: str | None = None,
        as_text: bool = False,
    ) -> None:
        meta |= _present(truncated=headers.get("warc-truncated"))
        url = headers.get("warc-target-uri", "").strip("<> ") or None
        self._rows.add(
            headers.get("warc-record-id", "").strip("<> ") or content_id(url, body),
            source,
            url=url,
            date=headers.get("warc-date"),
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


def _body(record: Any) -> bytes | None:
    """The rest of the record's block; None if the stream ends before it."""
    length = record.content_length
    body: bytes = record.reader.read() if length else b""
    return body if len(body) == length else None


def _fields(headers: Any) -> dict[str, str]:
    """Header fields by lower-case name, the last of those that repeat; one call costs less than each
    look-up."""
    return {name.lower(): value for name, value in headers.to_tuples()}


def mime_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
