"""The tokenizer of a language model that is trained from scratch: byte-level BPE."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from .packages import import_tokenizers

END: Final = "<|endoftext|>"  # between documents, and so before and behind each of them


def train_tokenizer(texts: Iterable[str], out: Path, vocabulary: int) -> int:
    """Learns at most `vocabulary` tokens and writes a tokenizer.json; returns how many there are.

    Every byte is a token, so no text is unknown; the token 0 is `END`. The result does not depend on the
    order of the texts. Raises ValueError for fewer tokens than bytes.
    """
    tokenizers = import_tokenizers()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    if vocabulary <= len(alphabet):
        raise ValueError(f"vocab_size is {vocabulary}; it is above {len(alphabet)}, one for each byte")
    native = tokenizers.Tokenizer(tokenizers.models.BPE())
    native.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    native.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    native.train_from_iterator(texts, trainer)
    native.save(str(out))
    return int(native.get_vocab_size())
