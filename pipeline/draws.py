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


def drawn(ids: pa.Array, share: float, seed: int, purpose: str) -> npt.NDArray[np.bool_]:
    """Whether each id is in a random share (0 to 1) of all; a larger share holds every smaller one."""
    if share >= 1:
        return np.ones(len(ids), np.bool_)
    inside: npt.NDArray[np.bool_] = draws(ids, seed, purpose) < np.uint64(int(share * (1 << 64)))
    return inside
