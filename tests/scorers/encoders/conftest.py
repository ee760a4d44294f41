"""Encoders of a few thousand weights, which mean nothing, in the layout of transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from thresher.scorers.lm.packages import import_transformers

WORDS = (
    "the a of river mill water cat dog sat on old new house light walk ran and was in city school learn teach"
)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "the river ran on",
    "the old mill and the new house",
    "a cat",
    "water in the city of light, and a dog sat on the old house and the cat sat on the dog",
    "learn to teach in school",
    "",
    "une ville nouvelle 漢字",
    "the cat sat on the dog " * 20,
]


def write_tokenizer(folder: Path) -> None:
    """Words of WORDS and single letters, with the marks of BERT."""
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*SPECIAL, *WORDS.split(), *letters, *(f"##{letter}" for letter in letters), ",", "."]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer: Any = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(str(folder))


def write_bert(folder: Path, kind: str = "BertModel", seed: int = 0, **settings: Any) -> Path:
    """A BERT of two layers, 32 numbers wide, with random weights: `kind` is one of transformers' classes."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    transformers: Any = import_transformers()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = transformers.BertConfig(
            vocab_size=90,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=0.3,  # so that texts differ in what becomes of them
            **settings,
        )
        network = getattr(transformers, kind)(config)
    network.save_pretrained(str(folder))
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an encoder without a head."""
    return write_bert(tmp_path_factory.mktemp("encoders") / "bert")


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    return write_bert


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return TEXTS
