"""Members of a tar archive, read once and forward: POSIX USTAR, PAX, GNU long names, and what is broken.

Nothing is unpacked and no link is followed. tarfile, which does more, takes twenty times as long for a
header, and ends in silence where one is damaged.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from .compression import Fault

BLOCK: Final = 512
_ZEROS: Final = bytes(BLOCK)
_BLANKS: Final = 8 * ord(" ")  # the checksum is taken with blanks in its own place
_ADLER: Final = 65_521  # the low half of Adler-32 is one more than the sum of the bytes, modulo this
_MOST_EXTENSION: Final = 1 << 20  # bytes of a PAX header or a long name; a choice of ours
_LARGEST: Final = 1 << 62
_PIECE: Final = 1 << 20  # bytes asked of a file at a time

# Type flags (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar, src/tar.h).
_FILE: Final = ord("0")
_REGULAR: Final = b"0\x007"
_WITHOUT_DATA: Final[Mapping[int, str]] = {
    ord("1"): "hard_link",
    ord("2"): "symbolic_link",
    ord("3"): "device",
    ord("4"): "device",
    ord("5"): "folder",
    ord("6"): "fifo",
}
# Name, size and checksum, each with the byte behind it, flag, first byte of the prefix, in a header as usual.
_PLAIN: Final = struct.Struct("100s24x11sB12x6sBxB188xB166x")
_PAX: Final = b"xX"
_PAX_GLOBAL: Final = ord("g")
_GNU_NAME: Final = ord("L")
_GNU_LINK: Final = ord("K")
_GNU_SPARSE: Final = ord("S")

_PAX_RECORD: Final = re.compile(rb"(\d{1,7}) ([^=\n]+)=")
# What in a PAX header says more than who wrote the member, and when.
_TELLING: Final = (b" path=", b" size=", b" GNU.sparse.")


@dataclass(slots=True)
class TarMember:
    """One member: `kind` is `file`, or why it is not one to read."""

    offset: int  # decoded, of its first header
    name: bytes
    size: int
    kind: str = "file"


class _Broken(Exception):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Stream(Protocol):
    """What an archive is read from: Decoded, or PlainFile."""

    fault: Fault | None

    def pieces(self) -> Iterator[bytes | memoryview]:
        """All bytes, in pieces as they come; with a fault they end."""


class PlainFile:
    """A file that is not compressed, from where it stands.

    Pieces lie in memory of Arrow's, which keeps it at hand: bytes of this size go back to the system with
    each piece, and to have them again takes longer than to read them.
    """

    fault: Fault | None = None

    def __init__(self, file: FileIO) -> None:
        self._file = file

    def pieces(self) -> Iterator[memoryview]:
        """See Stream. Raises OSError as the file system does."""
        while True:
            room = np.frombuffer(pa.allocate_buffer(_PIECE), np.uint8).data
            count = self._file.readinto(room)
            if not count:
                return
            yield room[:count]


class TarArchive:
    """Goes from member to member. Where it can go no further `fault` says why; what came before stands.

    The faults: `not_tar`, `bad_header`, `truncated` (also where the blocks that end an archive are missing),
    `trailing_data` behind them (another archive: only `tar --concatenate` joins two), and those of the
    compression.
    """

    def __init__(self, stream: Stream) -> None:
        self.fault: Fault | None = None
        self._stream = stream
        self._pieces = stream.pieces()
        # A piece of which the beginning has been used.
        self._pending: tuple[bytes | memoryview, int] | None = None
        self._window: bytes | memoryview = b""
        self._at = 0  # in the window
        self._base = 0  # of the window, decoded
        self._left = 0  # bytes of the member at hand, padding included, that are still to be passed
        self._size = 0  # of its content, as far as it has not been read

    def next(self) -> TarMember | None:
        """The next member; None at the end of what can be read."""
        left = self._left
        if left > len(self._window) - self._at:
            if self.fault is not None or not self._pass(left):
                return None
        else:
            self._at += left
            self._left = 0
        if self.fault is not None:
            return None
        try:
            return self._next_plain() or self._next()
        except _Broken as broken:
            self._end("bad_header" if self._base + self._at else "not_tar", broken.detail)
            return None

    def content(self) -> bytes | None:
        """The bytes of the member that `next` gave last; None, with a fault, if the archive ends before."""
        size = self._size
        if size > len(self._window) - self._at and not self._fill(size):
            self._cut("the archive ends inside a member")
            return None
        found = bytes(self._window[self._at : self._at + size])
        self._at += size
        self._left -= size
        self._size = 0
        return found

    def held_from(self, offset: int) -> tuple[bytes | memoryview, int]:
        """What is in memory, and where in it the decoded offset is; negative where it is there no longer."""
        return self._window, offset - self._base

    def go_on(self, at: int) -> None:
        """Takes what has the place `at` in memory for the next header."""
        self._at, self._left, self._size = at, 0, 0

    def _next_plain(self) -> TarMember | None:
        """The next member where all of it is as usual: most are, and this takes a third of the time."""
        at, window = self._at, self._window
        if len(window) - at < BLOCK:
            return None
        name, size, twelfth, stated, end, flag, prefix = _PLAIN.unpack_from(window, at)
        if end or twelfth & 0xDF or flag != _FILE or prefix or not (size.isdigit() and stated.isdigit()):
            return None
        total = (
            (zlib.adler32(window[at : at + BLOCK]) & 0xFFFF) - sum(stated) - window[at + 155] + _BLANKS - 1
        )
        try:
            length = int(size, 8)
            if total % _ADLER != int(stated, 8):
                return None
        except ValueError:
            return None
        self._at = at + BLOCK
        self._size = length
        self._left = length + -length % BLOCK
        return TarMember(self._base + at, name.partition(b"\0")[0], length)

    def _next(self) -> TarMember | None:
        offset = self._base + self._at
        name: bytes | None = None
        size: int | None = None
        sparse = False
        while True:
            header = self._header(began=self._base + self._at > offset)
            if header is None:
                return None
            flag, length = header[156], _number(header, 124, 136)
            if flag in _PAX or flag in (_PAX_GLOBAL, _GNU_NAME, _GNU_LINK):
                body = self._extension(length)
                if body is None:
                    return None
                if flag == _GNU_NAME:
                    name = body.partition(b"\0")[0]
                elif flag != _GNU_LINK and any(key in body for key in _TELLING):
                    told = _pax(body)
                    if flag == _PAX_GLOBAL:
                        raise _Broken("a global header names or measures members")
                    name = told.get(b"path") or name
                    size = _decimal(told[b"size"]) if b"size" in told else size
                    sparse = sparse or any(key.startswith(b"GNU.sparse.") for key in told)
                continue
            length = length if size is None else size
            member = TarMember(offset, _name(header) if name is None else name, length)
            if flag in _WITHOUT_DATA:
                member.kind, length = _WITHOUT_DATA[flag], 0
            elif flag == _GNU_SPARSE:
                member.kind = "sparse"
                if not self._pass_sparse_map(header):
                    return None
            elif flag not in _REGULAR:
                member.kind = "unknown_type"
            elif sparse:
                member.kind = "sparse"
            elif flag == 0 and member.name.endswith(b"/"):
                member.kind, length = "folder", 0
            self._size = length
            self._left = length + -length % BLOCK
            return member

    def _header(self, began: bool) -> bytes | None:
        """The block at the position if it is a header; None, with what there is to say, at the end."""
        if not self._fill(BLOCK):
            held = len(self._window) - self._at
            if self._stream.fault is None and not held and not self._base + self._at:
                self._end("not_tar", "an empty file is no archive")
            elif held or began:
                self._cut("the archive ends inside a header")
            else:
                self._cut("the blocks of zeros that end an archive are missing")
            return None
        header = bytes(self._window[self._at : self._at + BLOCK])
        if header == _ZEROS:
            if began:
                raise _Broken("no member follows its extended header")
            self._judge_end()
            return None
        blank = header[:148] + b" " * 8 + header[156:]
        stated = _number(header, 148, 156)
        total = (zlib.adler32(blank) & 0xFFFF) - 1
        if total % _ADLER != stated % _ADLER and stated != _signed_sum(blank):
            raise _Broken("the checksum of a header is wrong")
        self._at += BLOCK
        return header

    def _extension(self, length: int) -> bytes | None:
        """The content of an extended header."""
        if length > _MOST_EXTENSION:
            raise _Broken(f"an extended header of {length} bytes")
        padded = length + -length % BLOCK
        if not self._fill(padded):
            self._cut("the archive ends inside an extended header")
            return None
        body = bytes(self._window[self._at : self._at + length])
        self._at += padded
        return body

    def _pass_sparse_map(self, header: bytes) -> bool:
        """Steps over the blocks that go on with the map of a sparse member (GNU tar, src/tar.h)."""
        more = header[482]
        while more:
            if not self._fill(BLOCK):
                self._cut("the archive ends inside the map of a sparse member")
                return False
            more = self._window[self._at + 504]
            self._at += BLOCK
        return True

    def _judge_end(self) -> None:
        """Looks at what follows the end of the archive, which should be zeros."""
        offset = self._base + self._at
        while True:
            rest = bytes(self._window[self._at :])
            if rest.strip(b"\0"):
                self._end(
                    "trailing_data", f"what follows the end of the archive, at byte {offset}, is not zero"
                )
                return
            self._at = len(self._window)
            if not self._fill(1):
                if self._stream.fault is not None:
                    self._cut("")
                elif self._base + self._at - offset < 2 * BLOCK:
                    self._cut("one of the two blocks of zeros that end an archive is missing")
                return

    def _fill(self, size: int) -> bool:
        """Whether `size` bytes follow the position, which are then in the window.

        A piece of the stream becomes the window as it is; only what lies across two of them is copied.
        """
        held = len(self._window) - self._at
        if held >= size:
            return True
        position = self._base + self._at
        parts = [self._window[self._at :]] if held else []
        while held < size:
            piece, begin = self._take_piece()
            if not piece:
                break
            if not parts and len(piece) - begin >= size:
                self._window, self._at, self._base = piece, begin, position - begin
                return True
            parts.append(piece[begin : begin + size - held])
            held += len(parts[-1])
            begin += len(parts[-1])
            if begin < len(piece):
                self._pending = piece, begin
        self._window, self._at, self._base = b"".join(parts), 0, position
        return held >= size

    def _take_piece(self) -> tuple[bytes | memoryview, int]:
        """The next piece of the stream and how much of it has been used; an empty one at the end."""
        found, self._pending = self._pending, None
        return found or (next(self._pieces, b""), 0)

    def _pass(self, size: int) -> bool:
        """Steps over bytes without keeping them."""
        held = len(self._window) - self._at
        while size > held:
            size -= held
            end = self._base + len(self._window)
            self._window, self._at = self._take_piece()
            self._base = end - self._at
            held = len(self._window) - self._at
            if not held:
                self._left = 0
                self._cut("the archive ends inside a member")
                return False
        self._at += size
        self._left = 0
        return True

    def _cut(self, detail: str) -> None:
        """The stream has ended, for a reason of its own or because the archive does."""
        self.fault = self._stream.fault or Fault("truncated", self._base + self._at, detail)

    def _end(self, reason: str, detail: str) -> None:
        self.fault = self._stream.fault or Fault(reason, self._base + self._at, detail)


def _number(header: bytes, start: int, stop: int) -> int:
    """A numeric field: octal digits, or GNU's base 256 (first bit set). Raises _Broken."""
    field = header[start:stop]
    if field[0] & 0x80:
        if field[0] == 0xFF:
            raise _Broken("a negative number")
        value = int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
    else:
        digits = field.partition(b"\0")[0].strip(b" ")
        if not digits:
            return 0
        if digits.strip(b"01234567"):
            raise _Broken(f"{digits[:12]!r} is no octal number")
        value = int(digits, 8)
    if value >= _LARGEST:
        raise _Broken(f"a size of {value} bytes")
    return value


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 19 or int(digits) >= _LARGEST:
        raise _Broken(f"a PAX size of {digits[:24]!r}")
    return int(digits)


def _signed_sum(blank: bytes) -> int:
    """The checksum as some old programs computed it, from signed bytes."""
    return sum(blank) - 256 * sum(byte > 127 for byte in blank)


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and header[345]:
        return header[345:500].partition(b"\0")[0] + b"/" + name
    return name


def _pax(body: bytes) -> dict[bytes, bytes]:
    """The records of a PAX header, the last of those that repeat. Raises _Broken."""
    told: dict[bytes, bytes] = {}
    at = 0
    while at < len(body) and body[at]:
        record = _PAX_RECORD.match(body, at)
        end = at + int(record[1]) if record else 0
        if record is None or end <= record.end() or end > len(body) or body[end - 1] != 0x0A:
            raise _Broken("a PAX header that is none")
        told[record[2]] = body[record.end() : end - 1]
        at = end
    return told
