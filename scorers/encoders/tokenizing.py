"""Texts as the tokens that an encoder reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from ...schemas.contracts import AssetError
from ..lm.packages import import_tokenizers

TOKENIZER_FILE: Final = "tokenizer.json"
# For a token this much of a long text is cut into tokens at first: English has 4 or 5 characters in one.
_CHARACTERS: Final = 12


class TextTokenizer:
    """A tokenizer.json with the prefix and the length that a model reads."""

    def __init__(self, folder: Path, max_tokens: int, prefix: str = "", lower: bool = False) -> None:
        """Raises AssetError where the folder has none, or it cannot be read."""
        tokenizers: Any = import_tokenizers()
        path = folder / TOKENIZER_FILE
        if not path.is_file():
            raise AssetError(
                f"{folder}: has no {TOKENIZER_FILE}; transformers writes one: "
                "AutoTokenizer.from_pretrained(…).save_pretrained(…)"
            )
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the package has no class for what is wrong with a file
            raise AssetError(f"{path}: is no tokenizer ({error})") from error
        least = self._tokenizer.num_special_tokens_to_add(False) + 1
        if max_tokens < least:
            raise AssetError(f"max_tokens is {max_tokens}; {path} needs {least}")
        self.max_tokens = max_tokens
        self._prefix, self._lower = prefix, lower
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)

    @property
    def words(self) -> int:
        """How many different tokens there are."""
        return int(self._tokenizer.get_vocab_size())

    def token(self, name: str) -> int | None:
        """The number of a token."""
        number = self._tokenizer.token_to_id(name)
        return None if number is None else int(number)

    def __call__(self, texts: Sequence[str | None]) -> pa.Array:
        """The tokens of each text, list<int32>, not more than the model reads; null where there are none."""
        numbers = [number for number, text in enumerate(texts) if text is not None]
        whole = [self._prefix + self._shown(texts[number]) for number in numbers]
        found = self._tokens([_start(text, self.max_tokens) for text in whole])
        short = [
            at
            for at, tokens in enumerate(found)
            if len(tokens) < self.max_tokens and len(whole[at]) > _CHARACTERS * self.max_tokens
        ]
        for at, tokens in zip(short, self._tokens([whole[at] for at in short]), strict=True):
            found[at] = tokens
        rows: list[list[int] | None] = [None] * len(texts)
        for number, tokens in zip(numbers, found, strict=True):
            rows[number] = tokens or None
        return pa.array(rows, pa.list_(pa.int32()))

    def _shown(self, text: str | None) -> str:
        assert text is not None
        # A lone surrogate has no UTF-8.
        text = text.encode("utf-8", "replace").decode("utf-8")
        return text.lower() if self._lower else text

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        return [encoded.ids for encoded in self._tokenizer.encode_batch_fast(texts)]


def _start(text: str, tokens: int) -> str:
    """What is likely to hold the first tokens of a long text, up to the end of a word."""
    most = _CHARACTERS * tokens
    if len(text) <= most:
        return text
    cut = max(text.rfind(" ", 0, most), text.rfind("\n", 0, most))
    return text[:cut] if cut > most // 2 else text
