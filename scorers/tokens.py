"""How many tokens a tokenizer makes of a text."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import pyarrow as pa

from ..schemas.contracts import AssetError, Assets, Scorer
from . import sentencepiece_model

PIECE_CHARS: Final = 1 << 20
BATCH_CHARS: Final = 1 << 20  # encoded at once: a token takes some hundred bytes until it is counted
HOW: Final = "install it with: pip install 'thresher[tokens]'"


class TokenScorer(Scorer):
    """Tokens of the text, without those that mark its beginning and end.

    Reads `text`. Returns `tokens`: int64, null where the text is null. A text of more than 2^20 characters is
    counted in pieces of that length, so that memory stays bounded; where a cut splits a token, the count is
    larger by the pieces of it.

    `tokenizer`: a `tokenizer.json` of Hugging Face's tokenizers, whose truncation and padding are ignored, or
    a SentencePiece `.model`. Raises AssetError if it is neither, or a package is missing.
    """

    version: ClassVar[int] = 1
    obtain = "copy the tokenizer.json of the model that will be trained"
    inputs = ("text",)

    def __init__(self, tokenizer: str) -> None:
        self.assets = (tokenizer,)
        self._count: Callable[[Sequence[str]], list[int]] | None = None

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {"tokens": pa.int64()}

    def open(self, assets: Assets) -> None:
        path = assets.locate(self.assets[0])
        self._count = _hugging_face(path) if path.suffix == ".json" else _sentencepiece(path)

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        assert self._count is not None, "open comes before score"
        texts = batch.column("text").to_pylist()
        totals = [None if text is None else 0 for text in texts]
        for owners, pieces in _together(texts):
            for owner, tokens in zip(owners, self._count(pieces), strict=True):
                totals[owner] = (totals[owner] or 0) + tokens
        return {"tokens": pa.array(totals, pa.int64())}


def _together(texts: Sequence[str | None]) -> Iterator[tuple[list[int], list[str]]]:
    """Pieces of the texts that are encoded together, with the number of the text that each is of."""
    owners: list[int] = []
    pieces: list[str] = []
    held = 0
    for number, text in enumerate(texts):
        for start in range(0, len(text or ""), PIECE_CHARS):
            piece = (text or "")[start : start + PIECE_CHARS]
            if held and held + len(piece) > BATCH_CHARS:
                yield owners, pieces
                owners, pieces, held = [], [], 0
            owners.append(number)
            pieces.append(piece)
            held += len(piece)
    if pieces:
        yield owners, pieces


def _hugging_face(path: Path) -> Callable[[Sequence[str]], list[int]]:
    # Workers are processes of their own; the library would start a thread for each core in every one.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise AssetError(f"{path.name} needs the package tokenizers ({error}); {HOW}") from error
    try:
        native = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise AssetError(f"{path}: not a tokenizer.json of Hugging Face tokenizers ({error})") from error
    native.no_truncation()
    native.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        return [len(encoding) for encoding in native.encode_batch_fast(texts, add_special_tokens=False)]

    return count


def _sentencepiece(path: Path) -> Callable[[Sequence[str]], list[int]]:
    library = sentencepiece_model.library()
    try:
        native: Any = library.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise AssetError(
            f"{path}: neither a tokenizer.json nor a SentencePiece model ({str(error).splitlines()[0]})"
        ) from error

    def count(texts: Sequence[str]) -> list[int]:
        return [len(pieces) for pieces in native.encode(list(texts), out_type=int, num_threads=1)]

    return count
