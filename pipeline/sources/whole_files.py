"""HTML and plain text: a file is one record, or, of text, each line is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from .compression import Decoded
from .jsonl import Line
from .limits import ReadLimits
from .rows import Rows, content_id

_BOM: Final = b"\xef\xbb\xbf"


def read_page(stream: Decoded, path: str, limits: ReadLimits) -> pa.RecordBatch:
    """The file as one page still to be extracted. What its address on the web was is not known."""
    content, error, detail = _content(stream, limits.max_payload_bytes, "payload_too_large")
    rows = Rows()
    if error:
        rows.add(content_id(None, content), path, error=error, detail=detail)
    else:
        rows.add(content_id(None, content), path, payload=content, content_type="text/html")
    return rows.take()


def read_text(stream: Decoded, path: str, limits: ReadLimits) -> pa.RecordBatch:
    """The file as one text, which must be UTF-8; a byte order mark is left out."""
    content, error, detail = _content(stream, limits.max_record_bytes, "text_too_large")
    content = content.removeprefix(_BOM)
    rows = Rows()
    _add_text(rows, content, path, error, detail)
    return rows.take()


def read_text_lines(lines: Iterator[Line], path: str, limit: int | None) -> Iterator[pa.RecordBatch]:
    """A record for each line, `source` being its byte offset; a carriage return at its end is left out."""
    rows = Rows()
    for count, line in enumerate(lines):
        if limit is not None and count >= limit:
            break
        content = (line.data if line.offset else line.data.removeprefix(_BOM)).removesuffix(b"\r")
        error = line.fault or (None if content.strip() else "empty_line")
        detail = f"{len(line.data)} bytes of the line were kept" if line.fault else None
        _add_text(rows, content, f"{path}:{line.offset}", error, detail)
        if rows.full:
            yield rows.take()
    if len(rows):
        yield rows.take()


def _add_text(rows: Rows, content: bytes, source: str, error: str | None, detail: str | None) -> None:
    if error is None:
        try:
            content.decode()
        except UnicodeDecodeError as problem:
            error, detail = "invalid_utf8", f"{problem.reason} at byte {problem.start}"
    text = content if error is None else None
    rows.add(content_id(None, content), source, text=text, error=error, detail=detail)


def _content(stream: Decoded, most: int, too_large: str) -> tuple[bytes, str | None, str | None]:
    """The decoded file, of which no more than `most` bytes are kept, and why it is not usable."""
    parts: list[bytes] = []
    size = 0
    for piece in stream.pieces():
        parts.append(piece[: most - size] if size + len(piece) > most else piece)
        size += len(piece)
        if size > most:
            return b"".join(parts), too_large, f"more than {most} bytes"
    if stream.fault is not None:
        return b"".join(parts), stream.fault.reason, stream.fault.detail
    return b"".join(parts), None if size else "empty_file", None if size else "the file holds no bytes"
