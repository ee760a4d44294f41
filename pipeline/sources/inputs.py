"""One input of a job: its files, and the splits of each."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from .files import SourceError, SourceFile, expand, guess_format
from .limits import ReadLimits
from .lists import plan_list
from .path_lists import COMMON_CRAWL, expand_list
from .patience import ReadError
from .split import Split, plan_splits

_LISTS: Final = ("parquet", "csv", "tsv", "jsonl")
_WITH_IMAGES: Final = ("parquet", "webdataset", "image-folder", "warc", "arc", "html")


def files_of(source: Mapping[str, Any]) -> list[SourceFile]:
    """The files of one `input` of a job, given as plain values.

    A `paths` input is a list of files; `base`, `match` and `first` are as `expand_list` takes them. Raises
    SourceError where there is none, or one cannot be looked up.
    """
    if not _is_list(source):
        return expand(source["path"])
    base = source.get("base") or COMMON_CRAWL
    return expand_list(source["path"], base, source.get("match"), source.get("first"))


def splits_of(
    file: SourceFile,
    source: Mapping[str, Any],
    target_bytes: int,
    modality: str = "text",
    part_urls: int = 10_000,
) -> list[Split]:
    """The splits of one of its files, with `columns`, `records` and `limits` of the input.

    A list of images (`urls`, or the JSON Lines of an image folder) is cut into splits of at most `part_urls`.
    Raises SourceError where the file's format is not known or holds nothing of the modality, or the file
    cannot be opened.
    """
    urls = source["format"] == "urls"
    guessed = source["format"] is None or urls or _is_list(source)
    format_ = guess_format(file.path) if guessed else source["format"]
    limits = ReadLimits(**(source.get("limits") or {}))
    _refuse_format(file.path, format_, modality, urls)
    try:
        if urls or format_ == "image-folder":
            return plan_list(file, format_, source["columns"], target_bytes, part_urls, limits, urls)
        return plan_splits(
            file,
            format_,
            source["columns"],
            target_bytes,
            records=source.get("records") or "file",
            limits=limits,
            modality=modality,
            links=source.get("links") or () if modality == "image-text" else (),
        )
    except (FileNotFoundError, PermissionError, ReadError) as error:
        raise SourceError(str(error)) from error


def _refuse_format(path: str, format_: str, modality: str, urls: bool) -> None:
    """Raises SourceError for what holds no records of the modality."""
    if modality != "image-text":
        if urls or format_ == "image-folder":
            raise SourceError(f"{path}: holds images; write modality: image-text")
    elif urls:
        if format_ not in _LISTS:
            raise SourceError(f"{path}: a list of addresses is one of {', '.join(_LISTS)}, not {format_}")
    elif format_ not in _WITH_IMAGES:
        told = "a list of addresses (format: urls) or of files (format: image-folder)"
        hint = f"; write whether it is {told}" if format_ in _LISTS else ""
        raise SourceError(f"{path}: {format_} has no images in it{hint}")


def _is_list(source: Mapping[str, Any]) -> bool:
    if source["format"] is not None:
        return bool(source["format"] == "paths")
    with suppress(SourceError):
        return guess_format(source["path"]) == "paths"
    return False
