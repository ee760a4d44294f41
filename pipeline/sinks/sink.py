"""What every writer of shards promises, and how one is chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa

from .shard_file import ShardFile

Format = Literal["parquet", "jsonl", "webdataset"]

# For each format its suffix and its compressions with the suffix that each adds, the default first.
FORMATS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "parquet": (".parquet", {"zstd": "", "gzip": "", "snappy": "", "none": ""}),
    "jsonl": (".jsonl", {"zstd": ".zst", "gzip": ".gz", "none": ""}),
    "webdataset": (".tar", {"none": ""}),
}


@dataclass(frozen=True)
class ShardInfo:
    """A finished shard: its path, records, bytes on disk, and the SHA-256 of those bytes in hexadecimal."""

    path: str
    records: int
    bytes: int
    sha256: str


class Sink(ABC):
    """Writes batches into one shard; the same rows give the same bytes, however they are cut into batches.

    Batches hold the columns of `schema`, in any order; other columns are left out, and string widths are
    cast.
    """

    def __init__(self, schema: pa.Schema, file: ShardFile) -> None:
        self.schema = schema
        self.records = 0
        self._file = file

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends the rows of `batch`. Raises ValueError if a column of the schema is not in it."""
        missing = [name for name in self.schema.names if name not in batch.schema.names]
        if missing:
            raise ValueError(f"{self._file.path}: the batch has no column {', '.join(missing)}")
        columns = [_cast(batch.column(field.name), field.type) for field in self.schema]
        self._write(pa.RecordBatch.from_arrays(columns, schema=self.schema))
        self.records += len(batch)

    def close(self) -> ShardInfo:
        """Finishes the shard and forces it to disk."""
        self._finish()
        size, digest = self._file.commit()
        return ShardInfo(str(self._file.path), self.records, size, digest)

    def discard(self) -> None:
        """Gives the shard up: closes its file and removes it."""
        self._file.discard()

    @abstractmethod
    def _write(self, batch: pa.RecordBatch) -> None:
        """Appends the rows of a batch that has exactly the schema."""

    @abstractmethod
    def _finish(self) -> None:
        """Writes what is still held back, and the format's end."""


def suffix_of(format: str, compression: str | None = None) -> str:
    """What a shard's file name ends with, such as `.jsonl.zst`. Raises ValueError as `open_sink` does."""
    suffix, compressions = FORMATS.get(format, ("", {}))
    return suffix + compressions.get(_checked(format, compression), "")


def open_sink(
    format: str, compression: str | None, schema: pa.Schema, path: str | Path, shard: int = 0
) -> Sink:
    """A sink that writes one shard to `path`, which it creates or overwrites.

    `format`: parquet, jsonl or webdataset. `compression`: None for the format's default; parquet takes zstd,
    gzip, snappy and none; jsonl zstd, gzip and none; webdataset none, as its readers expect plain tar.
    `schema`: the columns of the shard. `shard`: its number, which enters the keys of a WebDataset. Raises
    ValueError for a format, a compression or a column type that cannot be written.
    """
    compression = _checked(format, compression)
    file = ShardFile(Path(path), "none" if format == "parquet" else compression)
    try:
        if format == "parquet":
            from .parquet import ParquetSink

            return ParquetSink(schema, file, compression)
        if format == "jsonl":
            from .json_lines import JsonLinesSink

            return JsonLinesSink(schema, file)
        from .webdataset import WebDatasetSink

        return WebDatasetSink(schema, file, shard)
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


def _cast(column: pa.Array, dtype: pa.DataType) -> pa.Array:
    return column if column.type == dtype else column.cast(dtype)
