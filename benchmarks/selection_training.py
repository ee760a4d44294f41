"""The small language model that every choice is measured with."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from thresher.scorers.lm.packages import import_transformers
from thresher.scorers.lm.tokenizer import Tokenizer
from thresher.scorers.lm.training_loop import Settings, Training
from thresher.scorers.lm.training_tokenizer import train_tokenizer
from thresher.scorers.schedule import Schedule
from thresher.scorers.torch_device import device_of, precision_on

WARMUP = 0.05
# Standard deviation of the weights that it begins with. With transformers' 0.02 models this narrow stay for
# most of a short run where they know no more than how frequent tokens are, and when they leave is chance: two
# seeds were 0.6 nats apart, and 0.04 with this.
INITIAL = 0.1

Tokens = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Model:
    """A Llama, and how it is trained: `tokens` are those that one choice gives it."""

    vocabulary: int
    layers: int
    width: int
    heads: int
    context: int
    tokens: int
    batch_tokens: int
    lr: float
    device: str
    threads: int


@dataclass(frozen=True)
class Run:
    """One training: nats per token of the test at its end, and what it took."""

    loss: float
    tokens: int
    cpu_s: float
    wall_s: float


def tokenizer_of(texts: Sequence[str], vocabulary: int, path: Path) -> Tokenizer:
    """One tokenizer for all models, learned from the pool."""
    if not path.exists():
        train_tokenizer(texts, path, vocabulary)
    return Tokenizer(path)


def encoded(texts: Sequence[str], tokenizer: Tokenizer) -> list[Tokens]:
    """The tokens of each text behind the mark between texts."""
    mark = tokenizer.marks()[0] or 0
    return [np.array([mark, *tokens], np.uint32) for tokens in tokenizer.encode(list(texts))]


def rows_of(passages: Sequence[Tokens], context: int, seed: int) -> Tokens:
    """Passages in an order drawn by `seed`, one behind the other, cut into rows; the last is filled up."""
    order = np.random.default_rng(seed).permutation(len(passages))
    flat = np.concatenate([passages[row] for row in order])
    count = math.ceil(len(flat) / context)
    return np.resize(flat, (count, context))


def train(rows: Tokens, test: Tokens, model: Model, tokens: int, seed: int) -> Run:
    """Trains a model of weights drawn by `seed` on so many tokens; rows come again when all were seen."""
    torch.set_num_threads(model.threads)
    torch.manual_seed(seed)
    device = device_of(model.device)
    half = device.type != "cpu" and precision_on(device) == "bf16"
    settings = Settings(max(1, model.batch_tokens // model.context), model.lr, 0.1, 1, half)
    steps = max(1, round(tokens / (settings.rows * model.context)))
    cpu, wall = time.process_time(), time.monotonic()
    training = Training(network(model), rows, test, device, settings)
    # One evaluation, at the end: the test decides nothing about the training.
    outcome = training.run(Schedule(steps, None, WARMUP, 1), seed, lambda progress: None, from_start=False)
    if outcome.loss is None:
        raise SystemExit("the test has not a single row of tokens; give it more --test-bytes")
    return Run(outcome.loss, outcome.tokens, time.process_time() - cpu, time.monotonic() - wall)


def network(model: Model) -> torch.nn.Module:
    """A Llama of random weights."""
    transformers = import_transformers()
    config = transformers.LlamaConfig(
        vocab_size=model.vocabulary,
        hidden_size=model.width,
        intermediate_size=64 * math.ceil(8 * model.width / 3 / 64),
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        max_position_embeddings=model.context,
        tie_word_embeddings=False,
        initializer_range=INITIAL,
    )
    made: torch.nn.Module = transformers.LlamaForCausalLM(config)
    return made
