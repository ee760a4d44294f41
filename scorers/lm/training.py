"""Trains small causal language models from scratch, and continues the training of others on a target."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from ...schemas.contracts import AssetRef
from ..assets import LocalAssets, checksum
from ..language_model_card import TrainedLanguageModel, language_model_card
from ..schedule import Schedule
from ..torch_device import device_of, precision_on, threads
from ..training_documents import TrainingDocuments
from .model import LanguageModel, load_model
from .packages import import_transformers
from .tokenizer import TOKENIZER_FILE, Tokenizer
from .training_loop import Ending, Outcome, Progress, Settings, Training
from .training_tokenizer import train_tokenizer
from .training_tokens import TokenStream, marks_for, marks_of, write_stream

if TYPE_CHECKING:
    import torch

WEIGHTS_FILE: Final = "model.safetensors"
CARD_FILE: Final = "README.md"
# What a folder holds of its tokenizer, in the layouts of Hugging Face.
_TOKENIZER_FILES: Final = (
    TOKENIZER_FILE,
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_SETTINGS_FILE: Final = "tokenizer_config.json"
# From random weights, as ours were found on web text with a few million tokens, and from those of a model.
RATES: Final = (2e-3, 3e-4)
_ENDINGS: Final[dict[Ending, str]] = {
    "end": "it ran to its end",
    "no better": "it was no longer getting better",
    "interrupted": "it was interrupted",
}


@dataclass(frozen=True)
class TrainedLM:
    """A trained model: what its card says, and how the training went."""

    trained: TrainedLanguageModel
    folder: Path
    parameters: int
    tokens: int  # of the training text
    steps: int
    best_step: int  # of which the weights are
    loss: float | None  # nats per token on the text held out
    start_loss: float | None  # of the model that it was trained from
    ending: Ending


@dataclass(frozen=True)
class LMTrainer:
    """Trains a causal language model on streams of batches with `text`.

    Without `start` it is a Llama of `layers`, `width`, `heads` and `context`, from random weights, whose
    input and output embeddings are the same; its tokenizer is the file `tokenizer`, or a byte-level BPE of
    `vocab_size` tokens that is learned from the first `tokenizer_bytes` of the same text. With `start`, the
    folder of a model, that is trained further with the tokenizer it has, in rows of `context` tokens, or of
    its own context where that is shorter.

    Documents lie behind one another in rows, with the model's marks between them, and a token sees what is
    before it in its row, also of another document, as OLMo and CoLoR-Filter train. It runs for `epochs`, one
    where nothing is said, or for `tokens`, or for `minutes`; where two are given, the first to end. The
    optimizer is AdamW with the rate rising over the `warmup` share of the run and falling as a cosine; `lr`
    is 0.002 from random weights and 0.0003 from trained ones. `batch_tokens`: that a step learns from.

    `held_out`: the share of documents, chosen by hash(seed, text), that it is measured on and never trained
    on, of which `held_out_tokens` are used. The loss is taken `evaluations` times; the best weights are kept,
    and after `patience` times without better ones it ends.

    `precision`: fp32 or bf16; auto is bf16 on a GPU that has it. Where the same number of `threads` computes
    on a CPU, the same text and seed give the same bytes, unless `minutes` end it.

    Raises ValueError for parameters out of range.
    """

    start: str | None = None
    tokenizer: str | None = None
    vocab_size: int = 8192
    tokenizer_bytes: int = 50_000_000
    layers: int = 4
    width: int = 256
    heads: int = 4
    context: int = 512
    epochs: float | None = None
    tokens: int | None = None
    minutes: float | None = None
    batch_tokens: int = 16_384
    lr: float | None = None
    warmup: float = 0.05
    weight_decay: float = 0.1
    held_out: float = 0.05
    held_out_tokens: int = 50_000
    evaluations: int = 10
    patience: int = 3
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None
    licence: str = "unknown"

    def __post_init__(self) -> None:
        for name in (
            *("tokens", "layers", "width", "heads", "batch_tokens", "tokenizer_bytes", "held_out_tokens"),
            *("evaluations", "patience", "threads"),
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it is at least 1")
        if self.context < 2:
            raise ValueError(f"context is {self.context}; it is at least 2")
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"width is {self.width}; it is an even multiple of heads, {self.heads}")
        for name in ("epochs", "minutes", "lr"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it is above 0")
        for name in ("held_out", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; write a fraction of 0 or more, below 1")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay is {self.weight_decay}; it is 0 or more")
        if self.start is not None and self.tokenizer is not None:
            raise ValueError("a model that is trained further keeps its tokenizer; leave out one of the two")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision is {self.precision!r}; training is done in auto, fp32 or bf16")

    def fit(self, data: Mapping[str, Iterable[pa.RecordBatch]], out: Path, seed: int) -> AssetRef:
        """Trains on the batches of all labels and writes the folder `out`. Raises as `train` does."""
        batches = (batch for batches in data.values() for batch in batches)
        return self.train(batches, out, seed).trained.model

    def train(
        self,
        batches: Iterable[pa.RecordBatch],
        out: Path,
        seed: int,
        *,
        sources: Iterable[str] = (),
        report: Callable[[Progress], None] = lambda progress: None,
    ) -> TrainedLM:
        """As `fit`; returns all there is to know. `sources`: for the card, where the text came from. `report`
        hears of each evaluation.

        Ctrl-C while it trains ends it with the best weights so far, and `ending` says so; before there are
        any, it is let through. Memory: the model five times, the activations of a pass, and one 256th of the
        text. Disk, beside `out`, until the end: the text and its tokens. Raises ValueError where there is too
        little text, AssetError where a package or a file is missing, TrainingError where the loss is no
        longer a number.
        """
        import_transformers()
        import torch

        device = device_of(self.device)
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            torch.random.fork_rng(),
            threads(self.threads),
            tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as name,
        ):
            torch.manual_seed(seed)
            folder = Path(name)
            documents = TrainingDocuments(
                folder, seed, self.held_out, 2**62, normalization="none", lines="separate"
            )
            for batch in batches:
                documents.add(batch.column("text"))
            begun = self._begun(documents, folder)
            learned = write_stream(
                _texts(documents.learned()), begun.tokenizer, begun.marks, folder / "learned", self.tokens
            )
            held_out = write_stream(
                _texts(documents.held_out()),
                begun.tokenizer,
                begun.marks,
                folder / "held-out",
                self.held_out_tokens,
            )
            documents.close()
            training, schedule, settings = self._prepared(begun, learned, held_out, device)
            outcome = training.run(schedule, seed, report, from_start=self.start is not None)
            begun.write(training.network, out)
            shown = {
                **asdict(self),
                "context": begun.context,
                "lr": settings.rate,
                "threads": torch.get_num_threads(),
                "precision": "bf16" if settings.half else "fp32",
                "seed": seed,
            }
            return self._told(
                training.network, outcome, (learned, held_out), documents.skipped, out, shown, sources
            )

    def _begun(self, documents: TrainingDocuments, folder: Path) -> _Begun:
        """The network before its training, and its tokenizer."""
        if self.start is not None:
            source = LocalAssets().locate(self.start)
            model = load_model(source, device="cpu", precision="fp32")
            model.network.set_attn_implementation("sdpa")
            model.network.requires_grad_(True)
            return _Begun(model.network, model.tokenizer, marks_for(model), _context(self, model), source)
        if self.tokenizer is None:
            path = folder / TOKENIZER_FILE
            train_tokenizer(_first(_texts(documents.learned()), self.tokenizer_bytes), path, self.vocab_size)
        else:
            path = LocalAssets().locate(self.tokenizer)
        tokenizer = Tokenizer(path)
        first, last = tokenizer.marks()
        network = self._network(tokenizer.size, first, last)
        return _Begun(network, tokenizer, marks_of(first, last), self.context, path)

    def _network(self, tokens: int, first: int | None, last: int | None) -> Any:
        transformers = import_transformers()
        # The width of the inner layer as Llama has it: two thirds of four times the width, in 64s.
        inner = 64 * math.ceil(8 * self.width / 3 / 64)
        config = transformers.LlamaConfig(
            vocab_size=tokens,
            hidden_size=self.width,
            intermediate_size=inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            max_position_embeddings=self.context,
            bos_token_id=first,
            eos_token_id=last,
            tie_word_embeddings=True,
        )
        return transformers.LlamaForCausalLM(config)

    def _prepared(
        self, begun: _Begun, learned: TokenStream, held_out: TokenStream, device: torch.device
    ) -> tuple[Training, Schedule, Settings]:
        rows = learned.rows(begun.context)
        if not len(rows):
            raise ValueError(
                f"there are {learned.tokens} tokens of {learned.documents} documents to learn from, and a "
                f"row is {begun.context}; give it more text, or a smaller context"
            )
        half = self.precision != "auto" or device.type != "cpu"
        settings = Settings(
            rows=min(max(1, self.batch_tokens // begun.context), len(rows)),
            rate=self.lr or RATES[self.start is not None],
            weight_decay=self.weight_decay,
            patience=self.patience,
            half=half and precision_on(device, self.precision) == "bf16",
        )
        training = Training(begun.network, rows, held_out.rows(begun.context), device, settings)
        each = settings.rows * begun.context
        epochs = self.epochs
        if epochs is None and self.tokens is None and self.minutes is None:
            epochs = 1.0
        ends = [] if self.tokens is None else [max(1, round(self.tokens / each))]
        if epochs is not None:
            ends.append(max(1, round(epochs * rows.size / each)))
        seconds = None if self.minutes is None else 60 * self.minutes
        schedule = Schedule(min(ends, default=None), seconds, self.warmup, self.evaluations)
        return training, schedule, settings

    def _told(
        self,
        network: Any,
        outcome: Outcome,
        streams: tuple[TokenStream, TokenStream],
        skipped: int,
        out: Path,
        shown: Mapping[str, Any],
        sources: Iterable[str],
    ) -> TrainedLM:
        learned, held_out = streams
        parameters = sum(weights.numel() for weights in network.parameters())
        figures = {}
        if outcome.loss is not None:
            figures["loss, nats per token"] = outcome.loss
            figures["perplexity"] = math.exp(min(outcome.loss, 700))
            figures["bits per byte"] = outcome.loss * held_out.tokens / held_out.bytes / math.log(2)
        if outcome.start_loss is not None:
            figures["loss before training"] = outcome.start_loss
        card = out / CARD_FILE
        trained = TrainedLanguageModel(
            AssetRef(str(out), checksum(out / WEIGHTS_FILE), self.licence),
            card,
            learned.documents,
            held_out.documents,
            skipped,
            learned.sha256,
            figures,
        )
        further = "trained further" if self.start is not None else "trained from random weights"
        what = (
            f"A causal language model ({network.config.model_type}), {further}: {parameters:,} parameters, "
            f"{learned.tokens:,} tokens of text, {outcome.tokens:,} learned from. The weights are those "
            f"after step {outcome.step} of {outcome.steps}; then {_ENDINGS[outcome.ending]}. The folder is "
            f"one of Hugging Face's; the checksum below is that of {WEIGHTS_FILE}."
        )
        card.write_text(language_model_card(what, trained, shown, sources), encoding="utf-8")
        return TrainedLM(
            trained,
            out,
            parameters,
            learned.tokens,
            outcome.steps,
            outcome.step,
            outcome.loss,
            outcome.start_loss,
            outcome.ending,
        )


@dataclass(frozen=True)
class _Begun:
    """A network before its training, and what goes with it."""

    network: Any
    tokenizer: Tokenizer
    marks: list[int]
    context: int
    source: Path  # the folder that it comes from, or the file of its tokenizer

    def write(self, network: Any, out: Path) -> None:
        """Writes the folder; the weights appear last, and each file whole."""
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=out) as name:
            folder = Path(name)
            network.save_pretrained(folder, max_shard_size="1000GB")
            self._write_tokenizer(network.config, folder)
            made = sorted(folder.iterdir(), key=lambda path: (path.name == WEIGHTS_FILE, path.name))
            for path in made:
                os.replace(path, out / path.name)

    def _write_tokenizer(self, config: Any, folder: Path) -> None:
        if self.source.is_dir():
            for name in _TOKENIZER_FILES:
                if (self.source / name).is_file():
                    shutil.copyfile(self.source / name, folder / name)
            return
        name = TOKENIZER_FILE if self.source.suffix == ".json" else "tokenizer.model"
        shutil.copyfile(self.source, folder / name)
        if name != TOKENIZER_FILE:
            return
        native = json.loads(self.source.read_text("utf-8"))
        marks = {token["id"]: token["content"] for token in native.get("added_tokens", [])}
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": marks.get(config.bos_token_id),
            "eos_token": marks.get(config.eos_token_id),
            "model_max_length": self.context,
        }
        (folder / _SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def _context(trainer: LMTrainer, model: LanguageModel) -> int:
    return min(trainer.context, model.context)


def _texts(documents: Iterable[list[str]]) -> Iterator[str]:
    return ("\n".join(lines) for lines in documents)


def _first(texts: Iterable[str], size: int) -> Iterator[str]:
    """Texts until they have so many bytes."""
    for text in texts:
        yield text
        size -= len(text.encode())
        if size <= 0:
            return
