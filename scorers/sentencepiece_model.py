"""A SentencePiece model file and the pieces that it cuts text into."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ..schemas.contracts import AssetError

WORD_START: Final = "\u2581"  # what stands for the space before a word
HOW: Final = "install it with: pip install 'thresher[kenlm]'"


class SentencePieceModel:
    """A tokenizer. Made by `load`; each worker loads its own."""

    def __init__(self, path: Path, native: Any) -> None:
        self.path = path
        self._native = native

    @property
    def size(self) -> int:
        """How many pieces there are, the special ones among them."""
        return int(self._native.get_piece_size())

    def vocabulary(self) -> list[str]:
        """Every piece, in the order of their numbers."""
        return [self._native.id_to_piece(number) for number in range(self.size)]

    def pieces(self, text: str) -> list[str]:
        """The pieces of a text; what the model does not know stands for itself."""
        return self._native.encode(text, out_type=str)  # type: ignore[no-any-return]


def load(path: str | Path) -> SentencePieceModel:
    """Reads a `.model` file. Raises AssetError if it is no SentencePiece model or the package is missing."""
    sentencepiece = library()
    try:
        native = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise AssetError(
            f"{path}: not a SentencePiece model ({str(error).splitlines()[0]}); "
            "train one with `thresher train sentencepiece`"
        ) from error
    return SentencePieceModel(Path(path), native)


def library() -> Any:
    """The package sentencepiece. Raises AssetError, which says how to install it, where it is missing."""
    try:
        import sentencepiece  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError as error:
        raise AssetError(f"SentencePiece needs the package sentencepiece ({error}); {HOW}") from error
    return sentencepiece
