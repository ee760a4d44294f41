"""A KenLM language model over the pieces of a SentencePiece model, and what the two make of a text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..schemas.contracts import AssetError
from . import sentencepiece_model
from .sentencepiece_model import WORD_START, SentencePieceModel

Normalization = Literal["ccnet", "none"]
Lines = Literal["joined", "separate"]

NORMALIZATIONS: Final[tuple[Normalization, ...]] = ("ccnet", "none")
LINES: Final[tuple[Lines, ...]] = ("joined", "separate")
HOW: Final = (
    "install it with: pip install 'thresher[kenlm]' (kenlm is compiled while it is installed, which takes a "
    "C++ compiler, CMake and Python's headers)"
)


class PieceLanguageModel:
    """Log probabilities of lines. Made by `load`; each worker loads its own."""

    def __init__(self, tokenizer: SentencePieceModel, native: Any) -> None:
        self.tokenizer = tokenizer
        self._native = native

    @property
    def order(self) -> int:
        """The most pieces that an n-gram of the model has."""
        return int(self._native.order)

    def score(self, lines: Iterable[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """For each line log10 of its probability, and of how many words: its pieces and its end."""
        pieces, score = self.tokenizer.pieces, self._native.score
        scores: list[float] = []
        lengths: list[int] = []
        for line in lines:
            found = " ".join(pieces(line))
            # Counted as CCNet counts: a piece may hold white space, if the tokenizer was made to leave it.
            scores.append(score(found))
            lengths.append(len(found.split()) + 1)
        return np.array(scores, np.float64), np.array(lengths, np.int64)


def load(model: Path, tokenizer: Path) -> PieceLanguageModel:
    """Reads a model (`.bin` or `.arpa`) and its tokenizer.

    Raises AssetError if either is not what it should be, if the model knows no piece of the tokenizer, or if
    a package is missing.
    """
    kenlm = library()
    pieces = sentencepiece_model.load(tokenizer)
    config = kenlm.Config()
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    try:
        native = kenlm.Model(str(model), config)
    except (OSError, RuntimeError, ValueError) as error:
        raise AssetError(
            f"{model}: not a KenLM model ({str(error).splitlines()[0]}); "
            "train one with `thresher train kenlm`"
        ) from error
    starts = [piece for piece in pieces.vocabulary() if len(piece) > 1 and piece.startswith(WORD_START)]
    if starts and not any(piece in native for piece in starts):
        raise AssetError(
            f"{model}: knows no piece of {tokenizer}; name the tokenizer that the model was trained with"
        )
    return PieceLanguageModel(pieces, native)


def library() -> Any:
    """The package kenlm. Raises AssetError, which says how to install it, where it is missing."""
    try:
        import kenlm  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError as error:
        raise AssetError(f"KenLM needs the package kenlm ({error}); {HOW}") from error
    return kenlm


def prepare(texts: pa.Array, normalization: Normalization) -> pa.Array:
    """The texts as the tokenizer reads them. Raises ValueError for a normalisation that does not exist."""
    if normalization == "none":
        return texts
    if normalization != "ccnet":
        raise ValueError(f"normalize is {normalization!r}; write {' or '.join(NORMALIZATIONS)}")
    from ..filters.text.ccnet import normalize

    return normalize(texts)
