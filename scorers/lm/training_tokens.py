"""Documents as one stream of tokens on disk, which a language model learns from in rows of its context."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from .model import LanguageModel
from .tokenizer import Tokenizer

TYPE: Final = np.dtype("<u4")
_CHARS: Final = 1 << 21  # encoded at a time


@dataclass(frozen=True)
class TokenStream:
    """Tokens in a file: documents with marks between them, as far as they were wanted."""

    path: Path
    tokens: int
    documents: int
    bytes: int  # of UTF-8
    sha256: str  # of the documents, each with a zero byte behind it

    def rows(self, length: int) -> npt.NDArray[np.uint32]:
        """The stream in rows of so many tokens, mapped from disk, without what is left at the end."""
        count = self.tokens // length
        if not count:
            return np.empty((0, length), TYPE)
        flat = np.memmap(self.path, TYPE, mode="r", shape=(self.tokens,))
        return flat[: count * length].reshape(count, length)


def write_stream(
    documents: Iterable[str],
    tokenizer: Tokenizer,
    marks: Sequence[int],
    path: Path,
    most: int | None = None,
) -> TokenStream:
    """Writes the tokens of the documents, `marks` before each, until there are `most`.

    The document in which that happens is the last one, and is whole.
    """
    digest = hashlib.sha256()
    tokens = count = size = 0
    mark = np.array(marks, TYPE)
    with path.open("wb") as file:
        for texts in _portions(documents):
            for text, found in zip(texts, tokenizer.encode(texts), strict=True):
                encoded = text.encode()
                digest.update(encoded + b"\0")
                file.write(mark.tobytes())
                file.write(np.array(found, TYPE).tobytes())
                tokens += len(mark) + len(found)
                count += 1
                size += len(encoded)
                if most is not None and tokens >= most:
                    return TokenStream(path, tokens, count, size, digest.hexdigest())
    return TokenStream(path, tokens, count, size, digest.hexdigest())


def marks_of(first: int | None, last: int | None) -> list[int]:
    """The tokens between two documents: the end of one and the beginning of the other, once where equal."""
    return [token for token in dict.fromkeys((last, first)) if token is not None]


def marks_for(model: LanguageModel) -> list[int]:
    """As `marks_of`, of a model that is trained further."""
    return marks_of(model.first_token, model.last_token)


def _portions(documents: Iterable[str]) -> Iterator[list[str]]:
    held: list[str] = []
    size = 0
    for document in documents:
        held.append(document)
        size += len(document)
        if size >= _CHARS:
            yield held
            held, size = [], 0
    if held:
        yield held
