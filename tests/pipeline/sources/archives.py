"""Builds tar archives with tarfile, and reads them as webdataset does."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}

Members = Iterable[tuple[str, bytes]]


def member(name: str, size: int = 0, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def pack(members: Members, format: str = "ustar", **fields: Any) -> bytes:
    """An archive of regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=FORMATS[format]) as tar:
        for name, content in members:
            tar.addfile(member(name, len(content), **fields), io.BytesIO(content))
    return buffer.getvalue()


def write(path: Path, members: Members, format: str = "ustar") -> Path:
    path.write_bytes(pack(members, format))
    return path


def checked(header: bytes | bytearray) -> bytes:
    """A header with the checksum that it should have."""
    blank = bytes(header[:148]) + b" " * 8 + bytes(header[156:])
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def block(
    name: bytes, size: bytes = b"00000000000\0", flag: bytes = b"0", more: Mapping[int, bytes] = {}
) -> bytes:
    """A header written by hand; `more` is what stands at which byte."""
    header = bytearray(512)
    header[: len(name)] = name
    header[100:108], header[124:136] = b"0000644\0", size.ljust(12, b"\0")
    header[156:157], header[257:265] = flag, b"ustar\x0000"
    for at, value in more.items():
        header[at : at + len(value)] = value
    return checked(header)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def pax_record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    while len(b"%d" % size) + len(key) + len(value) + 3 != size:
        size = len(b"%d" % size) + len(key) + len(value) + 3
    return b"%d %b=%b\n" % (size, key, value)


def as_webdataset_reads(path: Path) -> list[dict[str, Any]]:
    """The samples, without what webdataset adds; what it cannot read it passes over."""
    import webdataset

    dataset = webdataset.WebDataset(
        str(path), shardshuffle=False, handler=webdataset.ignore_and_continue, empty_check=False
    )
    added = ("__url__", "__local_path__")
    return [{key: value for key, value in sample.items() if key not in added} for sample in dataset]
