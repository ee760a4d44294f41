"""One decoded byte stream out of a plain, gzip (many members) or zstd (many frames) file.

It knows where each member began, and a broken file ends the stream with a fault instead of an exception, so
that what came before the fault is kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from isal import isal_zlib

from .limits import ReadLimits

GZIP_MAGIC: Final = b"\x1f\x8b"  # RFC 1952, section 2.3.1
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"  # RFC 8878, section 3.1.1

_BLOCK: Final = 1 << 20  # bytes asked of the file at a time
# What follows a member's end inside a feed is copied by zlib; small feeds keep that cheap for small members.
_GZIP_FEED: Final = 16 << 10
_GZIP_PIECE: Final = 256 << 10
# The zstd binding has no limit on its output; a kilobyte of input can make at most some 40 MB of it.
_ZSTD_FEED: Final = 1 << 10


@dataclass(frozen=True)
class Fault:
    """Why a stream ended early: `truncated` or `corrupt`, and the file offset of the member that it is in."""

    reason: str
    offset: int
    detail: str


class _Broken(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


def compression_of(head: bytes) -> str:
    """`gzip`, `zstd` or `plain`, from the first four bytes of a file."""
    if head.startswith(GZIP_MAGIC):
        return "gzip"
    return "zstd" if head.startswith(ZSTD_MAGIC) else "plain"


class Decoded:
    """File-like: `read(size)` gives decoded bytes, b"" at the end or at a fault (then `fault` is set).

    `file` stands at byte `start`, where a member (or a plain file's wanted range) begins. With `limits`, a
    stream that grows out of all proportion to its file ends with the fault `decompression_bomb`.
    """

    def __init__(
        self, file: BinaryIO, compression: str, start: int = 0, limits: ReadLimits | None = None
    ) -> None:
        self._start = start
        self._limits = limits if compression != "plain" else None
        self.fault: Fault | None = None
        self.failure: OSError | None = None  # what the file system raised, for whoever catches it on the way
        self.compression = compression
        self._pieces = _PIECES[compression](file, start)
        self._member_starts: list[int] = []  # file offsets
        self._decoded_starts: list[int] = []  # decoded offsets of the same members
        self._decoded = 0
        self._piece = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """At most `size` decoded bytes; all that remain if it is negative."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_BLOCK), b""))
        if not self._piece:
            self._piece = memoryview(self._next())
        taken, self._piece = self._piece[:size], self._piece[size:]
        return bytes(taken)

    def tell(self) -> int:
        """Decoded bytes given so far."""
        return self._decoded - len(self._piece)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Refused: a stream goes forward. Raises OSError."""
        raise OSError(f"cannot seek to {offset} (from {whence}): a decoded stream goes forward only")

    def close(self) -> None:
        """Nothing to release: the file belongs to the caller."""

    def pieces(self) -> Iterator[bytes]:
        """The decoded bytes that remain, in pieces as they come."""
        if self._piece:
            held, self._piece = bytes(self._piece), memoryview(b"")
            yield held
        while piece := self._next():
            yield piece

    @property
    def length(self) -> int:
        """Decoded bytes so far."""
        return self._decoded

    def origin(self, decoded: int) -> tuple[int, int]:
        """The file offset of the member that holds the decoded offset, and the decoded bytes from its
        start."""
        index = bisect_right(self._decoded_starts, decoded) - 1
        if index < 0:
            return 0, decoded
        return self._member_starts[index], decoded - self._decoded_starts[index]

    def member_after(self, decoded: int) -> int | None:
        """The file offset of the first member that begins after the decoded offset, if one was met."""
        index = bisect_right(self._decoded_starts, decoded)
        return self._member_starts[index] if index < len(self._member_starts) else None

    def _next(self) -> bytes:
        if self.fault is not None:
            return b""
        try:
            member, piece, coded = next(self._pieces)
            if self._limits is not None:
                self._refuse_bomb(member, self._decoded + len(piece), coded - self._start)
        except StopIteration:
            return b""
        except _Broken as broken:
            self.fault = broken.fault
            return b""
        except OSError as error:
            self.failure = error
            raise
        if not self._member_starts or member != self._member_starts[-1]:
            self._member_starts.append(member)
            self._decoded_starts.append(self._decoded)
        self._decoded += len(piece)
        return piece

    def _refuse_bomb(self, member: int, decoded: int, coded: int) -> None:
        assert self._limits is not None
        if decoded > max(self._limits.stream_free_bytes, coded * self._limits.max_ratio):
            detail = f"{coded} bytes make more than {decoded}, above max_ratio {self._limits.max_ratio:g}"
            raise _Broken(Fault("decompression_bomb", member, detail))


class _Feed:
    """Slices of a file, with the offset of the next unread byte."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self.offset = start
        self._file = file
        self._size = size
        self._block = memoryview(b"")

    def peek(self) -> memoryview:
        if not self._block:
            self._block = memoryview(self._file.read(_BLOCK))
        return self._block[: self._size]

    def advance(self, count: int) -> None:
        self._block = self._block[count:]
        self.offset += count


_Pieces = Iterator[
    tuple[int, bytes, int]
]  # the member's offset, decoded bytes, the next unread byte's offset


def _plain(file: BinaryIO, start: int) -> _Pieces:
    while block := file.read(_BLOCK):
        yield start, block, 0


def _gzip(file: BinaryIO, start: int) -> _Pieces:
    feed = _Feed(file, start, _GZIP_FEED)
    while _skip_padding(feed):
        member, inflate = feed.offset, isal_zlib.decompressobj(wbits=31)
        if bytes(feed.peek()[3:4]) > b"\x1f":  # RFC 1952, section 2.3.1.2: reserved bits must be zero
            raise _Broken(Fault("corrupt", member, "gzip: unknown header flags set"))
        while not inflate.eof:
            data = feed.peek()
            try:
                piece = inflate.decompress(data, _GZIP_PIECE)
            except isal_zlib.IsalError as error:  # type: ignore[misc]
                raise _Broken(Fault("corrupt", member, f"gzip: {error}")) from error
            feed.advance(len(data) - len(inflate.unused_data if inflate.eof else inflate.unconsumed_tail))
            if piece:
                yield member, piece, feed.offset
            elif not data:
                raise _Broken(Fault("truncated", member, "the file ends inside a gzip member"))


def _skip_padding(feed: _Feed) -> bool:
    """Steps over zero bytes between members, as gzip does; whether anything follows."""
    while data := feed.peek():
        rest = len(bytes(data).lstrip(b"\0")) if data[0] == 0 else len(data)
        feed.advance(len(data) - rest)
        if rest:
            return True
    return False


def _zstd(file: BinaryIO, start: int) -> _Pieces:
    import zstandard

    feed = _Feed(file, start, _ZSTD_FEED)
    decompressor = zstandard.ZstdDecompressor()
    while feed.peek():
        frame, decoder = feed.offset, decompressor.decompressobj()
        while not decoder.eof:
            data = feed.peek()
            if not data:
                raise _Broken(Fault("truncated", frame, "the file ends inside a zstd frame"))
            try:
                piece = decoder.decompress(data)
            except zstandard.ZstdError as error:
                raise _Broken(Fault("corrupt", frame, f"zstd: {error}")) from error
            feed.advance(len(data) - (len(decoder.unused_data) if decoder.eof else 0))
            if piece:
                yield frame, piece, feed.offset


_PIECES: Final = {"plain": _plain, "gzip": _gzip, "zstd": _zstd}
