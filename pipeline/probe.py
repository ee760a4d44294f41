"""A file that every worker must be able to read before it gets work, and what a work directory must keep."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from .ingest import JobRefused
from .stage import Probe
from .storage import Place, RemotePath, StorageError, place
from .store import UNFINISHED, put_new, remove


@contextmanager
def probe(work: Place, run: str) -> Iterator[Probe]:
    """A probe in the work directory for as long as the context is open.

    Raises JobRefused where the directory does not take it, or a store does not keep what was there first.
    """
    content = uuid.uuid4().hex
    path = work / f"{UNFINISHED}{run}-{content[:8]}-probe"  # swept, where the run is killed meanwhile
    try:
        put_new(path, content.encode(), run)
        if isinstance(path, RemotePath) and path.create(b"another", strict=True):
            raise JobRefused(
                f"{work}: this store replaces a file that is there although it is asked not to "
                "(If-None-Match); run.work needs one that keeps what was there first"
            )
    except StorageError as error:
        raise JobRefused(f"run.work: {error.filename}: {error.strerror}") from error
    try:
        yield Probe(str(path), content)
    finally:
        remove(path)


def answer(asked: Probe) -> str | None:
    """What a worker says to a probe: None where it reads it, else why it does not and where the worker is."""
    try:
        found = place(asked.path).read_bytes().decode(errors="replace")
    except FileNotFoundError:
        found = ""
    except OSError as error:
        return f"{_here()} cannot read {asked.path}: {error.strerror or error}"
    if found == asked.content:
        return None
    told = "is not there" if not found else "is another file"
    return (
        f"{_here()} cannot reach run.work: {asked.path} {told}; name a folder that is shared by all "
        "machines, or one in an object store (s3://bucket/folder)"
    )


def _here() -> str:
    return f"a worker on {socket.gethostname()} (process {os.getpid()})"
