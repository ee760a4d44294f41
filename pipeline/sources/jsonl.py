"""JSON Lines: each line is a record, readable or not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
import pyarrow as pa

from .compression import Decoded
from .limits import ReadLimits
from .rows import Rows, content_id

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BOM: Final = b"\xef\xbb\xbf"


class RecordError(Exception):
    """A record that cannot be used; `reason` in snake_case."""

    def __init__(self, reason: str, detail: str | None = None, record: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.record = record  # its id, where it has one


@dataclass(frozen=True)
class Line:
    """A line without its newline. `offset` counts decoded bytes; `fault` is why it is not to be parsed."""

    offset: int
    data: bytes
    fault: str | None = None


def read_lines(
    stream: Decoded,
    start: int,
    skip_first: bool,
    stop: int | None,
    max_bytes: int = ReadLimits.max_line_bytes,
) -> Iterator[Line]:
    """The lines whose first byte lies in [start, stop).

    `stream` stands at `start`, or one byte before it with `skip_first`: what is left of the line that holds
    that byte is then another split's. A final newline begins no line. A line above `max_bytes` is given as
    its first `max_bytes` with the fault `line_too_long`; one that a fault of the stream cuts, with
    `truncated_line`.
    """
    offset = start - 1 if skip_first else start
    parts: list[bytes] = []  # of the line that has begun
    held = 0  # bytes of it, also of those not kept
    mine = not skip_first

    def line(fault: str | None = None) -> Line:
        data = b"".join(parts)
        if held > max_bytes:
            return Line(offset, data[:max_bytes], "line_too_long")
        return Line(offset, data, fault)

    for piece in stream.pieces():
        begin = 0
        while (end := piece.find(b"\n", begin)) >= 0:
            if held <= max_bytes:
                parts.append(piece[begin:end])
            held += end - begin
            if mine:
                yield line()
            offset += held + 1
            parts, held, mine, begin = [], 0, True, end + 1
            if stop is not None and offset >= stop:
                return
        if mine and held <= max_bytes:
            parts.append(piece[begin:])
        held += len(piece) - begin
    if mine and held:
        yield line("truncated_line" if stream.fault else None)


class Parser(Protocol):
    """Turns the bytes of one JSON object into the arguments of `Rows.add`, without `source`."""

    def parse(self, data: bytes) -> dict[str, Any]:
        """Raises RecordError."""


def read_jsonl(
    lines: Iterator[Line], path: str, parser: Parser, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """A record of RAW_TEXT for each line, `source` being its byte offset (decoded, if the file is
    compressed).

    A line with an error has its own id if one can be read, else that of its raw bytes, so that it can be
    found again.
    """
    rows = Rows()
    for count, line in enumerate(lines):
        if limit is not None and count >= limit:
            break
        source = f"{path}:{line.offset}"
        try:
            if line.fault:
                raise RecordError(line.fault, f"{len(line.data)} bytes of the line were kept")
            rows.add(
                source=source, **parser.parse(line.data.removeprefix(_BOM) if not line.offset else line.data)
            )
        except RecordError as error:
            identity = error.record or content_id(None, line.data)
            rows.add(identity, source, error=error.reason, detail=error.detail)
        if rows.full:
            yield rows.take()
    if len(rows):
        yield rows.take()


class LineParser:
    """Turns one JSON object into the fields of a record.

    `columns` maps `text` (or `html`, a page still to be extracted), `id`, `url` and `date` to the input's
    fields; each is its own default. A field that is used leaves `meta`; one that has no usable value stays
    there.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._content = "html" if "html" in columns else "text"
        self._field = columns.get(self._content, self._content)
        self._id = columns.get("id", "id")
        self._url = columns.get("url", "url")
        self._date = columns.get("date", "date")

    @property
    def field(self) -> str:
        """The input's field of the text or page."""
        return self._field

    def parse(self, data: bytes) -> dict[str, Any]:
        """The arguments of `Rows.add`, without `source`. Raises RecordError."""
        if not data.strip():
            raise RecordError("empty_line")
        return self.record(parse_object(data))

    def record(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The same of an object that has been parsed. Raises RecordError."""
        content = fields.pop(self._field, None)
        identity = take_id(fields, self._id)
        if content is None:
            raise RecordError(f"missing_{self._content}", f"no field {self._field!r}", identity)
        if not isinstance(content, str):
            detail = f"{self._field!r} is {_JSON_NAMES[type(content)]}"
            raise RecordError(f"{self._content}_not_a_string", detail, identity)
        payload = encode(content, self._field)
        url = take_string(fields, self._url)
        record: dict[str, Any] = {
            "id": identity or content_id(url, payload),
            "url": url,
            "date": take_string(fields, self._date),
            "meta": dump(fields) if fields else None,
        }
        if self._content == "text":
            return record | {"text": payload}
        return record | {"payload": payload, "content_type": "text/html; charset=utf-8"}


def take_id(fields: dict[str, Any], name: str) -> str | None:
    """The field as an id, taken out of `fields`; None, and the field left, unless it is a string or an
    integer."""
    value = fields.get(name)
    if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
        encode(text := str(fields.pop(name)), name)
        return text
    return None


def take_string(fields: dict[str, Any], name: str) -> str | None:
    """The field, taken out of `fields`; None, and the field left, unless it is a string."""
    if isinstance(fields.get(name), str):
        encode(value := str(fields.pop(name)), name)
        return value
    return None


def encode(value: str, field: str) -> bytes:
    """UTF-8 bytes of a string. Raises RecordError("invalid_unicode") at a lone surrogate (`\\ud800`)."""
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        detail = f"{field!r}: lone surrogate at character {error.start}"
        raise RecordError("invalid_unicode", detail) from error


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; of a repeated key the last value counts.

    Raises RecordError: `invalid_utf8`, `invalid_json` (NaN and Infinity are not JSON; nesting deeper than the
    interpreter's stack is refused too) or `not_an_object`.
    """
    value = _parse_fast(data)
    if value is not None:
        return value
    try:
        value = json.loads(data.decode(), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise RecordError("invalid_utf8", f"{error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise RecordError("invalid_json", f"{error.msg} at column {error.pos + 1}") from error
    except RecursionError as error:
        raise RecordError("invalid_json", "nested too deeply") from error
    except ValueError as error:  # NaN, or an integer of more digits than Python reads
        raise RecordError("invalid_json", str(error)) from error
    if not isinstance(value, dict):
        raise RecordError("not_an_object", f"the line holds {_JSON_NAMES[type(value)]}")
    return value


def _parse_fast(data: bytes) -> dict[str, Any] | None:
    """The object, or None for whatever else `data` is: the standard library's parser says what."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


_JSON_NAMES: Final = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def dump(fields: Mapping[str, Any]) -> str:
    """Compact JSON in the input's order. Lone surrogates become U+FFFD, numbers beyond a double's range
    strings."""
    try:
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        try:
            text = json.dumps(_finite(fields), ensure_ascii=False, separators=(",", ":"))
        except RecursionError as error:
            raise RecordError("invalid_json", "nested too deeply") from error
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and value - value != 0.0 else value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
