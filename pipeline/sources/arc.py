"""ARC, version 1 and 2: the records of crawls before WARC, Common Crawl's of 2008 to 2012 among them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import pyarrow as pa

from .compression import Decoded, Fault, compression_of
from .containers import ARC_RECORD, ContainerCounts
from .http_body import BodyError, decode_body
from .limits import ReadLimits
from .rows import Rows, content_id
from .warc import LOOKS_LIKE_HTML, PAGE_TYPES, mime_type
from .warc_boundaries import next_member

# URL IP-address Archive-date Content-type [five more in version 2] Archive-length; URLs with spaces exist.
_HEADER: Final = re.compile(
    rb"(?P<url>[a-zA-Z][a-zA-Z0-9+.-]*:\S.*?) (?P<ip>[0-9a-fA-F.:]+|-) (?P<date>\d{8,17}) "
    rb"(?P<type>\S*)(?: \S+){0,5}? (?P<length>\d{1,18})\r?"
)
_HEADER_BYTES: Final = 64 << 10
_HTTP_STATUS: Final = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})\b")
_HTTP_END: Final = re.compile(rb"\r?\n\r?\n")
_SKIP: Final = 1 << 20


class ArcReader:
    """Reads the records of an ARC file in its order.

    HTTP answers of status 200 with HTML, XHTML or plain text become rows; any other record is a container
    skipped with a reason. Where no record's header stands a container has an error, and reading goes on at
    the next line that is one. `faults` says what was wrong with the file.
    """

    def __init__(
        self,
        file: BinaryIO,
        path: str,
        counts: ContainerCounts,
        limit: int | None = None,
        limits: ReadLimits = ReadLimits(),  # noqa: B008 - frozen
    ) -> None:
        self.faults: list[Fault] = []
        self._file = file
        self._path = path
        self._counts = counts
        self._left = limit
        self._limits = limits
        self._rows = Rows()
        file.seek(0)
        self._compression = compression_of(file.read(4))

    def read(self) -> Iterator[pa.RecordBatch]:
        """Batches of RAW_TEXT. Raises OSError only where the file system does."""
        position: int | None = 0
        while position is not None and self._left != 0:
            self._file.seek(position)
            stream = Decoded(self._file, self._compression, position)
            yield from self._segment(_Text(stream), stream)
            position = None
            if stream.fault is not None:
                self.faults.append(stream.fault)
                if self._compression == "gzip":
                    position = next_member(self._file, stream.fault.offset + 1, _begins_record, 4 << 10)
        if len(self._rows):
            yield self._rows.take()

    def _segment(self, text: _Text, stream: Decoded) -> Iterator[pa.RecordBatch]:
        """The records up to the stream's end or fault."""
        while self._left != 0:
            text.skip_blank()
            start = text.position
            line = text.line(_HEADER_BYTES)
            if not line:
                return
            self._counts.meet(ARC_RECORD)
            source = self._source(stream, start)
            header = _HEADER.fullmatch(line)
            if header is None:
                if stream.fault is not None and text.at_end():
                    self._counts.fail(ARC_RECORD, stream.fault.reason, source, stream.fault.detail)
                    return
                detail = f"no ARC record here: {line[:60]!r}"
                self._counts.fail(ARC_RECORD, "bad_header", source, detail)
                self.faults.append(Fault("bad_header", stream.origin(start)[0], detail))
                self._resume(text)
                continue
            if not self._take(header, text, stream, source):
                text.line(_HEADER_BYTES)
                self._resume(text)
            if self._rows.full:
                yield self._rows.take()

    def _resume(self, text: _Text) -> None:
        """Steps over lines until one is a record's header."""
        while not text.at_end() and _HEADER.fullmatch(text.peek_line(_HEADER_BYTES)) is None:
            text.line(_HEADER_BYTES)

    def _source(self, stream: Decoded, position: int) -> str:
        origin, within = stream.origin(position)
        if self._compression == "plain":
            return f"{self._path}:{position}"
        return f"{self._path}:{origin}+{within}" if within else f"{self._path}:{origin}"

    def _take(self, header: re.Match[bytes], text: _Text, stream: Decoded, source: str) -> bool:
        """Gives the record's row, or its account; whether the record ends where its header says."""
        length = int(header["length"])
        too_large = length > self._limits.max_payload_bytes
        block = text.take(length, keep=not too_large)
        if block is None:
            fault = stream.fault or Fault("truncated", text.position, "the file ends inside a record")
            if stream.fault is None:
                self.faults.append(fault)
            self._counts.fail(ARC_RECORD, fault.reason, source, fault.detail)
            return True
        if not text.at_record_end():
            detail = f"the record does not end after the {length} bytes that its header gives"
            self._counts.fail(ARC_RECORD, "wrong_length", source, detail)
            self.faults.append(Fault("wrong_length", stream.origin(text.position)[0], detail))
            return False
        self._take_block(header, block, source)
        return True

    def _take_block(self, header: re.Match[bytes], block: bytes, source: str) -> None:
        length = int(header["length"])
        url = header["url"].decode("utf-8", "replace")
        if url.startswith("filedesc:"):
            self._counts.skip(ARC_RECORD, "filedesc")
            return
        if not url.lower().startswith(("http:", "https:")):
            self._counts.skip(ARC_RECORD, "not_http")
            return
        date = _iso(header["date"].decode())
        if length > self._limits.max_payload_bytes:
            error = BodyError("payload_too_large", f"{length} bytes")
            self._rows.add(
                content_id(url, header[0]), source, url=url, date=date, error=error.reason, detail=str(error)
            )
            self._given()
            return
        refusal = self._take_page(block, url, date, source, mime_type(header["type"].decode("latin-1")))
        if refusal is None:
            self._given()
        elif refusal == "bad_http_header":
            self._counts.fail(ARC_RECORD, refusal, source, "no HTTP status line")
        else:
            self._counts.skip(ARC_RECORD, refusal)

    def _given(self) -> None:
        self._counts.read(ARC_RECORD)
        self._left = None if self._left is None else self._left - 1

    def _take_page(self, block: bytes, url: str, date: str, source: str, declared: str) -> str | None:
        """Adds the page's row; why it gives none, otherwise."""
        status = _HTTP_STATUS.match(block)
        if status is None:
            return "bad_http_header"
        if status[1] != b"200":
            return "http_status"
        end = _HTTP_END.search(block)
        fields = _fields(block[: end.start()] if end else block)
        body = block[end.end() :] if end else b""
        content_type = fields.get("content-type")
        mime = mime_type(content_type) or (declared if "/" in declared else "")
        if mime and mime not in PAGE_TYPES:
            return "not_html"
        broken: BodyError | None = None
        try:
            coded, coding = fields.get("transfer-encoding"), fields.get("content-encoding")
            body = decode_body(body, coded, coding, self._limits)
        except BodyError as problem:
            broken = problem
        if not mime and broken is None and not LOOKS_LIKE_HTML.search(body, 0, 1024):
            return "not_html"
        meta: dict[str, Any] = {"status": 200}
        if "content-language" in fields:
            meta["content_language"] = fields["content-language"]
        self._rows.add(
            content_id(url, body),
            source,
            url=url,
            date=date,
            meta=json.dumps(meta, separators=(",", ":")),
            payload=None if broken else body,
            content_type=content_type or declared or None,
            error=broken.reason if broken else None,
            detail=str(broken) if broken else None,
        )
        return None


class _Text:
    """A decoded stream, by lines and by counts of bytes."""

    def __init__(self, stream: Decoded) -> None:
        self.position = 0  # decoded bytes given
        self._stream = stream
        self._held = b""
        self._at = 0

    def at_end(self) -> bool:
        return not self._fill()

    def at_record_end(self) -> bool:
        """Whether a line end, the next member or nothing follows."""
        if not self._fill() or self._held[self._at] in b"\r\n":
            return True
        return self._stream.origin(self.position)[1] == 0

    def skip_blank(self) -> None:
        """Steps over line ends between records."""
        while self._fill():
            rest = self._held[self._at :].lstrip(b"\r\n")
            self._advance(len(self._held) - self._at - len(rest))
            if rest:
                return

    def line(self, most: int) -> bytes:
        """Up to the next newline, which is left out, or `most` bytes."""
        found = self.peek_line(most)
        self._advance(len(found))
        if self._held.startswith(b"\n", self._at):
            self._advance(1)
        return found

    def peek_line(self, most: int) -> bytes:
        """The same, without taking it."""
        while (end := self._held.find(b"\n", self._at, self._at + most)) < 0:
            if len(self._held) - self._at >= most or not self._more():
                return self._held[self._at : self._at + most]
        return self._held[self._at : end]

    def take(self, size: int, keep: bool) -> bytes | None:
        """`size` bytes (empty unless they are to be kept); None where the stream ends before."""
        parts: list[bytes] = []
        while size:
            if not self._fill():
                return None
            part = self._held[self._at : self._at + min(size, _SKIP)]
            self._advance(len(part))
            size -= len(part)
            if keep:
                parts.append(part)
        return b"".join(parts)

    def _fill(self) -> bool:
        return self._at < len(self._held) or self._more()

    def _more(self) -> bool:
        piece = self._stream.read(_SKIP)
        if not piece:
            return False
        self._held, self._at = self._held[self._at :] + piece, 0
        return True

    def _advance(self, count: int) -> None:
        self._at += count
        self.position += count


def _begins_record(text: bytes) -> bool:
    return _HEADER.fullmatch(text.partition(b"\n")[0]) is not None


def _fields(head: bytes) -> dict[str, str]:
    """HTTP fields by lower-case name, the last of those that repeat."""
    lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")[1:]
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}


def _iso(date: str) -> str:
    """`YYYYMMDDhhmmss` as ISO 8601; what is no such date stays as it is."""
    if len(date) != 14:
        return date
    return f"{date[:4]}-{date[4:6]}-{date[6:8]}T{date[8:10]}:{date[10:12]}:{date[12:]}Z"
