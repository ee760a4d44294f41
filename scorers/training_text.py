"""Labelled text as fastText reads it: shuffled lines to learn from, and lines that are held out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import xxhash

LABEL_PREFIX: Final = "__label__"
_BUCKETS: Final = 64
# Words that mean more than themselves: a label, and the end of a line (`Dictionary::readWord` and `EOS` in
# src/dictionary.cc of facebookresearch/fastText), between the separators that fastText knows.
_MARKS: Final = re.compile(r"(?<![^\0\t-\r ])(?:__label__[^\0\t-\r ]*|</s>)(?![^\0\t-\r ])")
_BREAKS: Final = str.maketrans("\n\0", "  ")


class TrainingText:
    """Collects documents in a folder, one line each.

    fastText takes lines as they come, so they are put in the order of hash(seed, text): labels mix, and the
    model does not depend on the order of the input. The other half of that hash decides what is held out.
    Memory: one 64th of the text.
    """

    def __init__(self, folder: Path, labels: Sequence[str], seed: int, held_out: float) -> None:
        self.documents = dict.fromkeys(labels, 0)
        self.held_out = dict.fromkeys(labels, 0)
        self.skipped = 0
        self._folder = folder
        self._seed = f"{seed}\0".encode()
        self._bound = int(held_out * 2**64)
        self._buckets = [(folder / f"bucket-{number}").open("wb") for number in range(_BUCKETS)]
        self._held = {label: (folder / f"held-{number}").open("wb") for number, label in enumerate(labels)}

    def add(self, label: str, texts: pa.Array) -> None:
        """Adds documents; those without a word are skipped."""
        for text in texts.to_pylist():
            line = as_line(text)
            if not line:
                self.skipped += 1
                continue
            encoded = line.encode("utf-8", "replace")
            split, order = divmod(xxhash.xxh3_128_intdigest(self._seed + encoded), 2**64)
            if split < self._bound:
                self.held_out[label] += 1
                self._held[label].write(encoded + b"\n")
            else:
                self.documents[label] += 1
                marked = b"%s%s %s\n" % (LABEL_PREFIX.encode(), label.encode(), encoded)
                self._buckets[order % _BUCKETS].write(order.to_bytes(8, "big") + marked)

    def close(self) -> tuple[Path, str]:
        """Writes the file to train on. Returns its path and its SHA-256 in hexadecimal."""
        path, digest = self._folder / "training.txt", hashlib.sha256()
        for file in [*self._buckets, *self._held.values()]:
            file.close()
        with path.open("wb") as training:
            for file in self._buckets:
                bucket = Path(file.name)
                lines = b"".join(record[8:] for record in sorted(_records(bucket)))
                bucket.unlink()
                digest.update(lines)
                training.write(lines)
        return path, digest.hexdigest()

    def held_out_lines(self, label: str, count: int) -> Iterator[list[str]]:
        """The held-out documents of a label, at most `count` at a time."""
        lines: list[str] = []
        with open(self._held[label].name, encoding="utf-8", newline="\n") as file:
            for line in file:
                lines.append(line.rstrip("\n"))
                if len(lines) == count:
                    yield lines
                    lines = []
        if lines:
            yield lines


def as_line(text: str | None) -> str:
    """A document as one line without labels or end marks of its own; empty if no word is left."""
    line = _MARKS.sub("", (text or "").translate(_BREAKS))
    return line if line.strip() else ""


def _records(bucket: Path) -> Iterator[bytes]:
    """The eight bytes of order and the line of each document; those bytes may hold a newline themselves."""
    content, start = bucket.read_bytes(), 0
    while start < len(content):
        stop = content.index(b"\n", start + 8) + 1
        yield content[start:stop]
        start = stop
