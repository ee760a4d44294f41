"""A shard's file: compressed, hashed and counted while it is written, forced to disk at the end."""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

GZIP_LEVEL: Final = 6
ZSTD_LEVEL: Final = 3
# What a compressor finds depends on how much it is given at a time, so it is given blocks of one size.
_BLOCK: Final = 1 << 20


class ShardFile(io.RawIOBase):
    """A file to write to from its first byte to its last; `compression` is none, gzip or zstd.

    The gzip header holds no time and no name; a zstd frame ends with its checksum.
    """

    def __init__(self, path: Path, compression: str = "none") -> None:
        super().__init__()
        self.path = path
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._held = bytearray()
        self._compressor = _compressor(compression)
        self._file = path.open("wb", buffering=_BLOCK)

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        view = memoryview(data).cast("B")
        if self._compressor is None:
            self._put(view)
        else:
            self._held += view
            whole = len(self._held) // _BLOCK * _BLOCK
            for start in range(0, whole, _BLOCK):
                self._put(self._compressor.compress(bytes(self._held[start : start + _BLOCK])))
            del self._held[:whole]
        return len(view)

    def commit(self) -> tuple[int, str]:
        """Ends the file and forces it to disk. Returns its size in bytes and its SHA-256 in hexadecimal."""
        if self._compressor is not None:
            self._put(self._compressor.compress(bytes(self._held)))
            self._put(self._compressor.flush())
            self._held.clear()
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()
        return self._bytes, self._sha256.hexdigest()

    def discard(self) -> None:
        """Closes the file and removes it."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _put(self, data: ReadableBuffer) -> None:
        self._bytes += memoryview(data).nbytes
        self._sha256.update(data)
        self._file.write(data)


def _compressor(compression: str) -> Any:
    if compression == "gzip":
        return zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, wbits=zlib.MAX_WBITS | 16)
    if compression == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compressobj()
    return None
