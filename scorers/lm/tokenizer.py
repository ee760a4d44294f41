"""The tokenizer in a language model's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ...schemas.contracts import AssetError
from .. import sentencepiece_model
from .packages import import_tokenizers

TOKENIZER_FILE: Final = "tokenizer.json"
PIECE_CHARS: Final = 1 << 20  # longer texts are encoded in pieces, so that memory stays bounded
# What marks the beginning and the end of a text in well-known tokenizers.
_MARKS: Final = (
    ("<|endoftext|>", "<|endoftext|>"),
    ("<s>", "</s>"),
    ("<|begin_of_text|>", "<|end_of_text|>"),
    ("[BOS]", "[EOS]"),
)
# SentencePiece models as Hugging Face's folders call them.
_PIECES: Final = ("tokenizer.model", "spiece.model", "sentencepiece.model")


class Tokenizer:
    """Cuts texts into tokens, without those that mark beginning and end.

    What looks like a special token is read as the text that it is. A text of more than 2^20 characters is cut
    there, which can split a token. To be used by one thread at a time.
    """

    def __init__(self, path: Path) -> None:
        """Reads a tokenizer.json, or a SentencePiece model. Raises AssetError where it is neither."""
        self.path = path
        self._pieces: Any = None
        if path.suffix != ".json":
            self._pieces = sentencepiece_model.library().SentencePieceProcessor()
            try:
                self._pieces.Load(str(path))
            except (OSError, RuntimeError, ValueError) as error:
                told = str(error).partition("\n")[0]
                raise AssetError(f"{path}: not a SentencePiece model ({told})") from error
            self.size = int(self._pieces.get_piece_size())
            return
        tokenizers = import_tokenizers()
        try:
            self._native = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise AssetError(f"{path}: not a tokenizer.json of Hugging Face tokenizers ({error})") from error
        self._native.no_truncation()
        self._native.no_padding()
        self._native.encode_special_tokens = True
        self.size = int(self._native.get_vocab_size(with_added_tokens=True))

    def encode(self, texts: Sequence[str], most: int | None = None) -> list[list[int]]:
        """The tokens of each text, the first `most` of them."""
        whole = self._encode([text[:PIECE_CHARS] for text in texts])
        for tokens, text in zip(whole, texts, strict=True):
            for start in range(PIECE_CHARS, len(text), PIECE_CHARS):
                if most is not None and len(tokens) >= most:
                    break
                tokens += self._encode([text[start : start + PIECE_CHARS]])[0]
        return whole if most is None else [tokens[:most] for tokens in whole]

    def marks(self) -> tuple[int | None, int | None]:
        """The tokens that mark the beginning and the end of a text, as far as the tokenizer has them."""
        if self._pieces is not None:
            found = (self._pieces.bos_id(), self._pieces.eos_id())
            return tuple(None if number < 0 else number for number in found)  # type: ignore[return-value]
        for first, last in _MARKS:
            numbers = self._native.token_to_id(first), self._native.token_to_id(last)
            if None not in numbers:
                return numbers
        return None, None

    def covered(self, text: str, count: int) -> int:
        """How many characters of the text the first `count` tokens stand for; there must be so many."""
        for start in range(0, len(text), PIECE_CHARS):
            ends = self._ends(text[start : start + PIECE_CHARS])
            if count <= len(ends):
                # A character can be made of several tokens: it counts from the first of them.
                return start + max(ends[:count], default=0)
            count -= len(ends)
        return len(text)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        if self._pieces is not None:
            return self._pieces.encode(texts, out_type=int, num_threads=1)  # type: ignore[no-any-return]
        return [found.ids for found in self._native.encode_batch_fast(texts, add_special_tokens=False)]

    def _ends(self, text: str) -> list[int]:
        if self._pieces is not None:
            try:
                found = self._pieces.encode(text, return_type="offset_mapping")["offsets"]
            except TypeError:  # versions before 0.2.3
                proto = self._pieces.encode(text, out_type="immutable_proto")
                return [piece.end for piece in proto.pieces]
            return [end for _, end in found]
        return [end for _, end in self._native.encode(text, add_special_tokens=False).offsets]


def tokenizer_of(folder: Path) -> Tokenizer:
    """The tokenizer in a model's folder. Raises AssetError where there is none."""
    for name in (TOKENIZER_FILE, *_PIECES):
        if (folder / name).is_file():
            return Tokenizer(folder / name)
    raise AssetError(
        f"{folder}: holds no {TOKENIZER_FILE} and none of {', '.join(_PIECES)}; save the model's tokenizer "
        "as a fast one (AutoTokenizer.from_pretrained(…).save_pretrained(…)) beside it"
    )
