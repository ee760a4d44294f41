"""A remote file as a file: sequential reads in growing blocks fetched ahead, scattered ones as they are."""

from __future__ import annotations

import io
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol

from .patience import Patience, ReadError
from .stored import StoredFile
from .web import PROTOCOLS, WebFile

_FIRST_BLOCK: Final = 256 << 10
_LARGEST_BLOCK: Final = 8 << 20


class Origin(Protocol):
    """Where the bytes of one remote file come from."""

    ranged: bool  # whether a range costs only itself

    @property
    def size(self) -> int: ...

    @property
    def etag(self) -> str: ...

    def fetch(self, start: int, stop: int) -> bytes: ...

    def close(self) -> None: ...


def origin(path: str, patience: Patience | None = None) -> Origin:
    """The origin behind a URL. Raises ImportError or ValueError for a protocol that cannot be spoken."""
    patience = patience or Patience.from_environment()
    web = path.partition("://")[0] in PROTOCOLS
    return WebFile(path, patience) if web else StoredFile(path, patience)


class RemoteFile(io.RawIOBase):
    """Reads an origin. With `ahead`, a block follows the one that is asked for: 256 KiB first, twice as much
    with each that is read in a row, up to 8 MiB, and the next is fetched meanwhile; without, exactly what is
    asked for is fetched.

    Blocks end at byte `until`, where the reader probably stops; behind it they begin to grow anew.

    Memory: two blocks. Raises OSError: FileNotFoundError, PermissionError or ReadError with the URL.
    """

    def __init__(self, origin: Origin, ahead: bool = True, until: int | None = None) -> None:
        super().__init__()
        self.origin = origin
        self.failure: OSError | None = None  # for callers whose library turns exceptions into its own
        self._ahead = ahead
        self._until = until
        self._position = 0
        self._begin = 0  # of the block that is held
        self._block = b""
        self._size_next = _FIRST_BLOCK
        self._worker: ThreadPoolExecutor | None = None
        self._coming: tuple[int, int, Future[bytes]] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        self._position = max(0, offset + (self._guarded_size() if base is None else base))
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Exactly `size` bytes, fewer only at the end of the file."""
        end = self._guarded_size()
        stop = end if size is None or size < 0 else min(end, self._position + size)
        taken: list[bytes] = []
        while self._position < stop:
            within = self._position - self._begin
            if not 0 <= within < len(self._block):
                self._load(stop)
                within = 0
            piece = self._block[within : within + stop - self._position]
            taken.append(piece)
            self._position += len(piece)
        if not self._ahead:
            self._block = b""
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            if self._coming is not None:
                self._coming[2].cancel()
            if self._worker is not None:
                self._worker.shutdown(wait=True, cancel_futures=True)
            self.origin.close()
        super().close()

    def _load(self, stop: int) -> None:
        """Holds the block at the position."""
        begin = self._position
        follows = bool(self._block) and begin == self._begin + len(self._block)
        if not self._ahead:
            self._begin, self._block = begin, self._fetch(begin, stop)
            return
        if not follows:
            self._size_next = _FIRST_BLOCK
        coming, self._coming = self._coming, None
        if coming is not None and coming[0] == begin:
            block = self._result(coming[2])
        else:
            if coming is not None:
                coming[2].exception()  # an origin serves one request at a time
            block = self._fetch(begin, self._block_end(begin, stop))
        self._begin, self._block = begin, block
        end = begin + len(block)
        if end == self._until:
            self._size_next = _FIRST_BLOCK
        elif follows:
            self._size_next = min(_LARGEST_BLOCK, 2 * self._size_next)
            self._fetch_ahead(end)

    def _block_end(self, begin: int, stop: int) -> int:
        wanted = begin + min(_LARGEST_BLOCK, max(self._size_next, stop - begin))
        if self._until is not None and begin < self._until:
            wanted = min(wanted, self._until)
        return min(self.origin.size, wanted)

    def _fetch_ahead(self, begin: int) -> None:
        stop = self._block_end(begin, begin)
        if begin < stop:
            self._worker = self._worker or ThreadPoolExecutor(1, "thresher-read-ahead")
            self._coming = begin, stop, self._worker.submit(self.origin.fetch, begin, stop)

    def _result(self, future: Future[bytes]) -> bytes:
        try:
            return future.result()
        except Exception as error:
            raise self._remember(error) from error

    def _fetch(self, start: int, stop: int) -> bytes:
        try:
            return self.origin.fetch(start, stop)
        except Exception as error:
            raise self._remember(error) from error

    def _guarded_size(self) -> int:
        try:
            return self.origin.size
        except Exception as error:
            raise self._remember(error) from error

    def _remember(self, error: Exception) -> OSError:
        failure = error if isinstance(error, OSError) else ReadError(f"{type(error).__name__}: {error}")
        self.failure = failure
        return failure
