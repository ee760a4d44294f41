"""A folder of pictures with a JSON Lines file that says which caption each has."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from .files import is_remote, open_file
from .jsonl import RecordError, parse_object
from .pairs import PairFields
from .remote import RemoteFile

_ABSENT: Final = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EISDIR)
_FILE: Final = "file"


class FolderParser:
    """Turns a line into a picture and its caption.

    `image` of `columns` is the field that names the file, `file` if it is left out. A path is relative to the
    JSON Lines file and stays below its folder: an absolute one, `..`, and a symbolic link that leads
    elsewhere are refused.
    """

    def __init__(self, path: str, columns: Mapping[str, str], max_bytes: int) -> None:
        self._file = columns.get("image", _FILE)
        self._fields = PairFields(columns)
        self._most = max_bytes
        self._remote = is_remote(path)
        self._folder = path.rpartition("/")[0] if self._remote else os.path.dirname(os.path.abspath(path))
        self._root = self._folder if self._remote else os.path.realpath(self._folder)
        self._quoted = path.startswith(("http://", "https://"))

    def parse(self, data: bytes) -> dict[str, Any]:
        """The arguments of `Rows.add`, without `source`. Raises RecordError."""
        if not data.strip():
            raise RecordError("empty_line")
        fields = parse_object(data)
        identity = self._fields.identity(fields)
        name = fields.get(self._file)
        if not isinstance(name, str) or not name:
            raise RecordError("missing_file_name", f"no name in {self._file!r}", identity)
        try:
            _judge(name)
            image = self._fetch(name) if self._remote else self._read(name)
        except RecordError as error:
            error.record = identity
            raise
        if not image:
            raise RecordError("empty_file", f"{name!r} holds no bytes", identity)
        return self._fields.record(fields, identity, image)

    def _read(self, name: str) -> bytes:
        path = os.path.realpath(os.path.join(self._root, name))
        if os.path.commonpath([self._root, path]) != self._root:
            raise RecordError("refused_path", f"{name!r} leads out of the folder")
        try:
            # What is no regular file must not be waited for, nor a link followed that came there since.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise _refused(name, error) from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise RecordError("not_a_file", f"{name!r} is no regular file")
            self._check_size(name, found.st_size)
        except BaseException:
            os.close(descriptor)
            raise
        with open(descriptor, "rb", buffering=0) as file:
            parts: list[bytes] = []
            held = 0
            while held <= self._most and (part := file.read(self._most + 1 - held)):
                parts.append(part)
                held += len(part)
        self._check_size(name, held)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _fetch(self, name: str) -> bytes:
        path = f"{self._folder}/{quote(name) if self._quoted else name}"
        try:
            with open_file(path, ahead=False) as file:
                assert isinstance(file, RemoteFile)
                self._check_size(name, file.origin.size)
                return file.read()
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise _refused(name, error) from error

    def _check_size(self, name: str, size: int) -> None:
        if size > self._most:
            raise RecordError("payload_too_large", f"{name!r} has {size} bytes or more")


def _judge(name: str) -> None:
    """Raises RecordError for a path that could lead out of a folder."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or "://" in name or "\0" in name:
        raise RecordError("refused_path", f"{name[:200]!r} is no path below the folder")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise RecordError("refused_path", f"{name[:200]!r} is no Unicode") from error


def _refused(name: str, error: OSError) -> RecordError | OSError:
    """The record's error; any other is the file system's, and says nothing of the record."""
    told = repr(name[:200])
    if isinstance(error, PermissionError):
        return RecordError("unreadable_file", f"{told} may not be read")
    if error.errno == errno.ELOOP:
        return RecordError("refused_path", f"{told} is a link that changed")
    if error.errno in (errno.ENXIO, errno.ENODEV):
        return RecordError("not_a_file", f"{told} is no regular file")
    if isinstance(error, FileNotFoundError) or error.errno in _ABSENT:
        return RecordError("missing_file", f"{told} is not there")
    return error
