"""What is behind a URL or a glob of URLs."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import unquote

from .patience import Patience, ReadError, persist
from .remote import origin
from .source_file import SourceError, SourceFile
from .stored import entity_tag
from .web import PROTOCOLS

_AT_ONCE: Final = 16  # questions to a web server
_WEB_GLOB: Final = re.compile(r"[*\[]")  # a question mark begins a query


class NotThere(Exception):
    """Nothing is behind the URL."""


def look_up(path: str) -> list[SourceFile]:
    """The files that a URL or a glob of one protocol names, sorted by path; those of a glob may be none.

    Raises NotThere for one URL that does not exist, SourceError for what cannot be asked or is refused.
    """
    try:
        if path.partition("://")[0] in PROTOCOLS:
            return look_up_all(_web_names(path))
        return _stored(path)
    except FileNotFoundError as error:
        raise NotThere(str(error)) from error
    except SourceError:
        raise
    except PermissionError as error:
        raise SourceError(f"{path}: access is refused ({error}); are the credentials set?") from error
    except ReadError as error:
        raise SourceError(f"{error}") from error
    except Exception as error:  # each store has exceptions of its own
        raise SourceError(f"{path}: cannot be looked up: {type(error).__name__}: {error}") from error


def look_up_all(urls: Iterable[str]) -> list[SourceFile]:
    """Files by their exact http(s), hf or store URLs, in that order, several asked for at a time.

    Raises FileNotFoundError, PermissionError or ReadError.
    """
    patience = Patience.from_environment()

    def ask(url: str) -> SourceFile:
        found = origin(url, patience)
        return SourceFile(url, found.size, found.etag)

    names = list(urls)
    if len(names) == 1:
        return [ask(names[0])]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(ask, names))


def _web_names(path: str) -> list[str]:
    if not _WEB_GLOB.search(path):
        return [path]
    import fsspec

    store, inner = fsspec.core.url_to_fs(path)
    if path.startswith("hf://"):
        found = _persist(path, store, lambda: store.glob(inner, detail=True))
        return sorted(store.unstrip_protocol(name) for name, info in found.items() if info["type"] == "file")
    # fsspec's own walk leaves out the pages that it could not read.
    scheme, _, rest = path.partition("://")
    if "**" in rest:
        raise SourceError(f"{path}: ** cannot be looked up on a web server; name the folders")
    host, *parts = rest.split("/")
    folders = [f"{scheme}://{host}"]
    for part in parts[:-1]:
        folders = _matching(store, folders, part)
    return sorted(_matching(store, folders, parts[-1]))


def _matching(store: Any, folders: list[str], part: str) -> list[str]:
    """The entries of index pages whose names match one part of a URL."""
    if not _WEB_GLOB.search(part):
        return [f"{folder}/{part}" for folder in folders]
    found: list[str] = []
    for folder in folders:
        entries = _persist(folder, store, lambda folder=folder: store.ls(f"{folder}/", detail=False))
        names = {entry.rstrip("/") for entry in entries if entry.startswith(f"{folder}/")}
        found += [
            name
            for name in names
            if "/" not in name[len(folder) + 1 :]
            and fnmatch.fnmatchcase(unquote(name[len(folder) + 1 :]), part.replace("?", "[?]"))
        ]
    return found


def _stored(path: str) -> list[SourceFile]:
    import fsspec

    store, inner = fsspec.core.url_to_fs(path)

    def ask() -> dict[str, dict[str, Any]]:
        if glob.has_magic(inner) and not store.exists(inner):
            found: dict[str, dict[str, Any]] = store.glob(inner, detail=True)
            return found
        return {inner: store.info(inner)}

    return sorted(
        (
            SourceFile(store.unstrip_protocol(name), int(info.get("size") or 0), entity_tag(info))
            for name, info in _persist(path, store, ask).items()
            if info.get("type") != "directory"
        ),
        key=lambda file: file.path,
    )


def _persist(path: str, store: Any, action: Any) -> Any:
    def ask() -> Any:
        store.invalidate_cache()  # a listing that this process kept says nothing of now
        return action()

    return persist(path, Patience.from_environment(), ask)
