"""Which files an input names, how they are opened, and what their names say about them."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, Final, cast
from urllib.parse import urlsplit

from .looking_up import NotThere, look_up
from .remote import RemoteFile, origin
from .source_file import SourceError, SourceFile

__all__ = [
    "SourceError",
    "SourceFile",
    "expand",
    "guess_format",
    "is_cheap_to_enter",
    "is_remote",
    "open_file",
]

COMPRESSED_SUFFIXES: Final = (".gz", ".zst", ".zstd")

# Longest suffix first: a WET file of Common Crawl is called `*.warc.wet.gz`.
_FORMATS: Final = (
    (".warc.wet", "wet"),
    (".wet", "wet"),
    (".warc", "warc"),
    (".jsonl", "jsonl"),
    (".ndjson", "jsonl"),
    (".json", "jsonl"),
    (".parquet", "parquet"),
    (".pq", "parquet"),
    (".csv", "csv"),
    (".tsv", "tsv"),
    (".arc", "arc"),
    (".html", "html"),
    (".htm", "html"),
    (".xhtml", "html"),
    (".txt", "text"),
    (".tar", "webdataset"),
    (".tgz", "webdataset"),
    (".paths", "paths"),
)


def is_remote(path: str) -> bool:
    """Whether `path` is a URL that fsspec opens; `file://` counts as remote syntax and works the same."""
    return "://" in path


def expand(path: str) -> list[SourceFile]:
    """The files that a local path, a URL or a glob (`*`, `?`, `[…]`, `**`) names, sorted by path.

    A path that exists is taken literally, also if it has glob characters. Raises SourceError if nothing
    matches, or if it is a folder.
    """
    try:
        files = look_up(path) if is_remote(path) else _expand_local(path)
    except NotThere:
        files = []
    if not files:
        raise SourceError(_nothing_matches(path))
    return sorted(files, key=lambda file: file.path)


def guess_format(path: str) -> str:
    """The format that a name says, without `.gz` or `.zst`. Raises SourceError where it says none."""
    name = PurePosixPath(urlsplit(path).path if is_remote(path) else path.replace(os.sep, "/")).name.lower()
    for suffix in COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    for suffix, format_name in _FORMATS:
        if name.endswith(suffix):
            return format_name
    known = ", ".join(suffix for suffix, _ in _FORMATS)
    raise SourceError(
        f"{path}: the name does not say the format (known: {known}); write `format:` beside `path:`"
    )


def open_file(path: str, start: int = 0, ahead: bool = True, until: int | None = None) -> BinaryIO:
    """Opens a local path or a URL for reading bytes, at byte `start`.

    `ahead` is for reading on from there; without it a remote file gives just the ranges that are read.
    `until` is where the reader probably stops. Raises OSError as the file system does, ReadError where a
    server does not give the bytes in the end.
    """
    if is_remote(path):
        file = cast(BinaryIO, RemoteFile(origin(path), ahead, until))
    else:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - the caller closes it
    if start:
        file.seek(start)
    return file


def is_cheap_to_enter(file: BinaryIO) -> bool:
    """Whether reading from the middle does not cost reading all that is before it."""
    if not isinstance(file, RemoteFile):
        return True
    _ = file.origin.size  # only an answer tells
    return file.origin.ranged


def _expand_local(path: str) -> list[SourceFile]:
    if os.path.isdir(path):
        raise SourceError(f"{path}: is a folder; name its files, for example {os.path.join(path, '*')}")
    found = [path] if os.path.exists(path) else glob.glob(path, recursive=True)
    return [_local(name) for name in found if os.path.isfile(name)]


def _local(path: str) -> SourceFile:
    stat = os.stat(path)
    return SourceFile(path, stat.st_size, str(stat.st_mtime_ns))


def _nothing_matches(path: str) -> str:
    near = next(_neighbours(path), None)
    return f"{path}: no file matches" + (f"; the nearest name there is {near}" if near else "")


def _neighbours(path: str) -> Iterator[str]:
    """Names that exist and resemble the first part of `path` that does not."""
    if is_remote(path):
        return
    parent, name = os.path.split(path)
    while parent and (glob.has_magic(parent) or not os.path.isdir(parent)):
        if parent == os.path.dirname(parent):
            return
        parent, name = os.path.split(parent)
    entries = sorted(os.listdir(parent or "."))
    for near in difflib.get_close_matches(name, entries, n=1, cutoff=0.4):
        yield os.path.join(parent, near)
