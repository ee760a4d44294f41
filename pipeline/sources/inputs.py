"""One input of a job: its files, and the splits of each."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .files import SourceError, SourceFile, expand, guess_format
from .limits import ReadLimits
from .path_lists import COMMON_CRAWL, expand_list
from .patience import ReadError
from .split import Split, plan_splits


def files_of(source: Mapping[str, Any]) -> list[SourceFile]:
    """The files of one `input` of a job, given as plain values.

    A `paths` input is a list of files; `base`, `match` and `first` are as `expand_list` takes them. Raises
    SourceError where there is none, or one cannot be looked up.
    """
    if not _is_list(source):
        return expand(source["path"])
    base = source.get("base") or COMMON_CRAWL
    return expand_list(source["path"], base, source.get("match"), source.get("first"))


def splits_of(file: SourceFile, source: Mapping[str, Any], target_bytes: int) -> list[Split]:
    """The splits of one of its files, with `columns`, `records` and `limits` of the input.

    Raises SourceError where the file's format is not known, or it cannot be opened.
    """
    guessed = source["format"] is None or _is_list(source)
    format_ = guess_format(file.path) if guessed else source["format"]
    try:
        return plan_splits(
            file,
            format_,
            source["columns"],
            target_bytes,
            records=source.get("records") or "file",
            limits=ReadLimits(**(source.get("limits") or {})),
        )
    except (FileNotFoundError, PermissionError, ReadError) as error:
        raise SourceError(str(error)) from error


def _is_list(source: Mapping[str, Any]) -> bool:
    if source["format"] is not None:
        return bool(source["format"] == "paths")
    with suppress(SourceError):
        return guess_format(source["path"]) == "paths"
    return False
