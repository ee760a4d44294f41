"""Where the row of a key is, among the rows of many files."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from xxhash import xxh3_128_digest

from ..schemas.contracts import AssetError
from .embedding_store import StoredArray

Uint64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]

_VERSION: Final = 1  # of the file
_ROW_BITS: Final = 40
_UNUSED: Final = 30 * 24 * 3600  # seconds
_DIGEST: Final = np.dtype([("high", "<u8"), ("low", "<u8")])


class KeyIndex:
    """The 128-bit hashes of keys (xxh3), sorted, and file and row of each: 24 bytes a key.

    It is made once on a machine, in $XDG_CACHE_HOME/thresher/stored (~/.cache/…), from where all processes
    map it; a change of name, size or time of a file makes another, and removes those that nobody has opened
    for a month. Where nothing can be written there, each process makes and holds its own.
    """

    def __init__(self, table: Uint64s) -> None:
        self._high, self._low, self._place = table

    @classmethod
    def of(cls, arrays: Sequence[StoredArray], column: str) -> KeyIndex:
        """The index of the rows of these files. Raises AssetError where keys and rows do not agree."""
        try:
            folder = _cache()
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{_identity(arrays, column)}.npy"
            with path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # whoever comes second finds it made
                if not path.is_file():
                    _remove_unused(folder)
                    _save(_table(arrays, column), path)
                os.utime(path)
            return cls(np.load(path, mmap_mode="r"))
        except OSError:
            return cls(_table(arrays, column))

    def find(self, keys: pa.Array) -> tuple[Int64s, Int64s]:
        """For each key the number of its file, -1 where there is none, and its row there."""
        high, low = _hashes(keys)
        places = np.searchsorted(self._high, high)
        found = np.full(len(keys), -1, np.int64)
        asked = np.flatnonzero(keys.is_valid().to_numpy(zero_copy_only=False))
        while len(asked):  # again for those of which another key shares the upper half
            asked = asked[places[asked] < len(self._high)]
            asked = asked[self._high[places[asked]] == high[asked]]
            is_it = self._low[places[asked]] == low[asked]
            found[asked[is_it]] = places[asked[is_it]]
            asked = asked[~is_it]
            places[asked] += 1
        is_there = found >= 0
        files, rows = np.full(len(keys), -1, np.int64), np.zeros(len(keys), np.int64)
        place = self._place[found[is_there]]
        files[is_there] = (place >> np.uint64(_ROW_BITS)).astype(np.int64)
        rows[is_there] = (place & np.uint64((1 << _ROW_BITS) - 1)).astype(np.int64)
        return files, rows


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "thresher" / "stored"


def _identity(arrays: Sequence[StoredArray], column: str) -> str:
    digest = hashlib.sha256(f"{_VERSION}\0{column}\n".encode())
    for array in arrays:
        for path in (array.keys_path, array.path):
            status = path.stat()
            told = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\n"
            digest.update(told.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _table(arrays: Sequence[StoredArray], column: str) -> Uint64s:
    """Upper half, lower half and place of each key, sorted; of equal ones the first."""
    pieces: list[Uint64s] = [np.empty((3, 0), np.uint64)]
    for number, array in enumerate(arrays):
        row = number << _ROW_BITS
        for keys in array.keys(column):
            high, low = _hashes(keys)
            places = np.arange(row, row + len(keys), dtype=np.uint64)
            row += len(keys)
            pieces.append(np.stack([high, low, places])[:, keys.is_valid().to_numpy(zero_copy_only=False)])
    table = np.concatenate(pieces, axis=1)
    table = table[:, np.lexsort((table[1], table[0]))]  # which is stable
    is_first = np.ones(table.shape[1], np.bool_)
    is_first[1:] = (table[:2, 1:] != table[:2, :-1]).any(axis=0)
    return np.ascontiguousarray(table[:, is_first])


def _remove_unused(folder: Path) -> None:
    for path in folder.glob("*.npy"):
        with suppress(OSError):  # another process may be as quick
            if path.stat().st_mtime < time.time() - _UNUSED:
                path.unlink()
                path.with_suffix(".lock").unlink()


def _save(table: Uint64s, path: Path) -> None:
    unfinished = path.with_suffix(f".{uuid.uuid4().hex}")
    try:
        with unfinished.open("wb") as file:
            np.save(file, table)
        unfinished.replace(path)
    finally:
        with suppress(OSError):
            unfinished.unlink()


def _hashes(keys: pa.Array) -> tuple[Uint64s, Uint64s]:
    """The halves of the hash of each key; of null that of nothing."""
    if not (pa.types.is_string(keys.type) or pa.types.is_large_string(keys.type)):
        try:
            keys = keys.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise AssetError(f"keys are strings or numbers, and no {keys.type}") from error
    digests = b"".join(xxh3_128_digest((key or "").encode()) for key in keys.to_pylist())
    halves = np.frombuffer(digests, _DIGEST)
    return halves["high"].copy(), halves["low"].copy()
