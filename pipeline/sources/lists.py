"""Lists of images: where a file of addresses, or of file names, can be cut so that no part has too many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

from .compression import Decoded, compression_of
from .delimited import DELIMITERS, Row, has_names, read_rows
from .files import SourceFile, open_file
from .jsonl import read_lines
from .limits import ReadLimits
from .parquet import row_group_rows
from .split import Split

_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Cut:
    """Rows that follow one another: `skip` and `rows` count within [start, stop), `line` is the number of
    the line at `start`."""

    start: int
    stop: int | None
    rows: int
    skip: int = 0
    counted: bool = False  # whether the rows do not fill [start, stop)
    line: int = 1


def plan_list(
    file: SourceFile,
    format: str,
    columns: Mapping[str, str],
    target_bytes: int,
    most_rows: int,
    limits: ReadLimits,
    urls: bool,
) -> list[Split]:
    """Cuts a list into splits of at most `most_rows` rows, whose sizes are such that a part of
    `target_bytes` holds about that many.

    Parquet is cut by its footer, also within row groups; any other file is read once, and cut between rows
    at offsets of decoded bytes. A compressed one is decoded from its start for each split. A file that may
    not be read is one split, so that its part is named.
    """
    try:
        if format == "parquet":
            cuts = list(_by_rows(row_group_rows(file.path), most_rows))
        else:
            cuts = _by_offsets(file.path, format, columns, most_rows, limits)
    except PermissionError:
        cuts = [Cut(0, None, 0)]
    return [
        Split(
            file.path,
            format,
            cut.start,
            cut.stop,
            -(-cut.rows * target_bytes // most_rows),
            dict(columns),
            limits=limits,
            modality="image-text",
            urls=urls,
            skip=cut.skip,
            rows=cut.rows if cut.counted else None,
            line=cut.line,
        )
        for cut in cuts
    ]


def _by_rows(groups: list[int], most_rows: int) -> Iterator[Cut]:
    """Row groups together as long as they are small, each of the others in equal pieces."""
    first = held = 0
    for index, rows in enumerate(groups):
        if index > first and held + rows > most_rows:
            yield Cut(first, index, held)
            first, held = index, 0
        if rows > most_rows:
            pieces = -(-rows // most_rows)
            for piece in range(pieces):
                skip, end = rows * piece // pieces, rows * (piece + 1) // pieces
                yield Cut(index, index + 1, end - skip, skip, counted=True)
            first, held = index + 1, 0
        else:
            held += rows
    if first < len(groups):
        yield Cut(first, len(groups), held)


def _by_offsets(
    path: str, format: str, columns: Mapping[str, str], most_rows: int, limits: ReadLimits
) -> list[Cut]:
    with open_file(path) as file:
        stream = open_list(file, limits)
        if format in DELIMITERS:
            lines = read_lines(stream, 0, False, None, limits.max_row_bytes)
            rows = read_rows(lines, DELIMITERS[format], limits.max_row_bytes)
            if has_names(columns):
                next(rows, None)
            starts = ((row.offset, row.number) for row in rows)
        else:
            starts = ((offset, 1) for offset in _line_starts(stream))
        marks: list[tuple[int, int]] = []
        count = 0
        for count, mark in enumerate(starts, 1):
            if count % most_rows == 1 or most_rows == 1:
                marks.append(mark)
    if len(marks) <= 1:
        return [Cut(0, None, count)]
    marks[0] = (0, 1)  # the row of names belongs to the first
    ends = [offset for offset, _ in marks[1:]]
    return [
        Cut(offset, stop, min(most_rows, count - index * most_rows), line=line)
        for index, ((offset, line), stop) in enumerate(zip(marks, [*ends, None], strict=True))
    ]


def open_list(file: BinaryIO, limits: ReadLimits) -> Decoded:
    """The decoded bytes of a list, from its start."""
    file.seek(0)
    compression = compression_of(file.read(4))
    file.seek(0)
    return Decoded(file, compression, 0, limits)


def _line_starts(stream: Decoded) -> Iterator[int]:
    at, begins = 0, True
    for piece in stream.pieces():
        if begins:
            yield at
        found = piece.find(b"\n")
        while found >= 0:
            if found + 1 < len(piece):
                yield at + found + 1
            found = piece.find(b"\n", found + 1)
        begins = piece.endswith(b"\n")
        at += len(piece)


def stream_of(split: Split, file: BinaryIO) -> Decoded:
    """The decoded bytes of a split from the one before its first on, which `read_lines` asks for."""
    before = max(0, split.start - 1)
    file.seek(0)
    compression = compression_of(file.read(4))
    if compression == "plain" or not before:
        file.seek(before)
        return Decoded(file, compression, before, split.limits)
    stream = open_list(file, split.limits)
    while stream.tell() < before and stream.read(min(_BLOCK, before - stream.tell())):
        pass
    return stream


def names_of(split: Split) -> Row | None:
    """The first row of a CSV or TSV file, for a split that begins behind it."""
    if not split.start or split.format not in DELIMITERS or not has_names(split.columns):
        return None
    with open_file(split.path, until=_BLOCK) as file:
        lines = read_lines(open_list(file, split.limits), 0, False, None, split.limits.max_row_bytes)
        return next(read_rows(lines, DELIMITERS[split.format], split.limits.max_row_bytes), None)
