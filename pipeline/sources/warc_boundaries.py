"""Where the records of a WARC file begin, found from any byte."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import BinaryIO, Final

from .compression import GZIP_MAGIC

RECORD_START: Final = b"WARC/"

_MEMBER_MAGIC: Final = GZIP_MAGIC + b"\x08"  # deflate is the only method (RFC 1952, section 2.3.1)
_PLAIN_RECORD: Final = re.compile(rb"(?:\A|(?<=\n))WARC/1\.[01]\r\n")
_HEADER_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n")
_SCAN: Final = 1 << 20


def is_cut_by_record(file: BinaryIO) -> bool:
    """Whether the first gzip member of a WARC file holds one record and another member follows."""
    file.seek(0)
    inflate = zlib.decompressobj(wbits=31)
    data, decoded, length = file.read(_SCAN), 0, None
    while data and not inflate.eof:
        try:
            piece = inflate.decompress(data, _SCAN)
        except zlib.error:
            return False
        length = record_length(piece) if length is None else length
        if length is None or piece[max(0, length - decoded) :].strip(b"\r\n"):
            return False
        data, decoded = inflate.unconsumed_tail, decoded + len(piece)
    follows = inflate.unused_data.startswith(_MEMBER_MAGIC)
    return follows and length is not None and length <= decoded


def record_length(head: bytes) -> int | None:
    """Bytes of the record that begins with `head`, header and block, by its own Content-Length."""
    length, end = _LENGTH.search(head), head.find(_HEADER_END)
    return end + len(_HEADER_END) + int(length[1]) if length and end >= 0 else None


def begins_warc_record(text: bytes) -> bool:
    """Whether decoded bytes begin a WARC record."""
    return text.startswith(RECORD_START)


def next_member(
    file: BinaryIO,
    offset: int,
    begins: Callable[[bytes], bool] = begins_warc_record,
    look: int = len(RECORD_START),
) -> int | None:
    """The offset of the first gzip member at or after `offset` whose first `look` decoded bytes begin a
    record.

    The bytes of a member's head can occur inside compressed data, so a candidate counts only if it decodes;
    that leaves WARC files stored uncompressed inside a record, which the split before notices
    (`split_boundary`).
    """
    file.seek(offset)
    block, base = b"", offset
    while more := file.read(_SCAN):
        block += more
        at = block.find(_MEMBER_MAGIC)
        while at >= 0:
            head = _member_head(file, base + at, block[at : at + 4096], look)
            if head is not None and begins(head):
                return base + at
            at = block.find(_MEMBER_MAGIC, at + 1)
        base += len(block) - 2
        block = block[-2:]
        file.seek(base + 2)
    return None


def _member_head(file: BinaryIO, offset: int, head: bytes, look: int) -> bytes | None:
    if len(head) < 4096:
        file.seek(offset)
        head = file.read(4096)
    try:
        return zlib.decompressobj(wbits=31).decompress(head, look)
    except zlib.error:
        return None


def next_plain_record(file: BinaryIO, offset: int) -> int | None:
    """The offset of the first line at or after `offset` that reads `WARC/1.0` or `WARC/1.1`."""
    before = max(0, offset - 1)
    file.seek(before)
    block, base = file.read(_SCAN), before
    while block:
        for match in _PLAIN_RECORD.finditer(block):
            if base + match.start() >= offset and (match.start() or not base + match.start()):
                return base + match.start()
        more = file.read(_SCAN)
        if not more:
            return None
        base += max(0, len(block) - 16)
        block = block[-16:] + more
    return None


def record_end(file: BinaryIO, start: int) -> int:
    """Where the uncompressed record at `start` ends by its own header; the next byte if it has none."""
    file.seek(start)
    return start + (record_length(file.read(64 << 10)) or 1)
