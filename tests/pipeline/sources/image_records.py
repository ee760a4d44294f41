"""Reads one split of image-text records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thresher.pipeline.sources import ContainerCounts, SourceFile, Split, expand, read
from thresher.pipeline.sources.inputs import splits_of
from thresher.schemas.records import RAW_TEXT

Records = list[dict[str, Any]]


def read_split(split: Split) -> tuple[Records, ContainerCounts]:
    """The records, each batch of which is sound, and the accounts, which balance."""
    counts = ContainerCounts()
    records: Records = []
    for batch in read(split, counts):
        assert batch.schema == RAW_TEXT
        batch.validate(full=True)
        records += batch.to_pylist()
    assert counts.balanced
    return records, counts


def read_images_of(path: Path | str, format: str, **split: Any) -> tuple[Records, ContainerCounts]:
    return read_split(Split(str(path), format, modality="image-text", **split))


def source(path: Path | str, format: str | None, **given: Any) -> dict[str, Any]:
    """An input of a job, as plain values."""
    empty: dict[str, Any] = {"columns": {}, "records": "file", "limits": {}, "links": ["img"]}
    return {"path": str(path), "format": format, **empty, **given}


def plan_images(
    path: Path | str, format: str | None, part_urls: int = 10_000, target: int = 1000, **given: Any
) -> list[Split]:
    file: SourceFile = expand(str(path))[0]
    return splits_of(file, source(path, format, **given), target, "image-text", part_urls)
