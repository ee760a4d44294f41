"""Trains encoders: heads on a frozen one, both together, or all from nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ...filters.embeddings.matrix import Matrix
from ...schemas.contracts import AssetRef
from ..assets import LocalAssets, checksum
from ..heads.file import Activation, Head
from ..lm.packages import import_transformers
from ..torch_device import device_of, precision_on, threads
from .card import CARD_FILE, TrainedEncoder, training_card
from .descent import Numbers, Outcome, Progress, Settings
from .evaluation import measured_heads
from .heads import HEADS_FILE, Heads, write_heads
from .learning import (
    CLASS_WEIGHTS,
    SAMPLINGS,
    ClassWeights,
    Sampling,
    Shape,
    Task,
    computed_heads,
    learn_heads,
)
from .model import Encoder, Tokens, load_encoder, padded, pool
from .pretraining import Architecture, new_network, pretrain, write_tokenizer
from .reading import MAX_TOKENS, POOLINGS, Pooling
from .training_data import Division, LabelledTexts, labelled, nothing
from .training_folder import WEIGHTS_FILE, copied_encoder, finished, saved_encoder

if TYPE_CHECKING:
    import torch

LABEL: Final = "label"  # of the head that `fit` trains
# Frozen: FineWeb-Edu (huggingface/cosmopedia, classification/train_edu_bert.py). Together: the rate and batch
# of Celadon (Pleias/toxic-commons, src/5_train.py). The rest is ours.
_FROZEN: Final = {"lr": 3e-4, "epochs": 20, "batch": 256}
_TOGETHER: Final = {"lr": 2e-5, "epochs": 10, "batch": 64}
_FROM_NOTHING: Final = {"lr": 5e-4, "epochs": 20, "batch": 64}
_NOT_SHOWN: Final = ("architecture", "licence")


@dataclass(frozen=True)
class EncoderTrainer:
    """Trains heads, which answer one question each, on an encoder of texts.

    `start`: the folder of an encoder; where it is None a small BERT of `architecture` is made, with a
    WordPiece vocabulary of the texts. `frozen`: the encoder stays as it is and reads each text once.
    `kinds`: of each target, or of all under the name "": regression or classification; by default numbers are
    for a regression. `pooling`, `max_tokens` and `prefix` as for the scorer, `pooling` being what the folder
    says, or mean. `normalised`: whether heads read vectors of length one.

    A frozen encoder's heads are computed, as `thresher train head` does, unless one of `hidden`, `lr`,
    `epochs`, `batch`, `class_weights` and `sampling` is given; else they are learned by AdamW, with `hidden`
    units behind an `activation` where that is given. `lr`, `epochs` and `batch` are by default FineWeb-Edu's
    on a frozen encoder (Penedo et al. 2024, arXiv:2406.17557), and Celadon's rate and batch together with one
    (Arnett et al. 2024, arXiv:2410.22587). A tenth of the texts says when to stop: after `patience` epochs
    without a lower loss. `class_weights` (none, balanced, errors) and `sampling` (plain, balanced):
    learning.py.

    `pretrain_epochs`, `pretrain_lr` and `masked`: of learning to fill in hidden tokens, which comes first
    where there are texts for it. `held_out`: the share of texts, chosen by hash(seed, text), that the heads
    are measured on and never see. On a CPU the same texts, in whatever order, seed and number of `threads`
    give the same weights on one machine.

    Raises ValueError for parameters out of range.
    """

    start: str | None = None
    frozen: bool = False
    kinds: Mapping[str, str] | None = None
    pooling: Pooling | None = None
    max_tokens: int | None = None
    prefix: str | None = None
    normalised: bool | None = None
    hidden: int | None = None
    activation: Activation = "tanh"
    lr: float | None = None
    epochs: int | None = None
    batch: int | None = None
    patience: int = 3
    weight_decay: float = 0.0
    warmup: float = 0.0
    class_weights: ClassWeights = "none"
    sampling: Sampling = "plain"
    architecture: Architecture = field(default_factory=Architecture)
    pretrain_epochs: int = 10
    pretrain_lr: float = 5e-4
    masked: float = 0.15
    held_out: float = 0.1
    device: str = "auto"
    threads: int | None = None
    licence: str = "unknown"

    def __post_init__(self) -> None:
        for name in ("max_tokens", "hidden", "epochs", "batch", "patience", "pretrain_epochs", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it is at least 1")
        for name in ("lr", "pretrain_lr", "masked"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it is above 0")
        for name in ("held_out", "warmup", "masked"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; write a fraction of 0 or more, below 1")
        chosen: tuple[tuple[str, Any, Sequence[str]], ...] = (
            ("pooling", self.pooling, (*POOLINGS,)),
            ("activation", self.activation, ("relu", "tanh", "none")),
            ("class_weights", self.class_weights, CLASS_WEIGHTS),
            ("sampling", self.sampling, SAMPLINGS),
            *(
                (f"kind of {name}", kind, ("regression", "classification"))
                for name, kind in (self.kinds or {}).items()
            ),
        )
        for name, value, offered in chosen:
            if value is not None and value not in offered:
                raise ValueError(f"{name} is {value!r}; write {' or '.join(offered)}")
        if self.frozen and self.start is None:
            raise ValueError("frozen needs an encoder to start from")

    def fit(self, data: Mapping[str, Iterable[pa.RecordBatch]], out: Path, seed: int) -> AssetRef:
        """Trains a head `label` that tells the labels of the streams apart. Raises as `train` does."""
        return self.train(labelled(data, LABEL), [LABEL], out, seed).weights

    def train(
        self,
        batches: Iterable[pa.RecordBatch],
        targets: Sequence[str],
        out: Path,
        seed: int,
        *,
        pretrain_on: Iterable[str] = (),
        sources: Iterable[str] = (),
        report: Callable[[Progress], None] = lambda progress: None,
    ) -> TrainedEncoder:
        """Trains on batches with `text` and a column for each of `targets`, and writes the folder `out`.

        `pretrain_on`: texts on which the encoder first learns to fill in tokens; without targets that is all.
        `report` hears of each epoch. Ctrl-C while heads are learned by steps, or tokens are filled in, goes
        on with the best weights so far, and `ending` says so; before there are any, it is let through.
        Memory: the texts and their tokens, and the encoder four times, or its vectors where it is frozen.
        Raises ValueError where the data teach nothing, AssetError where a package or the start is missing,
        TrainingError where the loss is no longer a number.
        """
        import_transformers()
        import torch

        data = LabelledTexts(targets, seed, self.held_out) if targets else None
        for batch in batches if data is not None else ():
            assert data is not None
            data.add(batch)
        kinds = {name: (self.kinds or {}).get(name, (self.kinds or {}).get("")) for name in targets}
        division = nothing() if data is None else data.divided(kinds)
        corpus = [text for text in pretrain_on if text]
        if data is None and not corpus:
            raise ValueError("there is nothing to learn: no target, and no text to pretrain on")
        device = device_of(self.device)
        with torch.random.fork_rng(), threads(self.threads), finished(out) as folder:
            torch.manual_seed(seed)
            filled: Outcome | None = None
            if self.start is None:
                filled = self._pretrained(folder, division, corpus, device, seed, report)
            elif corpus:
                raise ValueError("pretraining goes on from nothing only; leave out the encoder to start from")
            encoder = self._encoder(folder if self.start is None else None)
            heads, outcome = self._heads(encoder, division, device, seed, report, folder, filled)
            if heads is not None:
                write_heads(heads, folder)
            run = Run(division, outcome, filled, len(corpus), seed, tuple(sources))
            return self._told(encoder, heads, run, folder, out)

    def _pretrained(
        self,
        folder: Path,
        division: Division,
        corpus: list[str],
        device: torch.device,
        seed: int,
        report: Callable[[Progress], None],
    ) -> Outcome | None:
        """Makes an encoder in the folder."""
        import torch

        from .tokenizing import TextTokenizer

        longest = self.max_tokens or MAX_TOKENS
        seen = [text for text, held in zip(division.texts, division.held, strict=True) if not held]
        write_tokenizer(sorted(corpus or seen), self.architecture.vocabulary, longest, folder)
        tokenizer = TextTokenizer(folder, longest, self.prefix or "")
        network = new_network(self.architecture, tokenizer.words, longest)
        outcome = None
        if corpus:
            settings = Settings(
                lr=self.pretrain_lr,
                epochs=self.pretrain_epochs,
                batch=self.batch or int(_FROM_NOTHING["batch"]),
                patience=self.patience,
                weight_decay=0.01,
                warmup=0.1,
                half=_half(device),
            )
            outcome = pretrain(network, corpus, tokenizer, self.masked, settings, device, seed, report)
        with torch.no_grad():
            network.base_model.to("cpu").save_pretrained(str(folder))
        return outcome

    def _encoder(self, made: Path | None) -> Encoder:
        whole = made is None and self.frozen
        return load_encoder(
            str(made or self.start),
            LocalAssets([Path()]),
            pooling=self.pooling,
            max_tokens=self.max_tokens,
            prefix=self.prefix,
            device=self.device,
            precision="auto" if whole else "fp32",
            headless=True,
        )

    def _heads(
        self,
        encoder: Encoder,
        division: Division,
        device: torch.device,
        seed: int,
        report: Callable[[Progress], None],
        folder: Path,
        filled: Outcome | None,
    ) -> tuple[Heads | None, Outcome]:
        """Learns the heads, and leaves the encoder in the folder."""
        if not division.questions or (filled is not None and filled.ending == "interrupted"):
            saved_encoder(encoder, self.start, folder)
            return None, Outcome(ending="end" if filled is None else filled.ending)
        tokens = encoder.tokens(division.texts)
        pooling = encoder.reading.pooling
        exact = self.frozen and not self._takes_steps
        normal = exact if self.normalised is None else self.normalised
        if self.frozen:
            matrix = encoder.encode(tokens, [pooling]).pooled[pooling]
            heads, outcome = (
                (computed_heads(matrix, division, normal, seed), Outcome())
                if exact
                else self._learned(encoder, division, matrix, None, normal, device, seed, report)
            )
            copied_encoder(encoder, Path(str(self.start)), folder)
        else:
            heads, outcome = self._learned(encoder, division, None, tokens, normal, device, seed, report)
            saved_encoder(encoder, self.start, folder)
        return Heads(pooling, normal, heads), outcome

    def _settings(self, half: bool) -> Settings:
        usual = _FROZEN if self.frozen else _TOGETHER if self.start is not None else _FROM_NOTHING
        return Settings(
            lr=self.lr or usual["lr"],
            epochs=self.epochs or int(usual["epochs"]),
            batch=self.batch or int(usual["batch"]),
            patience=self.patience,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            half=half,
        )

    @property
    def _takes_steps(self) -> bool:
        given = (self.hidden, self.lr, self.epochs, self.batch)
        chosen = (self.class_weights, self.sampling)
        return any(value is not None for value in given) or chosen != ("none", "plain")

    def _learned(
        self,
        encoder: Encoder,
        division: Division,
        matrix: Matrix | None,
        tokens: list[Tokens] | None,
        normal: bool,
        device: torch.device,
        seed: int,
        report: Callable[[Progress], None],
    ) -> tuple[dict[str, Head], Outcome]:
        import torch

        settings = self._settings(_half(device) and matrix is None)
        task = Task(
            division.questions,
            division.values,
            division.learned,
            np.flatnonzero(division.checked),
            self.class_weights,
            self.sampling,
        )
        if matrix is not None:
            stored = torch.from_numpy(matrix).to(device)

            def represent(rows: Numbers) -> torch.Tensor:
                return stored[torch.from_numpy(rows).to(device)]
        else:
            assert tokens is not None
            encoder.base.requires_grad_(True)

            def represent(rows: Numbers) -> torch.Tensor:
                ids, mask = padded([tokens[row] for row in rows], encoder.padding, device)
                hidden = encoder.base(input_ids=ids, attention_mask=mask)[0]
                return pool(hidden, mask, encoder.reading.pooling)

        return learn_heads(
            task,
            represent,
            None if matrix is not None else encoder.base,
            None if tokens is None else np.array([len(row) for row in tokens], np.int64),
            encoder.dimensions,
            normal,
            Shape(self.hidden, self.activation if self.hidden else "none"),
            settings,
            device,
            seed,
            report,
        )

    def _told(
        self, encoder: Encoder, heads: Heads | None, run: Run, folder: Path, out: Path
    ) -> TrainedEncoder:
        """Measures the heads, writes the card, and says what there is to know."""
        import torch

        division, outcome, filled = run.division, run.outcome, run.filled
        trained_file = HEADS_FILE if self.frozen else WEIGHTS_FILE
        weights = AssetRef(str(out / trained_file), checksum(folder / trained_file), self.licence)
        trained = TrainedEncoder(
            folder=out,
            weights=weights,
            card=out / CARD_FILE,
            texts=int((~division.held).sum()),
            held_out=int(division.held.sum()),
            pretrained_on=run.pretrained_on,
            skipped=division.skipped,
            data_sha256=division.data_sha256,
            questions=division.questions if heads is not None else {},
            figures={} if heads is None else measured_heads(encoder, heads, division),
            epochs=outcome.epochs,
            best_epoch=outcome.best_epoch,
            ending=outcome.ending,
            pretraining_loss=None if filled is None else filled.checked,
        )
        shown = {name: value for name, value in asdict(self).items() if name not in _NOT_SHOWN}
        if self.start is None:
            shown |= asdict(self.architecture)
        if outcome.epochs:
            shown |= {name: getattr(self._settings(False), name) for name in ("lr", "epochs", "batch")}
        if heads is not None:
            shown["normalised"] = heads.normalised
        shown |= {"pooling": encoder.reading.pooling, "threads": torch.get_num_threads(), "seed": run.seed}
        names = ", ".join(trained.questions) or "no head"
        begun = "a small BERT from random weights" if self.start is None else f"the encoder {self.start}"
        what = f"{begun[0].upper()}{begun[1:]}{', frozen' if self.frozen else ''}, with {names}."
        (folder / CARD_FILE).write_text(training_card(trained, shown, what, run.sources), "utf-8")
        return trained


@dataclass(frozen=True)
class Run:
    """What a training had and how it went, for its card."""

    division: Division
    outcome: Outcome
    filled: Outcome | None  # of pretraining
    pretrained_on: int
    seed: int
    sources: tuple[str, ...]


def _half(device: torch.device) -> bool:
    """On a CPU, turning numbers into bf16 costs more than it saves in training."""
    return device.type != "cpu" and precision_on(device) == "bf16"
