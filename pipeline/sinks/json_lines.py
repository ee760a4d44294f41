"""JSON Lines shards."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from datetime import date, time, timedelta
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, Final

import numpy as np
import pyarrow as pa

from .shard_file import ShardFile
from .sink import Sink

_ROWS: Final = 1024  # rows that are encoded at a time
# Valid in JSON strings, but line ends for readers that split lines as Unicode does (Unicode 15, section 5.8).
_LINE_ENDS: Final = {"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class JsonLinesSink(Sink):
    """One JSON object a line, its fields in the order of the schema, null where a value is missing.

    Strings are UTF-8 as they are; `meta` stays a string that holds JSON, so that every line has the same
    types. float32 values have as many digits as it takes to tell them apart as float32; NaN and infinities,
    which JSON does not have, are null. Bytes are Base64, dates and times ISO 8601.
    """

    def __init__(self, schema: pa.Schema, file: ShardFile) -> None:
        super().__init__(schema, file)
        self._objects = JsonObjects(schema)

    def _write(self, batch: pa.RecordBatch) -> None:
        for start in range(0, len(batch), _ROWS):
            lines = "\n".join(self._objects.encode(batch.slice(start, _ROWS)))
            self._file.write(without_line_ends(lines).encode() + b"\n")

    def _finish(self) -> None:
        """JSON Lines has no end mark."""


class JsonObjects:
    """Encodes the columns of a schema as JSON objects."""

    def __init__(self, schema: pa.Schema) -> None:
        self._names = schema.names
        fields = (json.dumps(name, ensure_ascii=False).replace("%", "%%") for name in schema.names)
        self._template = "{" + ",".join(f"{field}:%s" for field in fields) + "}"

    def encode(self, batch: pa.RecordBatch) -> Iterable[str]:
        """One object for each row, without a newline at its end."""
        columns = [_values(batch.column(name)) for name in self._names]
        if not columns:
            return ["{}"] * len(batch)
        return [self._template % row for row in zip(*columns, strict=True)]


def without_line_ends(text: str) -> str:
    """JSON text with the characters escaped that some readers take for the end of a line."""
    for character, escape in _LINE_ENDS.items():
        if character in text:
            text = text.replace(character, escape)
    return text


def _values(column: pa.Array) -> list[str]:
    dtype = column.type
    if pa.types.is_string(dtype) or pa.types.is_large_string(dtype):
        return ["null" if value is None else encode_basestring(value) for value in column.to_pylist()]
    if pa.types.is_float32(dtype):
        numbers = column.to_numpy(zero_copy_only=False)
        finite = np.isfinite(numbers)
        return [text if kept else "null" for text, kept in zip(numbers.astype("U"), finite, strict=True)]
    if pa.types.is_integer(dtype):
        return ["null" if value is None else str(value) for value in column.to_pylist()]
    return [_encode(value) for value in column.to_pylist()]


def _encode(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta | Decimal):
        return str(value)
    return value
