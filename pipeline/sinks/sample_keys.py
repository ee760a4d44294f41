"""The keys of WebDataset samples: told by the id alone, and unique in a shard."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from xxhash import xxh3_128_digest

Hashes = npt.NDArray[np.uint64]
_DIGEST: Final = np.dtype([("high", "<u8"), ("low", "<u8")])


class SampleKeys:
    """xxh3-128 of each id in hexadecimal; where an id comes again, `-1`, `-2` … behind it.

    WebDataset takes a name up to its first dot for the key, and slashes for folders: an id may hold both.
    What was seen is told by 64 bits of the hash, which cost 8 bytes a record: two ids that share them would
    only cost one of them a suffix that it need not have.
    """

    def __init__(self) -> None:
        self._seen: list[Hashes] = []  # sorted arrays, each longer than the next
        self._again: dict[int, int] = {}

    def of(self, ids: pa.Array) -> list[str]:
        """The keys of the next records."""
        digests = [xxh3_128_digest(id_.encode()) for id_ in ids.to_pylist()]
        keys = [digest.hex() for digest in digests]
        hashes = np.frombuffer(b"".join(digests), _DIGEST)["high"].copy()
        for row in np.flatnonzero(self._repeated(hashes)).tolist():
            number = self._again[int(hashes[row])] = self._again.get(int(hashes[row]), 0) + 1
            keys[row] += f"-{number}"
        return keys

    def _repeated(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Which of them came before, in this call or an earlier one; all are remembered."""
        repeated = np.zeros(len(hashes), np.bool_)
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        repeated[order[1:]] = ordered[1:] == ordered[:-1]
        for seen in self._seen:
            places = np.minimum(np.searchsorted(seen, hashes), len(seen) - 1)
            repeated |= seen[places] == hashes
        if len(hashes):
            self._seen.append(ordered)
        while len(self._seen) > 1 and len(self._seen[-2]) <= len(self._seen[-1]):
            self._seen.append(np.sort(np.concatenate([self._seen.pop(), self._seen.pop()]), kind="stable"))
        return repeated
