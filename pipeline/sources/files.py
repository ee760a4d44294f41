"""Which files an input names, how they are opened, and what their names say about them."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final, cast
from urllib.parse import urlsplit

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
)


class SourceError(Exception):
    """An input names nothing that can be read. The message says what was looked for and what is near it."""


@dataclass(frozen=True)
class SourceFile:
    """One input file as it was when the job first looked.

    `etag` changes when the file does: its modification time in nanoseconds where it is local, otherwise what
    the store gives as entity tag, checksum or date (empty where it gives none).
    """

    path: str
    size: int  # bytes
    etag: str


def is_remote(path: str) -> bool:
    """Whether `path` is a URL that fsspec opens; `file://` counts as remote syntax and works the same."""
    return "://" in path


def expand(path: str) -> list[SourceFile]:
    """The files that a local path, a URL or a glob (`*`, `?`, `[…]`, `**`) names, sorted by path.

    A path that exists is taken literally, also if it has glob characters. Raises SourceError if nothing
    matches, or if it is a folder.
    """
    files = _expand_remote(path) if is_remote(path) else _expand_local(path)
    if not files:
        raise SourceError(_nothing_matches(path))
    return sorted(files, key=lambda file: file.path)


def guess_format(path: str) -> str:
    """`warc`, `wet`, `jsonl` or `parquet`, from the name without `.gz` or `.zst`. Raises SourceError
    otherwise."""
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


def open_file(path: str, start: int = 0) -> BinaryIO:
    """Opens a local path or a URL for reading bytes, at byte `start`. Raises OSError as the file system
    does."""
    if is_remote(path):
        import fsspec

        file = cast(BinaryIO, fsspec.open(path, "rb").open())
    else:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - the caller closes it
    if start:
        file.seek(start)
    return file


def _expand_local(path: str) -> list[SourceFile]:
    if os.path.isdir(path):
        raise SourceError(f"{path}: is a folder; name its files, for example {os.path.join(path, '*')}")
    found = [path] if os.path.exists(path) else glob.glob(path, recursive=True)
    return [_local(name) for name in found if os.path.isfile(name)]


def _local(path: str) -> SourceFile:
    stat = os.stat(path)
    return SourceFile(path, stat.st_size, str(stat.st_mtime_ns))


def _expand_remote(path: str) -> list[SourceFile]:
    import fsspec

    try:
        store, inner = fsspec.core.url_to_fs(path)
        names = [inner] if not glob.has_magic(inner) or store.exists(inner) else store.glob(inner)
        infos = [(name, store.info(name)) for name in names]
    except FileNotFoundError:
        return []
    except (ImportError, ValueError, OSError) as error:
        raise SourceError(f"{path}: cannot be looked up: {error}") from error
    return [
        SourceFile(store.unstrip_protocol(name), int(info.get("size") or 0), _etag(info))
        for name, info in infos
        if info.get("type") != "directory"
    ]


def _etag(info: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "crc32c", "LastModified", "last_modified", "updated", "mtime"):
        if info.get(key) is not None:
            return str(info[key])
    return ""


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
