"""The pixels that a model is trained on: as many as memory allows, and the encoded images of the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ....filters.image.decode import Pixels

_CHUNK: Final = 256  # images that are allocated at a time


class PixelStore:
    """Images of one size, by their number in the order in which they were added.

    Up to `most_bytes` of pixels are kept; of what comes later the encoded image goes into the file `path`,
    and `decode` makes its pixels anew, in `pool`, whenever they are taken.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        most_bytes: int,
        decode: Callable[[bytes], Pixels],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._shape = (*size, 3)
        self._room = most_bytes // (size[0] * size[1] * 3)
        self._decode, self._pool = decode, pool
        self._chunks: list[Pixels] = []
        self._ends = [0]
        self._file = path.open("w+b", buffering=1 << 20)
        self._kept = 0

    def __len__(self) -> int:
        return self._kept + len(self._ends) - 1

    def add(self, pixels: Pixels, encoded: bytes) -> None:
        """Adds an image (height, width, 3) of the store's size."""
        if self._kept >= self._room:
            self._file.write(encoded)
            self._ends.append(self._ends[-1] + len(encoded))
            return
        place = self._kept % _CHUNK
        if not place:
            self._chunks.append(np.empty((min(_CHUNK, self._room - self._kept), *self._shape), np.uint8))
        self._chunks[-1][place] = pixels
        self._kept += 1

    def take(self, numbers: Sequence[int] | npt.NDArray[np.int64]) -> Pixels:
        """The images with these numbers, (images, height, width, 3)."""
        taken = np.empty((len(numbers), *self._shape), np.uint8)
        later: list[tuple[int, bytes]] = []
        self._file.flush()
        for row, number in enumerate(numbers):
            if number < self._kept:
                taken[row] = self._chunks[number // _CHUNK][number % _CHUNK]
            else:
                start, end = self._ends[number - self._kept : number - self._kept + 2]
                later.append((row, os.pread(self._file.fileno(), end - start, start)))
        for (row, _), pixels in zip(
            later, self._pool.map(self._decode, [encoded for _, encoded in later]), strict=True
        ):
            taken[row] = pixels
        return taken

    def close(self) -> None:
        """Closes its file."""
        self._file.close()
