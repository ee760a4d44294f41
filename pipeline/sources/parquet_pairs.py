"""Parquet of image-text pairs: a row is an image's bytes, or its address, with a caption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.records import RAW_TEXT
from .pairs import CAPTIONS, pair_id
from .parquet import (
    ColumnError,
    batches,
    decoded,
    is_bytes,
    is_stringlike,
    opened,
    pieces,
    rest,
    take_ids,
    take_strings,
)
from .rows import MAX_BYTES, MAX_ROWS
from .split import Split

Content = Literal["image", "url"]

_BYTES: Final = "bytes"  # Hugging Face's Image feature is a struct of bytes and path


def read_pairs(file: BinaryIO, split: Split) -> Iterator[pa.RecordBatch]:
    """The rows of a split as RAW_TEXT, `source` counting from the file's first row.

    Raises as `read_parquet` does.
    """
    content: Content = "url" if split.urls else "image"
    with opened(file, split.path) as parquet:
        columns = PairColumns(
            split.columns, parquet.schema_arrow.names, content, split.limits.max_payload_bytes
        )
        row = split.skip + sum(parquet.metadata.row_group(index).num_rows for index in range(split.start))
        for batch in _batches(parquet, split, None if content == "url" else columns.content):
            yield from pieces(columns.records(batch, split.path, row))
            row += batch.num_rows


def read_pair_images(file: BinaryIO, split: Split) -> Iterator[pa.Array]:
    """The images alone of the rows that `read_pairs` gives, in its order; null where a row has an error."""
    with opened(file, split.path) as parquet:
        columns = PairColumns(
            split.columns, parquet.schema_arrow.names, "image", split.limits.max_payload_bytes
        )
        for batch in _batches(parquet, split, columns.content, [columns.content]):
            yield columns.images(batch.column(0))[0]


def _columns(parquet: Any, split: Split, content: Content) -> PairColumns:
    names = parquet.schema_arrow.names
    return PairColumns(split.columns, names, content, split.limits.max_payload_bytes)


def _batches(
    parquet: Any, split: Split, heavy: str | None, names: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    metadata = parquet.metadata
    last = metadata.num_row_groups if split.stop is None else min(split.stop, metadata.num_row_groups)
    most = min((most for most in (split.rows, split.limit) if most is not None), default=None)
    if most == 0:
        return
    most_rows = MAX_ROWS
    if heavy is not None:
        most_rows = min(
            (_rows_at_once(metadata.row_group(group), heavy) for group in range(split.start, last)),
            default=MAX_ROWS,
        )
    yield from batches(parquet, range(split.start, last), names, most, split.skip, most_rows)


def _rows_at_once(group: Any, heavy: str) -> int:
    """How many rows of a row group have about as many bytes as a batch may."""
    size: int = sum(
        group.column(index).total_uncompressed_size
        for index in range(group.num_columns)
        if group.column(index).path_in_schema.split(".")[0] == heavy
    )
    rows: int = group.num_rows * MAX_BYTES // max(1, size)
    return max(1, min(MAX_ROWS, rows))


class PairColumns:
    """Which columns become a record's own, and which go to `meta`.

    `columns` maps `image` or `url`, whichever a row must have, and `id`, `url`, `date` and `text` (the
    caption) to the input's columns; each is its own default, and `caption` another of the caption. Raises
    ColumnError where the column of the image or address, or that named for the caption, is missing.
    """

    def __init__(
        self, columns: Mapping[str, str], names: list[str], content: Content, max_payload_bytes: int
    ) -> None:
        self.content = columns.get(content, content)
        for wanted in (self.content, columns.get("text", self.content)):
            if wanted not in names:
                told = ", ".join(map(repr, names[:30]))
                raise ColumnError(f"no column {wanted!r}; the file has {told}")
        self._kind = content
        self._most_bytes = max_payload_bytes
        self._caption = columns.get("text") or next((name for name in CAPTIONS if name in names), "text")
        self._id = columns.get("id", "id")
        self._url = columns.get("url", "url")
        self._date = columns.get("date", "date")

    def records(self, batch: pa.RecordBatch, path: str, first_row: int) -> pa.RecordBatch:
        """A batch of the file as RAW_TEXT, one record per row."""
        rows = batch.num_rows
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        image = pa.nulls(rows, pa.binary())
        error: list[str | None] = [None] * rows
        detail: list[str | None] = [None] * rows
        if self._kind == "image":
            image, error, detail = self.images(columns.pop(self.content))
        url = take_strings(columns, self._url, rows)
        if self._kind == "url":
            for row, value in enumerate(url.to_pylist()):
                if not (value or "").strip():
                    error[row], detail[row] = "missing_url", f"no address in {self.content!r}"
        caption = self._take_caption(columns, rows, error, detail)
        date = take_strings(columns, self._date, rows)
        given = take_ids(columns, self._id, rows)
        record = {
            "id": _ids(given, url, image if self._kind == "image" else None, caption),
            "url": url,
            "source": pa.array([f"{path}:{first_row + row}" for row in range(rows)], pa.string()),
            "date": date,
            "meta": pa.array(rest(columns, rows), pa.string()),
            "text": caption,
            "payload": image,
            "content_type": pa.nulls(rows, pa.string()),
            "error": pa.array(error, pa.string()),
            "detail": pa.array(detail, pa.string()),
        }
        return pa.RecordBatch.from_arrays([record[name] for name in RAW_TEXT.names], schema=RAW_TEXT)

    def images(self, column: pa.Array) -> tuple[pa.Array, list[str | None], list[str | None]]:
        """The encoded images of a batch, null where there is an error; errors and their details by row."""
        rows = len(column)
        column = decoded(column)
        if pa.types.is_struct(column.type) and column.type.get_field_index(_BYTES) >= 0:
            column = pc.struct_field(column, _BYTES)
        if not is_bytes(column.type):
            told = f"{self.content!r} is {column.type}"
            reasons: list[str | None] = [
                "image_not_bytes" if valid else "missing_image" for valid in column.is_valid().to_pylist()
            ]
            return pa.nulls(rows, pa.binary()), reasons, [told] * rows
        image = column.cast(pa.binary())
        sizes = pc.binary_length(image)
        error: list[str | None] = [None] * rows
        detail: list[str | None] = [None] * rows
        refused = pc.fill_null(pc.or_(pc.equal(sizes, 0), pc.greater(sizes, self._most_bytes)), True)
        if pc.any(refused).as_py():
            for row, size in enumerate(sizes.to_pylist()):
                if not size:
                    told = "is null" if size is None else "holds no bytes"
                    error[row], detail[row] = "missing_image", f"{self.content!r} {told}"
                elif size > self._most_bytes:
                    error[row], detail[row] = "payload_too_large", f"{size} bytes"
            image = pc.if_else(refused, pa.scalar(None, pa.binary()), image)
        return image, error, detail

    def _take_caption(
        self, columns: dict[str, pa.Array], rows: int, error: list[str | None], detail: list[str | None]
    ) -> pa.Array:
        """The captions, taken out of `columns`; nulls, and the column left, if it holds no texts."""
        column = decoded(columns[self._caption]) if self._caption in columns else None
        if column is None or not is_stringlike(column.type):
            return pa.nulls(rows, pa.string())
        del columns[self._caption]
        try:
            text = column.cast(pa.string())
            text.validate(full=True)
            return text
        except pa.ArrowInvalid:
            texts: list[str | None] = []
            for row, value in enumerate(column.cast(pa.binary()).to_pylist()):
                try:
                    texts.append(None if value is None else value.decode())
                except UnicodeDecodeError as problem:
                    texts.append(None)
                    if error[row] is None:
                        error[row] = "invalid_utf8"
                        detail[row] = f"{self._caption!r}: {problem.reason} at byte {problem.start}"
            return pa.array(texts, pa.string())


def _ids(given: pa.Array, url: pa.Array, image: pa.Array | None, caption: pa.Array) -> pa.Array:
    """The given ids; where there is none or an empty one, `pair_id`."""
    ids = given.to_pylist()
    if all(ids):
        return given
    urls, captions = url.to_pylist(), caption.to_pylist()
    for row, value in enumerate(ids):
        if not value:
            held = None if image is None else image[row].as_py() or b""
            ids[row] = pair_id(urls[row], held, captions[row])
    return pa.array(ids, pa.string())
