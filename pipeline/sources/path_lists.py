"""Path lists: files that name files, one a line, as Common Crawl publishes them (`warc.paths.gz`)."""

from __future__ import annotations

import fnmatch
from typing import Final

from .compression import Decoded, compression_of
from .files import SourceError, SourceFile, expand, is_remote, open_file
from .jsonl import read_lines
from .limits import ReadLimits
from .looking_up import look_up_all
from .web import PROTOCOLS

COMMON_CRAWL: Final = "https://data.commoncrawl.org/"

_MAX_PATH: Final = 8 << 10  # bytes; longer lines are no paths
_STORES: Final = (*PROTOCOLS, "s3", "gs")


def expand_list(
    path: str, base: str = COMMON_CRAWL, match: str | None = None, first: int | None = None
) -> list[SourceFile]:
    """The files that a path list, or each list that a glob names, has in it; in the list's order, each once.

    A line is a path below `base` or a URL of a web server or an object store; a list comes from elsewhere, so
    it names neither local files by URL nor folders above `base`. `match` is a glob that the whole line must
    match, `first` how many of the matching lines count. Every file is looked up now, with its size and tag.
    Raises SourceError naming list and line.
    """
    wanted: dict[str, str] = {}
    for listing in expand(path):
        for number, line in enumerate(_lines(listing.path), 1):
            if not line or (match is not None and not fnmatch.fnmatchcase(line, match)):
                continue
            if first is not None and len(wanted) >= first:
                break
            wanted.setdefault(_address(line, base, f"{listing.path}: line {number}"), line)
    if not wanted:
        raise SourceError(f"{path}: names no file" + (f" that matches {match}" if match else ""))
    return _looked_up(list(wanted), path)


def _lines(path: str) -> list[str]:
    try:
        with open_file(path) as file:
            compression = compression_of(file.read(4))
            file.seek(0)
            stream = Decoded(file, compression, limits=ReadLimits())
            found = list(read_lines(stream, 0, False, None, _MAX_PATH))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error}") from error
    if stream.fault is not None:
        raise SourceError(f"{path}: the list breaks off: {stream.fault.detail}")
    try:
        return [line.data.decode().strip() for line in found]
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: is no list of paths: {error.reason}") from error


def _address(line: str, base: str, place: str) -> str:
    scheme, separator, _ = line.partition("://")
    if separator:
        if scheme not in _STORES:
            raise SourceError(f"{place}: {scheme}:// is not read from a list; known: {', '.join(_STORES)}")
        return line
    if ".." in line.split("/") or len(line.encode()) >= _MAX_PATH or not line.isprintable():
        raise SourceError(f"{place}: {line[:80]!r} is no path below {base}")
    return f"{base.rstrip('/')}/{line.lstrip('/')}"


def _looked_up(addresses: list[str], path: str) -> list[SourceFile]:
    if not all(is_remote(address) for address in addresses):
        return [file for address in addresses for file in expand(address)]
    try:
        return look_up_all(addresses)
    except (OSError, ImportError, ValueError) as error:
        raise SourceError(f"{path}: {error}") from error
