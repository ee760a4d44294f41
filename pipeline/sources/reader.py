"""Reads one split of any format into batches of RAW_TEXT, with its containers accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa

from .compression import Decoded, Fault, compression_of
from .containers import FILE, FILE_RANGE, ContainerCounts
from .files import COMPRESSED_SUFFIXES, open_file
from .http_body import Limits
from .jsonl import MAX_LINE_BYTES, read_jsonl, read_lines
from .parquet import ColumnError, read_parquet, read_parquet_texts
from .split import Split
from .warc import WarcReader


def read(
    split: Split,
    containers: ContainerCounts,
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    max_line_bytes: int = MAX_LINE_BYTES,
) -> Iterator[pa.RecordBatch]:
    """The records of a split as batches of RAW_TEXT, of at most 1,024 rows and about 8 MiB.

    Bad data never raises: a record that cannot be read is a row with `error`, a file that breaks off keeps
    what came before and is a container with an error (`truncated`, `corrupt`, `bad_header`, `not_warc`,
    `missing_column`, `split_boundary`). The split that starts at 0 accounts for its file; another one is a
    `file_range`, met only where it has a fault. Exhaust the iterator, or the file stays without an outcome.
    Raises OSError where the file system fails, ValueError for a format that is not known.
    """
    faults: list[Fault] = []
    kind = FILE_RANGE if split.start else FILE
    if kind == FILE:
        containers.meet(FILE)
        if _is_hollow(split):
            faults.append(Fault("truncated", 0, "an empty file is not a compressed one"))
    match split.format:
        case "jsonl":
            yield from _read_jsonl(split, faults, max_line_bytes)
        case "parquet":
            yield from _read_parquet(split, faults)
        case "warc" | "wet":
            yield from _read_warc(split, faults, containers, limits)
        case _:
            raise ValueError(f"{split.path}: no reader for the format {split.format!r}")
    if faults:
        if kind == FILE_RANGE:
            containers.meet(FILE_RANGE)
        more = f"; {len(faults) - 1} more in this file" if len(faults) > 1 else ""
        detail = f"byte {faults[0].offset}: {faults[0].detail}{more}"
        containers.fail(kind, faults[0].reason, split.path, detail)
    elif kind == FILE:
        containers.read(FILE)


def _is_hollow(split: Split) -> bool:
    if not split.path.lower().endswith(COMPRESSED_SUFFIXES):
        return False
    with open_file(split.path) as file:
        return not file.read(1)


def _read_jsonl(split: Split, faults: list[Fault], max_line_bytes: int) -> Iterator[pa.RecordBatch]:
    with open_file(split.path) as file:
        compression = compression_of(file.read(4))
        before = max(0, split.start - 1)
        file.seek(before)
        stream = Decoded(file, compression, before)
        lines = read_lines(stream, split.start, split.start > 0, split.stop, max_line_bytes)
        yield from read_jsonl(lines, split.path, split.columns, split.limit)
        if stream.fault is not None:
            faults.append(stream.fault)


def _read_parquet(split: Split, faults: list[Fault]) -> Iterator[pa.RecordBatch]:
    with open_file(split.path) as file:
        try:
            yield from read_parquet(file, split.path, split.start, split.stop, split.columns, split.limit)
        except ColumnError as error:
            faults.append(Fault("missing_column", 0, str(error)))
        except (pa.ArrowException, OSError) as error:
            faults.append(Fault("corrupt", 0, str(error)))


def _read_warc(
    split: Split, faults: list[Fault], containers: ContainerCounts, limits: Limits
) -> Iterator[pa.RecordBatch]:
    with open_file(split.path) as file:
        reader = WarcReader(file, split.path, containers, split.limit, limits)
        gave = False
        for batch in reader.read(split.start, split.stop):
            gave = True
            yield batch
        faults.extend(reader.faults)
        first = faults[0] if faults else None
        if (
            first is not None
            and not gave
            and split.start == first.offset == 0
            and first.reason == "bad_header"
        ):
            faults[0] = Fault("not_warc", 0, first.detail)


def count(split: Split, limit: int | None = None) -> int:
    """How many records the split gives, or `limit` if there are more, found by reading it."""
    wanted = split.limit if limit is None else limit if split.limit is None else min(limit, split.limit)
    return sum(batch.num_rows for batch in read(replace(split, limit=wanted), ContainerCounts()))


def read_texts(split: Split) -> Iterator[pa.Array]:
    """The text of every row of a Parquet split, a string array a batch, null where a row has none.

    At least one array. Where the file is damaged it ends, as the first reading did: that has told of it.
    """
    yield pa.array([], pa.string())
    with open_file(split.path) as file, suppress(ColumnError, pa.ArrowException, OSError):
        yield from read_parquet_texts(file, split.path, split.start, split.stop, split.columns, split.limit)
