"""CSV and TSV: each row is a record, also the one that cannot be read.

Python's `csv` in its strict mode decides what a row is. Arrow's reader is 15 % faster on long texts, but
takes an unclosed quote for a text that goes on to the end of the file, and leaves blank lines out.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from .jsonl import Line, RecordError, dump, encode
from .limits import ReadLimits
from .pairs import CAPTIONS, pair_id
from .parquet import ColumnError
from .rows import Rows, content_id

DELIMITERS: Final = {"csv": ",", "tsv": "\t"}

_BOM: Final = b"\xef\xbb\xbf"


@dataclass
class Row:
    """The fields of one row, which may span lines; `error` and `detail` say why it has none."""

    number: int  # of its first line, from 1
    offset: int = 0  # of that line, in decoded bytes
    fields: list[str] = field(default_factory=list)
    raw: bytes = b""  # kept where there is an error
    error: str | None = None
    detail: str | None = None


def read_delimited(
    lines: Iterator[Line],
    path: str,
    format: str,
    columns: Mapping[str, str],
    limit: int | None,
    limits: ReadLimits,
    *,
    urls: bool = False,
    names: Row | None = None,
    first_line: int = 1,
) -> Iterator[pa.RecordBatch]:
    """A record of RAW_TEXT for each row, `source` being the number of its first line.

    The first row names the columns, unless every column of `columns` is given by its number, from 1: then
    every row is a record, and `meta` calls the others `column_3`. With `urls` a row is the address of an
    image, which it must have, and a caption. Where `lines` begin within the file, at line `first_line`,
    `names` is its first row. Raises ColumnError where the text's (or address's) column is missing, or a name
    stands twice.
    """
    rows = Rows()
    found = read_rows(lines, DELIMITERS[format], limits.max_row_bytes, first_line)
    mapping = _AddressMapping(columns) if urls else _Mapping(columns)
    if not mapping.numbered:
        header = next(found, None) if names is None else names
        if header is None:
            return
        mapping.take_header(header)
    for count, row in enumerate(found):
        if limit is not None and count >= limit:
            break
        source = f"{path}:{row.number}"
        try:
            if row.error:
                raise RecordError(row.error, row.detail)
            rows.add(source=source, **mapping.record(row))
        except RecordError as error:
            detail = f"line {row.number}: {error.detail}" if error.detail else f"line {row.number}"
            raw = row.raw or "\x1f".join(row.fields).encode("utf-8", "surrogateescape")
            rows.add(error.record or content_id(None, raw), source, error=error.reason, detail=detail)
        if rows.full:
            yield rows.take()
    if len(rows):
        yield rows.take()


def has_names(columns: Mapping[str, str]) -> bool:
    """Whether the first row of a file with these columns names them."""
    return not (bool(columns) and all(value.isdigit() for value in columns.values()))


def read_rows(lines: Iterator[Line], delimiter: str, max_bytes: int, first_line: int = 1) -> Iterator[Row]:
    """The rows, readable or not, the first of which begins in line `first_line`.

    A quote that is never closed, or not within `max_bytes`, costs its own line: reading goes on with the next
    one. A line that is not UTF-8 has its other bytes as surrogates (`surrogateescape`).
    """
    csv.field_size_limit(max(csv.field_size_limit(), 2 * max_bytes))
    feed = _Feed(lines, max_bytes, first_line)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, RecordError) as error:
            if not feed.taken:
                return
            yield _unreadable(feed, error)
            continue
        if fields:
            yield Row(feed.number, feed.offset, fields)
        else:
            yield Row(feed.number, feed.offset, raw=feed.raw(), error="empty_line")


def _unreadable(feed: _Feed, error: csv.Error | RecordError) -> Row:
    if isinstance(error, RecordError) and error.reason != "unclosed_quote":
        return Row(feed.number, feed.offset, raw=feed.raw(), error=error.reason, detail=error.detail)
    if isinstance(error, RecordError) or feed.ended:
        feed.give_back()
        detail = "the quote that opens in this line is not closed"
        return Row(feed.number, feed.offset, raw=feed.raw(), error="unclosed_quote", detail=detail)
    return Row(feed.number, feed.offset, raw=feed.raw(), error="invalid_quoting", detail=str(error))


class _Feed:
    """Gives the csv reader its lines, and remembers those of the row at hand."""

    def __init__(self, lines: Iterator[Line], max_bytes: int, first_line: int) -> None:
        self.taken: list[Line] = []
        self.number = first_line
        self.ended = False  # the reader asked for a line where there was none
        self._next_number = first_line
        self._lines = lines
        self._again: deque[Line] = deque()
        self._bytes = 0
        self._max_bytes = max_bytes

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines, None)
        if line is None:
            self.ended = True
            raise StopIteration
        self.taken.append(line)
        self._next_number += 1
        self._bytes += len(line.data) + 1
        if line.fault:
            raise RecordError(line.fault, f"{len(line.data)} bytes of the line were kept")
        if self._bytes > self._max_bytes:
            reason = "unclosed_quote" if len(self.taken) > 1 else "record_too_long"
            raise RecordError(reason, f"more than {self._max_bytes} bytes")
        data = line.data.removeprefix(_BOM) if not line.offset else line.data
        return data.decode("utf-8", "surrogateescape") + "\n"

    def begin(self) -> None:
        """A new row begins."""
        self.taken, self._bytes, self.number = [], 0, self._next_number

    @property
    def offset(self) -> int:
        """Of the row, in decoded bytes."""
        return self.taken[0].offset if self.taken else 0

    def raw(self) -> bytes:
        """The lines of the row."""
        return b"\n".join(line.data for line in self.taken)

    def give_back(self) -> None:
        """All lines of the row but its first are read again."""
        self._again.extendleft(reversed(self.taken[1:]))
        self._next_number -= len(self.taken) - 1
        self.taken, self.ended = self.taken[:1], False


class _Mapping:
    """Which field is which column of a record."""

    _others: tuple[str, ...] = ("id", "url", "date")

    def __init__(self, columns: Mapping[str, str]) -> None:
        self.numbered = not has_names(columns)
        self._content = self._content_of(columns)
        self._wanted = {
            name: columns.get(name, "" if self.numbered else name)
            for name in dict.fromkeys((self._content, *self._others))
        }
        self._names: list[str] = []
        self._places: dict[str, int] = {}
        if self.numbered:
            self._places = {name: int(value) - 1 for name, value in self._wanted.items() if value}
            if self._content not in self._places or min(self._places.values()) < 0:
                raise ColumnError(f"columns are numbered from 1, and {self._content} needs one")

    @staticmethod
    def _content_of(columns: Mapping[str, str]) -> str:
        """The column without which there is no record."""
        return "html" if "html" in columns else "text"

    def take_header(self, row: Row) -> None:
        """Finds the columns by name."""
        if row.error:
            raise ColumnError(f"line {row.number}: the row of names cannot be read: {row.error}")
        self._names = [
            name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in row.fields
        ]
        twice = sorted({name for name in self._names if self._names.count(name) > 1})
        if twice:
            raise ColumnError(f"the name {twice[0]!r} stands twice in the first row")
        self._places = {
            name: self._names.index(value) for name, value in self._wanted.items() if value in self._names
        }
        if self._content not in self._places:
            told = ", ".join(map(repr, self._names[:30]))
            raise ColumnError(f"no column {self._wanted[self._content]!r}; the first row has {told}")

    def record(self, row: Row) -> dict[str, Any]:
        """The arguments of `Rows.add`, without `source`. Raises RecordError."""
        if self.numbered and not self._names:
            self._names = [f"column_{number}" for number in range(1, len(row.fields) + 1)]
        if len(row.fields) != len(self._names):
            told = "the first row" if self.numbered else "the row of names"
            raise RecordError("wrong_field_count", f"{len(row.fields)} fields; {told} has {len(self._names)}")
        if self._places[self._content] >= len(row.fields):
            detail = f"no column {self._places[self._content] + 1} in {len(row.fields)}"
            raise RecordError(f"missing_{self._content}", detail)
        return self._record(row)

    def _record(self, row: Row) -> dict[str, Any]:
        content = encode_field(row.fields[self._places[self._content]], self._wanted[self._content])
        given = {name: self._value(row, name) for name in ("id", "url", "date")}
        record: dict[str, Any] = {
            "id": given["id"] or content_id(given["url"], content),
            "url": given["url"],
            "date": given["date"],
            "meta": self._rest(row),
        }
        if self._content == "text":
            return record | {"text": content}
        return record | {"payload": content, "content_type": "text/html; charset=utf-8"}

    def _rest(self, row: Row) -> str | None:
        """The fields that are no columns of a record, as JSON."""
        used = set(self._places.values())
        rest = {
            name: encode_field(value, name).decode()
            for place, (name, value) in enumerate(zip(self._names, row.fields, strict=True))
            if place not in used and value
        }
        return dump(rest) if rest else None

    def _value(self, row: Row, name: str) -> str | None:
        place = self._places.get(name)
        if place is None or place >= len(row.fields) or not row.fields[place]:
            return None
        return encode_field(row.fields[place], name).decode()


class _AddressMapping(_Mapping):
    """The same for rows of an image's address and its caption, which may be missing."""

    _others = ("id", "date", "text")

    def __init__(self, columns: Mapping[str, str]) -> None:
        super().__init__(columns)
        self._names_caption = "text" in columns

    @staticmethod
    def _content_of(columns: Mapping[str, str]) -> str:
        return "url"

    def take_header(self, row: Row) -> None:
        super().take_header(row)
        if "text" not in self._places:
            if self._names_caption:
                raise ColumnError(f"no column {self._wanted['text']!r}")
            found = next((name for name in CAPTIONS if name in self._names), None)
            if found is not None:
                self._places["text"] = self._names.index(found)

    def _record(self, row: Row) -> dict[str, Any]:
        given = {name: self._value(row, name) for name in ("url", *self._others)}
        if not (given["url"] or "").strip():
            raise RecordError("missing_url", f"no address in {self._wanted['url']!r}", given["id"])
        return {
            "id": given["id"] or pair_id(given["url"], None, given["text"]),
            "url": given["url"],
            "date": given["date"],
            "meta": self._rest(row),
            "text": given["text"],
        }


def encode_field(value: str, name: str) -> bytes:
    """The bytes of a field. Raises RecordError("invalid_utf8") where the file's were not UTF-8."""
    try:
        return encode(value, name)
    except RecordError as error:
        raise RecordError("invalid_utf8", f"{name!r}") from error
