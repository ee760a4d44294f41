"""Tiny causal language models of random weights, in folders as Hugging Face writes them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from thresher.schemas.contracts import AssetError
from thresher.scorers.lm.packages import import_transformers

WORDS = ["river", "mountain", "window", "garden", "Straße", "наука", "水", "naïve", "🙂", "x1", "of", "the"]
VOCABULARY = 330


def prose(seed: int, words: int) -> str:
    """Words with ends of lines between some of them."""
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) + draw.choice(["", "", ".", ",\n"]) for _ in range(words))


@pytest.fixture(scope="session")
def transformers() -> Any:
    """The package, imported as the product imports it."""
    pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("tokenizers", reason="needs the package tokenizers")
    try:
        found = import_transformers()
    except AssetError as error:
        pytest.skip(str(error))
    import torch

    # So small that a second thread costs more than it brings.
    torch.set_num_threads(1)
    return found


@pytest.fixture(scope="session")
def tokenizer_file(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE whose token 0 stands between documents."""
    import tokenizers

    native = tokenizers.Tokenizer(tokenizers.models.BPE())
    native.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    native.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    native.train_from_iterator([prose(seed, 100) for seed in range(20)], trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    native.save(str(path))
    return path


@pytest.fixture(scope="session")
def make_model(
    transformers: Any, tokenizer_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Writes a model of an architecture and returns its folder; changes are those of its config."""
    made: dict[str, Path] = {}

    def make(architecture: str = "llama", **changes: Any) -> Path:
        import torch

        key = f"{architecture} {sorted(changes.items())}"
        if key in made:
            return made[key]
        config = transformers.AutoConfig.for_model(
            architecture,
            **{
                "vocab_size": VOCABULARY,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 64,
                "bos_token_id": 0,
                "eos_token_id": 0,
                "pad_token_id": None,
                # Large enough that a token more or less in sight makes a difference.
                "initializer_range": 0.3,
                **changes,
            },
        )
        torch.manual_seed(1)
        folder = tmp_path_factory.mktemp("models") / architecture
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        (folder / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())
        made[key] = folder
        return folder

    return make
