"""Random choices that are the same in every run: a hash of the seed, the id, and what is drawn for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash


def draws(ids: pa.Array, seed: int, purpose: str) -> npt.NDArray[np.uint64]:
    """A random number for each id: xxh3-64 of (seed, purpose, id), the same on every machine.

    `ids`: string or large_string (n,), null taken as empty. `purpose`: a step's name, so that two steps draw
    independently. Returns uint64 (n,), uniform over 64 bits.
    """
    prefix = f"{seed}\0{purpose}\0".encode()
    return np.fromiter(
        (xxhash.xxh3_64_intdigest(prefix + (name or "").encode()) for name in ids.to_pylist()),
        np.uint64,
        count=len(ids),
    )


def drawn_copies(
    ids: pa.Array | pa.ChunkedArray, times: npt.NDArray[np.int64], seed: int, purpose: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """The rows of `ids`, each as often as `times` says, with a random number for each: the first copy of a
    record gets what it would get alone."""
    rows = [np.flatnonzero(times > copy) for copy in range(max(1, int(times.max(initial=0))))]
    purposes = [purpose, *(f"{purpose}\0{copy}" for copy in range(1, len(rows)))]
    keys = [draws(ids.take(pa.array(had)), seed, name) for had, name in zip(rows, purposes, strict=True)]
    return np.concatenate(rows), np.concatenate(keys)


def drawn(ids: pa.Array, share: float, seed: int, purpose: str) -> npt.NDArray[np.bool_]:
    """Whether each id is in a random share (0 to 1) of all; a larger share holds every smaller one."""
    if share >= 1:
        return np.ones(len(ids), np.bool_)
    inside: npt.NDArray[np.bool_] = draws(ids, seed, purpose) < np.uint64(int(share * (1 << 64)))
    return inside
