"""A hash of what a table says, whatever file, chunks and buffers it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from thresher.pipeline.stage import Committed, TaskId
from thresher.pipeline.store import open_parquet

HASH_ROWS = 4096  # that are hashed at a time
Tables = dict[TaskId, dict[str, pa.Table]]  # the streams of each part


def read_streams(commits: Mapping[TaskId, Committed]) -> Tables:
    """The streams as they are in the files."""
    return {
        task: {name: open_parquet(stream.path).read() for name, stream in committed.streams.items()}
        for task, committed in commits.items()
    }


def hashes(tables: Tables) -> dict[TaskId, dict[str, str]]:
    """The logical hash of every stream."""
    return {
        task: {name: logical_hash(table) for name, table in sorted(streams.items())}
        for task, streams in tables.items()
    }


def logical_hash(table: pa.Table) -> str:
    """SHA-256 of names, types and values in the order of rows, in whatever chunks and buffers they are."""
    digest = hashlib.sha256()
    for described in table.schema:
        digest.update(f"{described.name}: {_named(described.type)}\n".encode())
    for start in range(0, len(table), HASH_ROWS):
        rows = table.slice(start, HASH_ROWS)
        digest.update(len(rows).to_bytes(8, "little"))
        for column in rows.columns:
            _hash_values(digest, pa.concat_arrays(column.chunks))
    return digest.hexdigest()


def _named(kind: pa.DataType) -> str:
    # Parquet has a name of its own for the items of lists.
    return f"list of {_named(kind.value_type)}" if pa.types.is_list(kind) else str(kind)


def _hash_values(digest: Any, values: pa.Array) -> None:
    kind = values.type
    digest.update(np.asarray(values.is_valid()).tobytes())
    present = values.drop_null()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        digest.update(np.asarray(present.value_lengths().cast(pa.int64())).tobytes())
        _hash_values(digest, present.flatten())
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        whole = [value.as_buffer() for value in present]
        digest.update(np.array([buffer.size for buffer in whole], np.int64).tobytes())
        for buffer in whole:
            digest.update(buffer)
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        digest.update(np.ascontiguousarray(present.to_numpy(zero_copy_only=False)).tobytes())
    else:
        raise TypeError(f"no hash for values of type {kind}")
