"""Reads one split of any format into batches of RAW_TEXT, with its containers accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, Final

import pyarrow as pa

from .arc import ArcReader
from .compression import Decoded, Fault
from .containers import FILE, FILE_RANGE, ContainerCounts
from .delimited import DELIMITERS, read_delimited
from .files import COMPRESSED_SUFFIXES, open_file
from .image_folder import FolderParser
from .jsonl import LineParser, Parser, read_jsonl, read_lines
from .lists import names_of, stream_of
from .pages import images_of_pages
from .pairs import AddressParser
from .parquet import ColumnError, read_parquet, read_parquet_texts
from .parquet_pairs import read_pair_images, read_pairs
from .remote import RemoteFile
from .split import Split
from .warc import WarcReader
from .webdataset import WebDatasetReader
from .whole_files import read_page, read_text, read_text_lines

_WITH_PAGES: Final = ("warc", "arc", "html")


def read(split: Split, containers: ContainerCounts) -> Iterator[pa.RecordBatch]:
    """The records of a split as batches of RAW_TEXT, of at most 1,024 rows and about 8 MiB.

    Bad data never raises: a record that cannot be read is a row with `error`, a file that breaks off keeps
    what came before and is a container with an error (`truncated`, `corrupt`, `decompression_bomb`,
    `bad_header`, `not_warc`, `not_arc`, `not_tar`, `trailing_data`, `missing_column`, `split_boundary`). The
    first split of a file accounts for it; another one is a `file_range`, met only where it has a fault.
    Exhaust the iterator, or the file stays without an outcome. Raises OSError where the file system or the
    server fails, ValueError for a format that is not known.
    """
    faults: list[Fault] = []
    kind = FILE_RANGE if split.start or split.skip else FILE
    if kind == FILE:
        containers.meet(FILE)
    if split.modality == "image-text" and split.format in _WITH_PAGES:
        # The limit counts images, and pages have any number of them.
        pages = _read(replace(split, limit=None), faults, containers)
        yield from images_of_pages(pages, split, containers)
    else:
        yield from _read(split, faults, containers)
    if faults:
        if kind == FILE_RANGE:
            containers.meet(FILE_RANGE)
        more = f"; {len(faults) - 1} more in this file" if len(faults) > 1 else ""
        detail = f"byte {faults[0].offset}: {faults[0].detail}{more}"
        containers.fail(kind, faults[0].reason, split.path, detail)
    elif kind == FILE:
        containers.read(FILE)


def _read(split: Split, faults: list[Fault], containers: ContainerCounts) -> Iterator[pa.RecordBatch]:
    match split.format:
        case "parquet":
            yield from _read_parquet(split, faults)
        case "warc" | "wet":
            yield from _read_warc(split, faults, containers)
        case "arc":
            yield from _read_arc(split, faults, containers)
        case "webdataset":
            yield from _read_tar(split, faults, containers)
        case "jsonl" | "csv" | "tsv" | "html" | "text" | "image-folder":
            yield from _read_stream(split, faults)
        case _:
            raise ValueError(f"{split.path}: no reader for the format {split.format!r}")


def _judge_head(split: Split, head: bytes, faults: list[Fault]) -> None:
    if not (head or split.start) and split.path.lower().endswith(COMPRESSED_SUFFIXES):
        faults.append(Fault("truncated", 0, "an empty file is not a compressed one"))


def _read_stream(split: Split, faults: list[Fault]) -> Iterator[pa.RecordBatch]:
    with open_file(split.path, until=split.stop) as file:
        head = file.read(4)
        _judge_head(split, head, faults)
        stream = stream_of(split, file)
        try:
            yield from _of_stream(split, stream)
        except ColumnError as error:
            faults.append(Fault("missing_column", 0, str(error)))
        if stream.fault is not None:
            faults.append(stream.fault)


def _of_stream(split: Split, stream: Decoded) -> Iterator[pa.RecordBatch]:
    limits, rows_too = split.limits, split.format in DELIMITERS
    most = limits.max_row_bytes if rows_too else limits.max_line_bytes
    lines = read_lines(stream, split.start, split.start > 0, split.stop, most)
    if split.format in ("jsonl", "image-folder"):
        yield from read_jsonl(lines, split.path, _parser(split), split.limit)
    elif rows_too:
        yield from read_delimited(
            lines,
            split.path,
            split.format,
            split.columns,
            split.limit,
            limits,
            urls=split.urls,
            names=names_of(split),
            first_line=split.line,
        )
    elif split.format == "text" and split.records == "lines":
        yield from read_text_lines(lines, split.path, split.limit)
    elif split.limit != 0:
        yield (read_page if split.format == "html" else read_text)(stream, split.path, limits)


def _parser(split: Split) -> Parser:
    if split.format == "image-folder":
        return FolderParser(split.path, split.columns, split.limits.max_payload_bytes)
    return AddressParser(split.columns) if split.urls else LineParser(split.columns)


def _read_parquet(split: Split, faults: list[Fault]) -> Iterator[pa.RecordBatch]:
    with open_file(split.path, ahead=False) as file:
        try:
            if split.modality == "image-text":
                yield from read_pairs(file, split)
            else:
                yield from read_parquet(file, split.path, split.start, split.stop, split.columns, split.limit)
        except ColumnError as error:
            faults.append(Fault("missing_column", 0, str(error)))
        except (pa.ArrowException, OSError) as error:
            _raise_failure(file)
            faults.append(Fault("corrupt", 0, str(error)))


def _raise_failure(file: BinaryIO) -> None:
    """A server that does not give the bytes says nothing about them."""
    if isinstance(file, RemoteFile) and file.failure is not None:
        raise file.failure


def _read_warc(split: Split, faults: list[Fault], containers: ContainerCounts) -> Iterator[pa.RecordBatch]:
    with open_file(split.path, until=split.stop) as file:
        reader = WarcReader(file, split.path, containers, split.limit, split.limits)
        file.seek(0)
        _judge_head(split, file.read(1) if not split.start else b"", faults)
        gave = False
        for batch in reader.read(split.start, split.stop):
            gave = True
            yield batch
        faults.extend(reader.faults)
        _name_wrong_format(split, faults, gave, "not_warc")


def _read_arc(split: Split, faults: list[Fault], containers: ContainerCounts) -> Iterator[pa.RecordBatch]:
    with open_file(split.path) as file:
        _judge_head(split, file.read(1), faults)
        reader = ArcReader(file, split.path, containers, split.limit, split.limits)
        gave = False
        for batch in reader.read():
            gave = True
            yield batch
        faults.extend(reader.faults)
        _name_wrong_format(split, faults, gave, "not_arc")


def _read_tar(split: Split, faults: list[Fault], containers: ContainerCounts) -> Iterator[pa.RecordBatch]:
    with open_file(split.path) as file:
        reader = WebDatasetReader(file, split, containers)
        yield from reader.read()
        faults.extend(reader.faults)


def _name_wrong_format(split: Split, faults: list[Fault], gave: bool, name: str) -> None:
    first = faults[0] if faults else None
    if first is not None and not gave and split.start == first.offset == 0 and first.reason == "bad_header":
        faults[0] = Fault(name, 0, first.detail)


def count(split: Split, limit: int | None = None) -> int:
    """How many records the split gives, or `limit` if there are more, found by reading it."""
    wanted = split.limit if limit is None else limit if split.limit is None else min(limit, split.limit)
    return sum(batch.num_rows for batch in read(replace(split, limit=wanted), ContainerCounts()))


def read_texts(split: Split) -> Iterator[pa.Array]:
    """The text of every row of a Parquet split, a string array a batch, null where a row has none.

    At least one array. Where the file is damaged it ends, as the first reading did: that has told of it.
    """
    yield pa.array([], pa.string())
    with open_file(split.path, ahead=False) as file:
        try:
            yield from read_parquet_texts(
                file, split.path, split.start, split.stop, split.columns, split.limit
            )
        except (ColumnError, pa.ArrowException, OSError):
            _raise_failure(file)


def read_images(split: Split) -> Iterator[pa.Array]:
    """The image of every row of a Parquet split or a tar, a binary array a batch, null where a row has none.

    At least one array. Where the file is damaged it ends, as the first reading did: that has told of it.
    """
    yield pa.array([], pa.binary())
    if split.format == "webdataset":
        for batch in read(split, ContainerCounts()):
            yield batch.column("payload")
        return
    with open_file(split.path, ahead=False) as file:
        try:
            yield from read_pair_images(file, split)
        except (ColumnError, pa.ArrowException, OSError):
            _raise_failure(file)
