"""Splits: the parts of an input file that one ingest task reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from .compression import compression_of
from .files import SourceFile, is_cheap_to_enter, open_file
from .limits import ReadLimits
from .parquet import row_group_sizes
from .warc_boundaries import is_cut_by_record

TARGET_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Split:
    """A range of one file, as plain data.

    `start` and `stop` are bytes for lines and WARC (decoded ones in a list of images), row groups for
    Parquet; `stop` None means the end. A record belongs to the split in which its first byte lies (WARC: the
    first byte of its gzip member), so any cutting of a file gives each record once. The split that starts at
    0 and skips nothing accounts for the file.
    """

    path: str
    format: str  # warc | wet | arc | jsonl | csv | tsv | parquet | html | text | webdataset | image-folder
    start: int = 0
    stop: int | None = None
    size: int = 0  # bytes that it reads, for planning and progress
    columns: Mapping[str, str] = field(default_factory=dict)  # our column -> the input's
    limit: int | None = None  # read no more than this many records
    records: str = "file"  # of text: file | lines
    limits: ReadLimits = ReadLimits()  # noqa: RUF009 - frozen
    modality: str = "text"  # text | image-text: what is made of a page, of a tar, of a row
    urls: bool = False  # rows are addresses of images, with their captions
    links: tuple[str, ...] = ()  # which images of a page count: img | source | open_graph
    skip: int = 0  # rows of [start, stop) before the first that it reads
    rows: int | None = None  # how many of them it reads; None: all that follow
    line: int = 1  # number of the line at `start`, of CSV and TSV

    def __post_init__(self) -> None:
        if isinstance(self.limits, Mapping):  # as it comes back from a plan
            object.__setattr__(self, "limits", ReadLimits(**self.limits))
        object.__setattr__(self, "links", tuple(self.links))


def plan_splits(
    file: SourceFile,
    format: str,
    columns: Mapping[str, str],
    target_bytes: int = TARGET_BYTES,
    *,
    records: str = "file",
    limits: ReadLimits = ReadLimits(),  # noqa: B008 - frozen
    modality: str = "text",
    links: Sequence[str] = (),
) -> list[Split]:
    """Cuts a file into splits of about `target_bytes`, where its format allows.

    Uncompressed JSON Lines and text read by lines, and WARC files of one gzip member per record, are cut at
    byte ranges, Parquet between row groups (a footer that cannot be read makes one split, whose reader
    reports it). Any other file is one split: in CSV and TSV only a reading from the start tells which
    newlines are inside quotes, and a web server without ranges would send the beginning again for each
    split. A file that may not be read is one split too, so that its part is named. The result depends on the
    file and `target_bytes` alone. Raises OSError if the file cannot be opened otherwise.
    """
    if format == "parquet":
        cuts, sizes = _row_group_cuts(file, target_bytes)
    elif file.size > target_bytes and _can_be_cut(file, format, records):
        count = -(-file.size // target_bytes)
        cuts = [file.size * index // count for index in range(count)] + [file.size]
        sizes = [stop - start for start, stop in pairwise(cuts)]
    else:
        cuts, sizes = [0, 0], [file.size]
    last = len(sizes) - 1
    return [
        Split(
            file.path,
            format,
            cuts[i],
            cuts[i + 1] if i < last else None,
            sizes[i],
            dict(columns),
            records=records,
            limits=limits,
            modality=modality,
            links=tuple(links),
        )
        for i in range(len(sizes))
    ]


def _can_be_cut(file: SourceFile, format: str, records: str) -> bool:
    lines = format == "jsonl" or (format == "text" and records == "lines")
    if not lines and format not in ("warc", "wet"):
        return False
    try:
        with open_file(file.path) as opened:
            if not is_cheap_to_enter(opened):
                return False
            compression = compression_of(opened.read(4))
            if lines:
                return compression == "plain"
            return compression == "gzip" and is_cut_by_record(opened)
    except PermissionError:
        return False


def _row_group_cuts(file: SourceFile, target_bytes: int) -> tuple[list[int], list[int]]:
    groups = row_group_sizes(file.path)
    cuts, sizes = [0], [0]
    for index, size in enumerate(groups):
        if sizes[-1] and sizes[-1] + size > target_bytes:
            cuts.append(index)
            sizes.append(0)
        sizes[-1] += size
    return [*cuts, len(groups)], sizes
