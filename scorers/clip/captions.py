"""Captions as a CLIP model reads them: cut into tokens by open_clip's tokenizer for that model."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...schemas.contracts import AssetError
from .architecture import Architecture, text_config
from .packages import import_open_clip

Tokens = npt.NDArray[np.int32]

# Of the files of Hugging Face's tokenizers, those of which each one is enough.
_TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "vocab.json",
)
_WORDS_KEPT: Final = 1 << 17  # whose tokens are remembered; the tokenizer itself forgets none

# Longer captions than SHORT are cut to what a model can read: SHORT characters of a word, LONG in all. A
# token of CLIP has at most 32 characters, and the time to merge a word's letters grows with their square.
SHORT: Final = 512
LONG: Final = 4096


class Tokenizer:
    """open_clip's tokenizer for one model: captions in, tokens (captions, context) out."""

    def __init__(self, tokenizer: Any, context: int) -> None:
        self._tokenizer, self._context = tokenizer, context
        self._always = dict(getattr(tokenizer, "cache", {}))

    def __call__(self, texts: list[str]) -> Tokens:
        if not texts:
            return np.zeros((0, self._context), np.int32)
        found = self._tokenizer([readable(text) for text in texts], context_length=self._context)
        if len(getattr(self._tokenizer, "cache", ())) > _WORDS_KEPT:
            self._tokenizer.cache = dict(self._always)
        return np.asarray(found.numpy(), np.int32)


def readable(text: str) -> str:
    """A caption without what is beyond any model's context, and without words that no language has."""
    if len(text) <= SHORT:
        return text
    return " ".join(word[:SHORT] for word in text.split())[:LONG]


def tokenizer_of(described: Architecture, context: int) -> Tokenizer:
    """The tokenizer that open_clip would use.

    Raises AssetError where it would have to be downloaded, or has more tokens than the model.
    """
    open_clip = import_open_clip()
    settings = text_config(described.model_cfg)
    options = dict(settings.get("tokenizer_kwargs") or {})
    name = settings.get("hf_tokenizer_name")
    if not name:
        tokenizer = open_clip.SimpleTokenizer(context_length=context, **options)
        size = int(tokenizer.vocab_size)
    else:
        tokenizer = _of_hugging_face(described, str(name), context, options)
        size = len(tokenizer.tokenizer)
    known = int(settings.get("vocab_size") or size)
    if size > known:
        raise AssetError(
            f"{described.name}: the tokenizer has {size} tokens, and the model knows {known} of them"
        )
    return Tokenizer(tokenizer, context)


def _of_hugging_face(described: Architecture, name: str, context: int, options: dict[str, Any]) -> Any:
    folder = described.folder
    if folder is None or not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise AssetError(
            f"{described.name}: its captions are read by the tokenizer {name} of Hugging Face, and nothing "
            "is downloaded; fetch that repository's tokenizer.json, tokenizer_config.json, "
            "open_clip_config.json and open_clip_model.safetensors into a folder, and name that as `model`"
        )
    import_open_clip()
    from open_clip.tokenizer import HFTokenizer

    try:
        return HFTokenizer(
            str(folder),
            context_length=context,
            tokenizer_mode=text_config(described.model_cfg).get("tokenizer_mode"),
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
    except Exception as error:  # as many kinds as there are formats
        told = str(error).strip().partition("\n")[0]
        raise AssetError(f"{folder}: its tokenizer cannot be loaded ({told})") from error
