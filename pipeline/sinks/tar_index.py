"""The index of a WebDataset shard, by which readers find any sample without reading the ones before it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ..scratch import scratch
from .shard_file import ShardFile
from .sink import Sidecar

SUFFIX: Final = ".idx"
VERSION: Final = "v1.2"  # as NVIDIA DALI's tools/wds2idx.py writes it and fn.readers.webdataset reads it
_IN_MEMORY: Final = 8 << 20

Member = tuple[str, int, int, str]  # extension, offset of its content in the archive, bytes, name


class TarIndex:
    """A text file: the version and the number of samples, then a line for each of them.

    A line has for every member its extension, the offset of its content, its bytes and its name, all parted
    by blanks.
    """

    def __init__(self, path: Path) -> None:
        self._file = ShardFile(path)
        # The number of samples, which is known last, comes first.
        self._lines = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(scratch()))  # noqa: SIM115
        self._samples = 0

    def add(self, samples: Iterable[Iterable[Member]]) -> None:
        """Appends a line for each sample."""
        lines = [
            " ".join(f"{extension} {offset} {size} {name}" for extension, offset, size, name in members)
            for members in samples
        ]
        self._samples += len(lines)
        self._lines.write("".join(f"{line}\n" for line in lines).encode("ascii"))

    def close(self) -> Sidecar:
        """Writes the index and forces it to disk."""
        self._file.write(f"{VERSION} {self._samples}\n".encode("ascii"))
        self._lines.seek(0)
        shutil.copyfileobj(self._lines, self._file, 1 << 20)
        self._lines.close()
        size, digest = self._file.commit()
        return Sidecar(SUFFIX, str(self._file.path), size, digest)

    def discard(self) -> None:
        """Gives the index up."""
        self._lines.close()
        self._file.discard()
