"""Evaluation sets: which files they are, what they are called, and the texts of their items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pyarrow as pa

from ..scorers.assets import checksum
from .sources.compression import Decoded, compression_of
from .sources.delimited import DELIMITERS, read_rows
from .sources.files import COMPRESSED_SUFFIXES, SourceError, SourceFile, expand, guess_format, is_remote
from .sources.files import open_file as open_source
from .sources.jsonl import RecordError, parse_object, read_lines
from .sources.limits import ReadLimits

FORMATS: Final = ("jsonl", "parquet", "csv", "tsv", "text")
CHECKED: Final = 1000  # items of a file that are read before a job starts

_BOM: Final = b"\xef\xbb\xbf"


class EvaluationError(Exception):
    """An evaluation set is missing, empty or cannot be read, or has none of the fields; the message says."""


def evaluation_files(against: Sequence[str]) -> list[SourceFile]:
    """The files that paths and globs name, each once. Raises EvaluationError."""
    try:
        files = {file.path: file for path in against for file in expand(path)}
        for path in files:
            if (found := guess_format(path)) not in FORMATS:
                raise EvaluationError(f"{path}: {found} holds no evaluation set; use {', '.join(FORMATS)}")
    except (SourceError, OSError) as error:
        raise EvaluationError(str(error)) from error
    return list(files.values())


def set_names(files: Sequence[SourceFile]) -> list[str]:
    """What each file is called: its name without suffixes, with so many of its folders as tell it apart."""
    parts = [PurePosixPath(file.path).with_name(_stem(file.path)).parts for file in files]
    names = [path[-1] for path in parts]
    depth = 1
    while len(set(names)) < len(names) and depth < max(map(len, parts)):
        depth += 1
        shared = Counter(names)
        names = [
            "/".join(path[-depth:]) if shared[name] > 1 else name
            for name, path in zip(names, parts, strict=True)
        ]
    repeated = Counter(names)
    return [
        PurePosixPath(file.path).name if repeated[name] > 1 else name
        for name, file in zip(names, files, strict=True)
    ]


def _stem(path: str) -> str:
    name = PurePosixPath(path).name
    for suffix in COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    return name.rpartition(".")[0] or name


def content_of(file: SourceFile) -> str:
    """What changes when the content of a file does."""
    return file.etag if is_remote(file.path) else checksum(Path(file.path))


def read_items(path: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The items of a file, each with its number from 1: a line, a row, or a whole text as the field `text`.

    Blank lines are counted and left out. Raises EvaluationError at the first that cannot be read.
    """
    format_ = guess_format(path)
    try:
        if format_ == "parquet":
            yield from enumerate(_parquet_items(path), 1)
        else:
            yield from _stream_items(path, format_)
    except (OSError, pa.ArrowException) as error:
        raise EvaluationError(f"{path}: cannot be read: {error}") from error


def _parquet_items(path: str) -> Iterator[Mapping[str, Any]]:
    import pyarrow.parquet as pq

    with open_source(path, ahead=False) as file, pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(use_threads=False):
            yield from batch.to_pylist()


def _stream_items(path: str, format_: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    limits = ReadLimits()
    with open_source(path) as file:
        compression = compression_of(file.read(4))
        file.seek(0)
        stream = Decoded(file, compression, 0, limits)
        if format_ == "text":
            content = stream.read()
            yield 1, {"text": _decoded(content, f"{path}")}
        elif format_ == "jsonl":
            yield from _json_items(stream, path, limits.max_line_bytes)
        else:
            yield from _delimited_items(stream, path, DELIMITERS[format_], limits.max_row_bytes)
        if stream.fault is not None:
            raise EvaluationError(f"{path}: {stream.fault.reason}: {stream.fault.detail}")


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{where}: invalid_utf8: {error.reason} at byte {error.start}") from error


def _json_items(stream: Decoded, path: str, most: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(read_lines(stream, 0, False, None, most), 1):
        data = line.data if line.offset else line.data.removeprefix(_BOM)
        if line.fault:
            raise EvaluationError(f"{path}:{number}: {line.fault}")
        if not data.strip():
            continue
        try:
            yield number, parse_object(data)
        except RecordError as error:
            raise EvaluationError(f"{path}:{number}: {error.reason}: {error.detail}") from error


def _delimited_items(
    stream: Decoded, path: str, delimiter: str, most: int
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    names: list[str] | None = None
    for number, row in enumerate(read_rows(read_lines(stream, 0, False, None, most), delimiter, most)):
        if row.error == "empty_line" and names is not None:
            continue
        if row.error:
            raise EvaluationError(f"{path}: line {row.number}: {row.error}")
        try:
            cells = [cell.encode("utf-8", "surrogateescape").decode() for cell in row.fields]
        except UnicodeDecodeError as error:
            raise EvaluationError(f"{path}: line {row.number}: invalid_utf8: {error.reason}") from error
        if names is None:
            names = cells
        elif len(cells) != len(names):
            raise EvaluationError(
                f"{path}: line {row.number}: {len(cells)} fields; the first row names {len(names)}"
            )
        else:
            yield number, dict(zip(names, cells, strict=True))


def text_of(item: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The strings of fields, a line each; None where there is none."""
    found = [text for name in names for text in _strings(_field(item, name))]
    return "\n".join(found) if found else None


def _field(item: Any, name: str) -> Any:
    if isinstance(item, Mapping) and name in item:
        return item[name]
    first, dot, rest = name.partition(".")
    if dot and isinstance(item, Mapping):
        return _field(item.get(first), rest)
    return [_field(inner, name) for inner in item] if isinstance(item, list) else None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        # A lone surrogate, which JSON can write and UTF-8 cannot, is in no text that could be found.
        yield value.encode("utf-8", "replace").decode()
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def check_evaluation_sets(against: Sequence[str], fields: Sequence[str], query: Sequence[str]) -> None:
    """Reads the beginning of each file.

    Raises EvaluationError where one is missing, unreadable, or gives no text of `fields`, and where a name of
    `fields` or `query` is in no file.
    """
    absent = dict.fromkeys([*fields, *query])
    for file in evaluation_files(against):
        first: Mapping[str, Any] | None = None
        has_text = False
        for _, item in islice(read_items(file.path), CHECKED):
            first = item if first is None else first
            here = [name for name in (*fields, *query) if text_of(item, [name])]
            has_text |= any(name in fields for name in here)
            for name in here:
                absent.pop(name, None)
        if first is None:
            raise EvaluationError(f"{file.path}: has no items")
        if not has_text:
            raise EvaluationError(
                f"{file.path}: no text in {', '.join(fields)}; the first item has {', '.join(first)}"
            )
    if absent:
        raise EvaluationError(f"no item has a text in {', '.join(absent)}")
