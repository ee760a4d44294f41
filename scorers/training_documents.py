"""Documents that a language model learns from: in an order of their own, some of them held out."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from .kenlm_model import Lines, Normalization, prepare

_BUCKETS: Final = 256
_RECORD: Final = struct.Struct(">Q?I")  # the order, whether held out, the length of the UTF-8 behind it


class TrainingDocuments:
    """Collects documents in a folder, and gives back the first `count` of them in the order of their hashes.

    The order is hash(seed, text), so what is learned does not depend on the order of the input; the other
    half of that hash decides what is held out, so copies of a text fall on the same side. Memory: one 256th
    of the text; disk: little more than what is given back.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        held_out: float,
        count: int,
        normalization: Normalization = "ccnet",
        lines: Lines = "joined",
    ) -> None:
        self.skipped = 0  # records without text
        self._normalization, self._lines = normalization, lines
        self._seed = f"{seed}\0".encode()
        self._bound = int(held_out * 2**64)
        self._count = count
        self._files: list[BinaryIO] = [
            (folder / f"documents-{number}").open("w+b") for number in range(_BUCKETS)
        ]
        self._learned = [0] * _BUCKETS

    def add(self, texts: pa.Array) -> None:
        """Adds documents; those of which nothing is left are skipped."""
        for document in _documents(texts, self._normalization, self._lines):
            encoded = document.encode("utf-8", "replace")
            if not encoded.strip():
                self.skipped += 1
                continue
            split, order = divmod(xxhash.xxh3_128_intdigest(self._seed + encoded), 2**64)
            held, bucket = split < self._bound, order * _BUCKETS >> 64
            if bucket < len(self._files):
                self._files[bucket].write(_RECORD.pack(order, held, len(encoded)) + encoded)
                self._learned[bucket] += not held
        self._forget()

    def learned(self) -> Iterator[list[str]]:
        """The lines of each document to learn from."""
        left = self._count
        for held, document in self._read():
            if not held and left:
                left -= 1
                yield document.split("\n")

    def held_out(self) -> Iterator[list[str]]:
        """The lines of each document that is held out."""
        return (document.split("\n") for held, document in self._read() if held)

    def close(self) -> None:
        """Closes its files."""
        for file in self._files:
            file.close()

    def _forget(self) -> None:
        """Lets go of the buckets behind the last document that can be given back."""
        while self._files and sum(self._learned[:-1]) >= self._count:
            self._learned.pop()
            file = self._files.pop()
            file.close()
            Path(file.name).unlink()

    def _read(self) -> Iterator[tuple[bool, str]]:
        for file in self._files:
            file.seek(0)
            for _, held, document in sorted(_records(file.read())):
                yield held, document.decode()


class DataDigest:
    """Passes lines on and keeps their SHA-256 and how many documents they were."""

    def __init__(self, documents: Iterable[list[str]]) -> None:
        self._documents = documents
        self._digest = hashlib.sha256()
        self.documents = 0

    def __iter__(self) -> Iterator[str]:
        for lines in self._documents:
            self.documents += 1
            for line in lines:
                self._digest.update(line.encode() + b"\n")
                yield line

    def hexdigest(self) -> str:
        """Of the lines so far, each with its newline."""
        return self._digest.hexdigest()


def _documents(texts: pa.Array, normalization: Normalization, lines: Lines) -> list[str]:
    """The documents in their normal form; only separate lines have newlines between them."""
    texts = pc.replace_substring(pc.fill_null(texts, ""), "\0", " ")
    if lines == "joined":
        if normalization == "none":
            texts = pc.replace_substring(texts, "\n", " ")
        return prepare(texts, normalization).to_pylist()  # type: ignore[no-any-return]
    split = pc.split_pattern(texts, "\n")
    kind = pa.LargeListArray if pa.types.is_large_list(split.type) else pa.ListArray
    whole = kind.from_arrays(split.offsets, prepare(split.flatten(), normalization).cast(texts.type))
    return pc.binary_join(whole, "\n").to_pylist()  # type: ignore[no-any-return]


def _records(content: bytes) -> Iterator[tuple[int, bool, bytes]]:
    at = 0
    while at < len(content):
        order, held, length = _RECORD.unpack_from(content, at)
        at += _RECORD.size
        yield order, held, content[at : at + length]
        at += length
