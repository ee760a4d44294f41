"""Parquet: each row is a record; the row groups are what a file can be cut at."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.records import RAW_TEXT
from .files import is_remote, open_file
from .jsonl import dump
from .patience import ReadError
from .rows import MAX_BYTES, MAX_ROWS, content_id


class ColumnError(Exception):
    """The file has no column for the text."""


def row_group_rows(path: str) -> list[int]:
    """Rows of each row group; [0] if there is none or no footer."""
    return [metadata.num_rows for metadata in _row_groups(path)] or [0]


def row_group_sizes(path: str) -> list[int]:
    """Bytes of each row group, uncompressed, as the footer gives them; [0] if there is none or no footer."""
    return [metadata.total_byte_size for metadata in _row_groups(path)] or [0]


def _row_groups(path: str) -> list[Any]:
    import pyarrow.parquet as pq

    try:
        with open_file(path, ahead=False) as file, pq.ParquetFile(file) as parquet:
            metadata = parquet.metadata
            return [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    except ReadError:
        raise
    except (pa.ArrowException, OSError):
        return []


def read_parquet(
    file: BinaryIO, path: str, start: int, stop: int | None, columns: Mapping[str, str], limit: int | None
) -> Iterator[pa.RecordBatch]:
    """The rows of the row groups [start, stop) as RAW_TEXT, `source` counting from the file's first row.

    Raises ColumnError if the text's column is missing, and pyarrow's exceptions or OSError where the file is
    broken, after the batches that could be read.
    """
    with opened(file, path) as parquet:
        mapping = ColumnMapping(columns, parquet.schema_arrow.names)
        metadata = parquet.metadata
        groups = range(start, metadata.num_row_groups if stop is None else min(stop, metadata.num_row_groups))
        row = sum(metadata.row_group(index).num_rows for index in range(start))
        for batch in batches(parquet, groups, None, limit):
            yield from pieces(mapping.records(batch, path, row))
            row += batch.num_rows


def read_parquet_texts(
    file: BinaryIO, path: str, start: int, stop: int | None, columns: Mapping[str, str], limit: int | None
) -> Iterator[pa.Array]:
    """The texts alone of the rows that `read_parquet` gives, in its order."""
    with opened(file, path) as parquet:
        mapping = ColumnMapping(columns, parquet.schema_arrow.names)
        last = parquet.metadata.num_row_groups if stop is None else min(stop, parquet.metadata.num_row_groups)
        for batch in batches(parquet, range(start, last), [mapping.content], limit):
            yield mapping.texts(batch.column(0))


def opened(file: BinaryIO, path: str) -> Any:
    """The file, as pyarrow reads it."""
    import pyarrow.parquet as pq

    # Columns that lie side by side are then one range of a remote file, not one request each.
    return pq.ParquetFile(file, pre_buffer=True) if is_remote(path) else pq.ParquetFile(path)


def batches(
    parquet: Any,
    groups: range,
    columns: list[str] | None,
    limit: int | None,
    skip: int = 0,
    most_rows: int = MAX_ROWS,
) -> Iterator[pa.RecordBatch]:
    """The rows of row groups behind the first `skip`, at most `limit`, one group at a time: a damaged one
    spoils no other."""
    left = limit
    for group in groups:
        for batch in parquet.iter_batches(most_rows, row_groups=[group], columns=columns, use_threads=False):
            if skip:
                skipped = min(skip, batch.num_rows)
                skip -= skipped
                batch = batch.slice(skipped)
                if not batch.num_rows:
                    continue
            if left is not None:
                batch = batch.slice(0, left)
                left -= batch.num_rows
            yield batch
            if left == 0:
                return


class ColumnMapping:
    """Which input columns become a record's own, and which go to `meta`.

    `columns` maps `text` (or `html`, a page still to be extracted), `id`, `url`, `date` and `content_type` to
    the input's columns; each is its own default. Raises ColumnError if the text's column is not among
    `names`.
    """

    def __init__(self, columns: Mapping[str, str], names: list[str]) -> None:
        self._content = "html" if "html" in columns else "text"
        self._field = columns.get(self._content, self._content)
        if self._field not in names:
            raise ColumnError(f"no column {self._field!r}; the file has {', '.join(map(repr, names[:30]))}")
        self._id = columns.get("id", "id")
        self._url = columns.get("url", "url")
        self._date = columns.get("date", "date")
        self._content_type = columns.get("content_type", "content_type")

    @property
    def content(self) -> str:
        """The input's column of the text or page."""
        return self._field

    def texts(self, column: pa.Array) -> pa.Array:
        """A batch of that column as strings; null where a row has an error."""
        return self._contents(column, {})[0]

    def records(self, batch: pa.RecordBatch, path: str, first_row: int) -> pa.RecordBatch:
        """A batch of the file as RAW_TEXT, one record per row."""
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        content, declared, error, detail = self._contents(columns.pop(self._field), columns)
        url = take_strings(columns, self._url, batch.num_rows)
        date = take_strings(columns, self._date, batch.num_rows)
        given = take_ids(columns, self._id, batch.num_rows)
        meta = rest(columns, batch.num_rows)
        record = {
            "id": _ids(given, url, content, meta),
            "url": url,
            "source": pa.array([f"{path}:{first_row + row}" for row in range(batch.num_rows)], pa.string()),
            "date": date,
            "meta": pa.array(meta, pa.string()),
            "text": content if self._content == "text" else pa.nulls(batch.num_rows, pa.string()),
            "payload": content if self._content == "html" else pa.nulls(batch.num_rows, pa.binary()),
            "content_type": declared,
            "error": pa.array(error, pa.string()),
            "detail": pa.array(detail, pa.string()),
        }
        return pa.RecordBatch.from_arrays([record[name] for name in RAW_TEXT.names], schema=RAW_TEXT)

    def _contents(
        self, column: pa.Array, columns: dict[str, pa.Array]
    ) -> tuple[pa.Array, pa.Array, list[str | None], list[str | None]]:
        """Text or payload, the payload's content type, errors and their details, row by row."""
        rows = len(column)
        column = decoded(column)
        nothing = pa.nulls(rows, pa.string())
        if not is_stringlike(column.type):
            reasons: list[str | None] = [
                f"{self._content}_not_a_string" if v else f"missing_{self._content}"
                for v in column.is_valid()
            ]
            content = pa.nulls(rows, pa.string() if self._content == "text" else pa.binary())
            return content, nothing, reasons, [f"{self._field!r} is {column.type}"] * rows
        error: list[str | None] = [None] * rows
        detail: list[str | None] = [None] * rows
        if column.null_count:
            for row, valid in enumerate(column.is_valid().to_pylist()):
                if not valid:
                    error[row], detail[row] = f"missing_{self._content}", f"{self._field!r} is null"
        if self._content == "html":
            charset = "" if is_bytes(column.type) else "; charset=utf-8"
            declared = take_strings(columns, self._content_type, rows)
            return column.cast(pa.binary()), declared.fill_null(f"text/html{charset}"), error, detail
        try:
            text = column.cast(pa.string())
            text.validate(full=True)
        except pa.ArrowInvalid:
            text = self._valid_rows(column.cast(pa.binary()), error, detail)
        return text, nothing, error, detail

    def _valid_rows(self, column: pa.Array, error: list[str | None], detail: list[str | None]) -> pa.Array:
        texts: list[str | None] = []
        for row, value in enumerate(column.to_pylist()):
            try:
                texts.append(None if value is None else value.decode())
            except UnicodeDecodeError as problem:
                texts.append(None)
                error[row], detail[row] = "invalid_utf8", f"{problem.reason} at byte {problem.start}"
        return pa.array(texts, pa.string())


def pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch, halved until a piece has at most MAX_BYTES or one row."""
    if batch.num_rows <= 1 or batch.get_total_buffer_size() <= MAX_BYTES or batch.nbytes <= MAX_BYTES:
        if batch.num_rows:
            yield batch
        return
    half = batch.num_rows // 2
    yield from pieces(batch.slice(0, half))
    yield from pieces(batch.slice(half))


def decoded(column: pa.Array) -> pa.Array:
    """The plain values of an extension or dictionary array."""
    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a column's values are bytes."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or kind == pa.binary_view()
    )


def is_stringlike(kind: pa.DataType) -> bool:
    """Whether a column's values are texts or bytes."""
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()
    return bool(text or is_bytes(kind))


def take_strings(columns: dict[str, pa.Array], name: str, rows: int) -> pa.Array:
    """The column as strings, taken out of `columns`; nulls, and the column left, if it holds no text or
    time."""
    column = decoded(columns[name]) if name in columns else None
    if column is None or not (is_stringlike(column.type) or pa.types.is_temporal(column.type)):
        return pa.nulls(rows, pa.string())
    del columns[name]
    is_timestamp = pa.types.is_timestamp(column.type)
    try:
        text = column.cast(pa.string())
        text.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([_text(_value(scalar)) for scalar in column], pa.string())
    # Arrow writes "2024-01-02 03:04:05"; ISO 8601 puts a T between date and time.
    return pc.replace_substring(text, " ", "T", max_replacements=1) if is_timestamp else text


def _text(value: Any) -> str | None:
    plain = _json(value)
    return plain if plain is None or isinstance(plain, str) else str(plain)


def take_ids(columns: dict[str, pa.Array], name: str, rows: int) -> pa.Array:
    """The same for a column of ids, which may be integers."""
    column = columns.get(name)
    if column is not None and pa.types.is_integer(column.type):
        return columns.pop(name).cast(pa.string())
    return take_strings(columns, name, rows)


def _ids(given: pa.Array, url: pa.Array, content: pa.Array, meta: list[str | None]) -> pa.Array:
    """The given ids; where there is none or an empty one, `content_id` of URL and content (meta without
    one)."""
    ids = given.to_pylist()
    missing = [row for row, value in enumerate(ids) if not value]
    if not missing:
        return given
    contents = content.cast(pa.binary())
    for row in missing:
        payload = contents[row].as_py()
        ids[row] = content_id(url[row].as_py(), (meta[row] or "").encode() if payload is None else payload)
    return pa.array(ids, pa.string())


def rest(columns: dict[str, pa.Array], rows: int) -> list[str | None]:
    """The columns as JSON objects, row by row, without what is null."""
    if not columns:
        return [None] * rows
    values = [json_values(column) for column in columns.values()]
    return [
        dump({name: value for name, value in zip(columns, row, strict=True) if value is not None})
        for row in zip(*values, strict=True)
    ]


def json_values(column: pa.Array) -> list[Any]:
    """Values that JSON can say: times as ISO 8601, decimals as strings, bytes as UTF-8 or else base64."""
    kind = column.type
    try:
        values = column.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError, LookupError, pa.ArrowException):
        values = [_value(scalar) for scalar in column]
    simple = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return values if simple or pa.types.is_string(kind) else [_json(value) for value in values]


def _value(scalar: pa.Scalar) -> Any:
    """One value of a column that holds some that Python cannot: text that is not UTF-8, years beyond 9999."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        raw = scalar.as_buffer() if hasattr(scalar, "as_buffer") else b"?"
        return bytes(raw).decode("utf-8", "replace")
    except (ValueError, OverflowError, LookupError, pa.ArrowException):  # LookupError: an unknown time zone
        if not pa.types.is_temporal(scalar.type):
            return None
        width = pa.int32() if scalar.type.bit_width == 32 else pa.int64()
        return pa.array([scalar], scalar.type).view(width)[0].as_py()


def _json(value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return base64.b64encode(value).decode()
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
        case dict():
            return {str(_json(key)): _json(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_json(inner) for inner in value]
        case _:
            return str(value)
