"""What was downloaded and waits for its turn: in memory up to a bound, beyond it in scratch files."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import IO, Final

from ..scratch import scratch

MEMORY: Final = 32 << 20  # bytes of all bodies together, whole ones and those that are on their way
DISK: Final = 2 << 30  # bytes in scratch files, beyond which nothing new is begun
_HEAD: Final = 4096  # bytes that tell what a body is


class ScratchFailure(Exception):
    """A body could not be put aside: no fault of the server's; the cause is the OSError."""


class Bodies:
    """The bytes that are held, however many bodies they belong to. Bodies are filled in one thread and may
    be taken in another."""

    def __init__(self, memory: int = MEMORY, disk: int = DISK) -> None:
        self.memory, self.disk = memory, disk
        self.held = self.on_disk = 0
        self.most_held = 0
        self._changing = threading.Lock()

    @property
    def full(self) -> bool:
        """Whether as much is in files as may be."""
        return self.on_disk >= self.disk

    @property
    def crowded(self) -> bool:
        """Whether half of the memory is taken, so that what is on its way needs the rest."""
        return self.held >= self.memory // 2

    def take_place(self, size: int) -> bool:
        """Counts so many bytes in, or says that they have no place in memory."""
        with self._changing:
            if self.held + size > self.memory:
                return False
            self.held += size
            self.most_held = max(self.most_held, self.held)
            return True

    def count(self, held: int, on_disk: int) -> None:
        """Adds to the counts."""
        with self._changing:
            self.held += held
            self.on_disk += on_disk


class Body:
    """One body that grows by pieces. Raises ScratchFailure where its file cannot be written or read."""

    def __init__(self, bodies: Bodies) -> None:
        self.size = 0
        self._bodies = bodies
        self._pieces: list[bytes] = []
        self._head = b""
        self._path: Path | None = None
        self._file: IO[bytes] | None = None

    def add(self, piece: bytes) -> None:
        if len(self._head) < _HEAD:
            self._head += piece[: _HEAD - len(self._head)]
        if self._file is None and self._bodies.take_place(len(piece)):
            self._pieces.append(piece)
        else:
            self._put_aside(piece)
        self.size += len(piece)

    @property
    def head(self) -> bytes:
        """The first bytes."""
        return self._head

    def end(self) -> None:
        """Nothing more comes."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise ScratchFailure(str(error)) from error

    def take(self) -> bytes:
        """The bytes, once: they are not held any longer."""
        if self._path is None:
            pieces = self._pieces
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        else:
            try:
                data = self._path.read_bytes()
            except OSError as error:
                raise ScratchFailure(str(error)) from error
        self.drop()
        return data

    def drop(self) -> None:
        """Forgets the bytes."""
        if self._path is None:
            self._bodies.count(-self.size, 0)
        else:
            if self._file is not None:
                self._file.close()
            self._path.unlink(missing_ok=True)
            self._bodies.count(0, -self.size)
        self._pieces, self._path, self._file, self.size = [], None, None, 0

    def _put_aside(self, piece: bytes) -> None:
        try:
            if self._file is None:
                self._path = scratch() / f"{uuid.uuid4().hex}.image"
                self._file = self._path.open("xb")
                self._file.write(b"".join(self._pieces))
                self._pieces = []
                self._bodies.count(-self.size, self.size)
            self._file.write(piece)
            self._bodies.count(0, len(piece))
        except OSError as error:
            raise ScratchFailure(str(error)) from error
