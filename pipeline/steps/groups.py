"""Groups of rows with equal keys, out of batches sorted by key: whole where they are small, on disk else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

GROUP_BYTES: Final = 32 << 20  # of one group that is held in memory
PIECE_ROWS: Final = 1 << 16  # of a larger one, in each batch that it is read in


class Giant:
    """The rows of one key, too many to be held: a file that can be read more than once."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._file = path.open("xb")
        self._writer = pa.ipc.new_stream(self._file, schema)

    def add(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, in the order in which they came."""
        self._finish()
        # Not mapped into memory: what is read would count as the process's own.
        with self._path.open("rb") as file, pa.ipc.open_stream(file) as reader:
            yield from reader

    def _finish(self) -> None:
        if not self._file.closed:
            self._writer.close()
            self._file.close()

    def remove(self) -> None:
        """Ends with the file."""
        self._finish()
        self._path.unlink(missing_ok=True)


def groups(
    batches: Iterable[pa.RecordBatch], new_file: Callable[[str], Path], limit: int = GROUP_BYTES
) -> Iterator[pa.RecordBatch | Giant]:
    """Batches of one or more whole groups, and groups of more than about `limit` bytes, each by itself.

    `batches` are sorted by `key`; rows keep their order. A Giant is gone once the next item is asked for.
    """
    held: list[pa.RecordBatch] = []  # rows of the last key so far
    size = 0
    giant: Giant | None = None
    key: int | None = None

    def rest() -> Iterator[pa.RecordBatch | Giant]:
        nonlocal giant, held, size
        if giant is not None:
            try:
                yield giant
            finally:
                giant.remove()
        elif held:
            yield pa.concat_batches(held)
        giant, held, size = None, [], 0

    try:
        for batch in batches:
            if not len(batch):
                continue
            keys = batch.column("key").to_numpy()
            if key is not None and int(keys[0]) != key:
                yield from rest()
            start = int(np.searchsorted(keys, keys[-1]))
            if start:  # another key ends here
                mine = int(np.searchsorted(keys, keys[0], side="right")) if held or giant else 0
                if mine:
                    held, size, giant = _held(held, size, giant, batch.slice(0, mine), new_file, limit)
                    yield from rest()
                if start > mine:
                    yield batch.slice(mine, start - mine)
            key = int(keys[-1])
            held, size, giant = _held(held, size, giant, batch.slice(start), new_file, limit)
        yield from rest()
    finally:
        if giant is not None:
            giant.remove()


def _held(
    held: list[pa.RecordBatch],
    size: int,
    giant: Giant | None,
    batch: pa.RecordBatch,
    new_file: Callable[[str], Path],
    limit: int,
) -> tuple[list[pa.RecordBatch], int, Giant | None]:
    held.append(batch)
    size += batch.nbytes
    if giant is None and size > limit:
        giant = Giant(new_file("group"), batch.schema)
    if giant is not None:
        for some in held:
            for first in range(0, len(some), PIECE_ROWS):
                giant.add(some.slice(first, PIECE_ROWS))
        held = []
    return held, size, giant
