"""A small encoder from nothing: a WordPiece vocabulary, and a BERT that learns to fill in hidden tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xxhash

from ..lm.packages import import_tokenizers, import_transformers
from .descent import Numbers, Outcome, Progress, Settings, descend, shuffled
from .model import bucketed, padded
from .tokenizing import TextTokenizer

if TYPE_CHECKING:
    import torch

PADDING, UNKNOWN, FIRST, LAST, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL: Final = (PADDING, UNKNOWN, FIRST, LAST, MASK)

# Devlin et al. 2019, arXiv:1810.04805, section 3.1: of the tokens that are to be guessed eight in ten are
# hidden, one is another, one stays.
_HIDDEN: Final = 0.8
_OTHER: Final = 0.5  # of the rest
_CHECKED: Final = 0.05  # of the texts
_CHECKED_TOKENS: Final = 16_384


@dataclass(frozen=True)
class Architecture:
    """Of a small BERT: numbers of a token's vector, layers, heads of attention, tokens of the vocabulary."""

    width: int = 256
    layers: int = 4
    attention_heads: int = 4
    vocabulary: int = 16_000
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("width", "layers", "attention_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is at least 1")
        if self.width % self.attention_heads:
            raise ValueError(
                f"width is {self.width}, which {self.attention_heads} attention_heads cannot share"
            )
        if self.vocabulary <= len(SPECIAL):
            raise ValueError(f"vocabulary is {self.vocabulary}; it is more than {len(SPECIAL)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; write a fraction of 0 or more and below 1")


def write_tokenizer(texts: Sequence[str], vocabulary: int, max_tokens: int, folder: Path) -> None:
    """Learns a WordPiece vocabulary of lowered words, as BERT's, and writes it for transformers."""
    transformers: Any = import_transformers()
    package: Any = import_tokenizers()
    whole = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]

    def made(model: Any) -> Any:
        tokenizer = package.Tokenizer(model)
        tokenizer.normalizer = package.normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = package.pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = package.decoders.WordPiece()
        return tokenizer

    learner = made(package.models.WordPiece(unk_token=UNKNOWN))
    # The trainer numbers the characters within words as a hash map gives them, and breaks ties by number.
    # Named beforehand, they have their numbers in an order of their own.
    inner = sorted(
        {
            character
            for text in whole
            for word, _ in learner.pre_tokenizer.pre_tokenize_str(learner.normalizer.normalize_str(text))
            for character in word[1:]
        }
    )
    trainer = package.trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=[*SPECIAL, *(f"##{character}" for character in inner)],
        show_progress=False,
    )
    learner.train_from_iterator(whole, trainer, length=len(whole))
    # Again, as what was named beforehand is no mark.
    tokenizer = made(package.models.WordPiece(learner.get_vocab(), unk_token=UNKNOWN))
    tokenizer.post_processor = package.processors.TemplateProcessing(
        single=f"{FIRST} $A {LAST}",
        pair=f"{FIRST} $A {LAST} $B:1 {LAST}:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (FIRST, LAST)],
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PADDING,
        unk_token=UNKNOWN,
        cls_token=FIRST,
        sep_token=LAST,
        mask_token=MASK,
        model_max_length=max_tokens,
    ).save_pretrained(str(folder))


def new_network(architecture: Architecture, words: int, max_tokens: int) -> Any:
    """A BERT of random weights with the layer that guesses tokens. Its draws are torch's."""
    transformers: Any = import_transformers()
    return transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=words,
            hidden_size=architecture.width,
            num_hidden_layers=architecture.layers,
            num_attention_heads=architecture.attention_heads,
            intermediate_size=4 * architecture.width,
            max_position_embeddings=max_tokens,
            hidden_dropout_prob=architecture.dropout,
            attention_probs_dropout_prob=architecture.dropout,
            pad_token_id=SPECIAL.index(PADDING),
        )
    )


def pretrain(
    network: Any,
    texts: Sequence[str],
    tokenizer: TextTokenizer,
    share: float,
    settings: Settings,
    device: torch.device,
    seed: int,
    report: Callable[[Progress], None],
) -> Outcome:
    """Teaches the network to guess a `share` of the tokens of each text from the others; it is left as it was
    best on a twentieth of the texts. Raises ValueError where there are too few."""
    import torch

    different = sorted({text.encode("utf-8", "replace") for text in texts if text})
    keys = {text: xxhash.xxh3_64_intdigest(text, seed) for text in different}
    ordered = sorted(different, key=lambda text: (keys[text], text))
    column = tokenizer([text.decode("utf-8") for text in ordered])
    tokens = [np.asarray(row, np.int32) for row in column.drop_null().to_numpy(zero_copy_only=False)]
    checked = math.ceil(_CHECKED * len(tokens))  # in an order by chance
    if len(tokens) - checked < 2:
        raise ValueError(f"there are {len(tokens)} different texts to pretrain on; give more")
    lengths = np.array([len(row) for row in tokens], np.int64)
    learned = np.arange(checked, len(tokens))
    network.to(device)
    chance = torch.Generator()

    def loss_of(rows: Numbers) -> torch.Tensor:
        ids, mask = padded([tokens[row] for row in rows], network.config.pad_token_id, torch.device("cpu"))
        given, wanted = hidden(ids, share, tokenizer, chance)
        # With nothing to guess the mean over it would be no number.
        if (wanted == -100).all():
            wanted[0, 0] = ids[0, 0]
        found = network(input_ids=given.to(device), attention_mask=mask.to(device), labels=wanted.to(device))
        loss: torch.Tensor = found.loss
        return loss

    chance.manual_seed(seed)

    def judged() -> float:
        state = chance.get_state()
        chance.manual_seed(seed + 1)  # the same tokens are hidden each time
        found = [(len(rows), float(loss_of(rows))) for rows in bucketed(lengths[:checked], _CHECKED_TOKENS)]
        chance.set_state(state)
        return sum(count * loss for count, loss in found) / checked

    return descend(
        [network],
        lambda order: shuffled(learned, lengths, settings.batch, order),
        math.ceil(len(learned) / settings.batch),
        loss_of,
        judged,
        settings,
        seed,
        "pretraining",
        report,
    )


def hidden(
    ids: torch.Tensor, share: float, tokenizer: TextTokenizer, chance: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens with a `share` of them hidden, and what they were, -100 for all others."""
    import torch

    marks = torch.tensor([tokenizer.token(name) for name in SPECIAL])
    guessed = (torch.rand(ids.shape, generator=chance) < share) & ~torch.isin(ids, marks)
    draw = torch.rand(ids.shape, generator=chance)
    others = torch.randint(len(SPECIAL), tokenizer.words, ids.shape, generator=chance)
    given = ids.clone()
    covered = guessed & (draw < _HIDDEN)
    changed = guessed & ~covered & (torch.rand(ids.shape, generator=chance) < _OTHER)
    mask = tokenizer.token(MASK)
    assert mask is not None
    given[covered] = mask
    given[changed] = others[changed]
    return given, ids.masked_fill(~guessed, -100)
