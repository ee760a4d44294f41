"""The formats of shards by name, and the sink of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa

from .json_lines import JsonLinesSink
from .parquet import ParquetSink
from .shard_file import ShardFile
from .sink import Sink
from .webdataset import WebDatasetSink

Format = Literal["parquet", "jsonl", "webdataset"]

# For each format its suffix and its compressions with the suffix that each adds, the default first.
FORMATS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "parquet": (".parquet", {"zstd": "", "gzip": "", "snappy": "", "none": ""}),
    "jsonl": (".jsonl", {"zstd": ".zst", "gzip": ".gz", "none": ""}),
    "webdataset": (".tar", {"none": ""}),
}


# A DataComp subset is one file, which no sink writes.
_SUBSET: Final = ".npy"


def suffix_of(format: str, compression: str | None = None) -> str:
    """What a shard's file name ends with, such as `.jsonl.zst`. Raises ValueError as `open_sink` does."""
    if format == "datacomp":
        return _SUBSET
    suffix, compressions = FORMATS.get(format, ("", {}))
    return suffix + compressions.get(_checked(format, compression), "")


def open_sink(format: str, compression: str | None, schema: pa.Schema, path: str | Path) -> Sink:
    """A sink that writes one shard to `path`, which it creates or overwrites.

    `format`: parquet, jsonl or webdataset. `compression`: None for the format's default; parquet takes zstd,
    gzip, snappy and none; jsonl zstd, gzip and none; webdataset none, as its readers expect plain tar.
    `schema`: the columns of the shard. Files that go with the shard are written beside it (see ShardInfo).
    Raises ValueError for a format, a compression or a column type that cannot be written.
    """
    compression = _checked(format, compression)
    file = ShardFile(Path(path), "none" if format == "parquet" else compression)
    try:
        if format == "parquet":
            return ParquetSink(schema, file, compression)
        if format == "jsonl":
            return JsonLinesSink(schema, file)
        return WebDatasetSink(schema, file)
    except ValueError:
        file.discard()
        raise


def _checked(format: str, compression: str | None) -> str:
    if format not in FORMATS:
        raise ValueError(f"output format {format!r} is not known; write one of {', '.join(FORMATS)}")
    compressions = FORMATS[format][1]
    chosen = next(iter(compressions)) if compression is None else compression
    if chosen not in compressions:
        raise ValueError(
            f"{format} cannot be compressed with {chosen!r}; write one of {', '.join(compressions)}"
        )
    return chosen
