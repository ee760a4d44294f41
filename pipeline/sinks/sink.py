"""What every writer of shards promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import pyarrow as pa

from .shard_file import ShardFile


@dataclass(frozen=True)
class Sidecar:
    """A file that goes with a shard and has its name, but for the suffix, such as `.idx`."""

    suffix: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardInfo:
    """A finished shard: its path, records, bytes on disk, and the SHA-256 of those bytes in hexadecimal."""

    path: str
    records: int
    bytes: int
    sha256: str
    sidecars: tuple[Sidecar, ...] = ()


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
        """Finishes the shard and what goes with it, and forces them to disk."""
        self._finish()
        size, digest = self._file.commit()
        return ShardInfo(str(self._file.path), self.records, size, digest, self._close_sidecars())

    def discard(self) -> None:
        """Gives the shard up: closes its files and removes them."""
        self._file.discard()

    @abstractmethod
    def _write(self, batch: pa.RecordBatch) -> None:
        """Appends the rows of a batch that has exactly the schema."""

    @abstractmethod
    def _finish(self) -> None:
        """Writes what is still held back, and the format's end."""

    def _close_sidecars(self) -> tuple[Sidecar, ...]:
        """Finishes the files that go with the shard, where the format has some."""
        return ()


def _cast(column: pa.Array, dtype: pa.DataType) -> pa.Array:
    return column if column.type == dtype else column.cast(dtype)
