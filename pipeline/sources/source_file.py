"""What a job knows of an input file before it reads it."""

from __future__ import annotations

from dataclasses import dataclass


class SourceError(Exception):
    """An input names nothing that can be read. The message says what was looked for and what is near it."""


@dataclass(frozen=True)
class SourceFile:
    """One input file as it was when the job first looked.

    `etag` changes when the file does: its modification time in nanoseconds where it is local, otherwise what
    the store gives as entity tag, checksum or date (empty where it gives none).
    """

    path: str
    size: int  # bytes
    etag: str
