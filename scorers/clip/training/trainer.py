"""Trains CLIP models on pairs of images and captions: the filters of data filtering networks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ....schemas.contracts import AssetRef
from ...assets import LocalAssets, checksum
from ...schedule import Schedule
from ...torch_device import device_of, precision_on, threads
from ..architecture import WEIGHTS_FILE
from ..captions import tokenizer_of
from ..model import write_clip
from ..packages import import_open_clip
from .card import CARD_FILE, TrainedClip, training_card
from .loop import Outcome, Progress, Settings, Training
from .pairs import TrainingPairs
from .start import Start, shown_config, start_of
from .vocabulary import CompactVocabulary, is_compactable

if TYPE_CHECKING:
    import torch

EPOCHS: Final = 10.0
# From random weights, and from those of a model: two decades lower, as it is to keep what it knows.
RATES: Final = (1e-3, 1e-5)


@dataclass(frozen=True)
class ClipTrainer:
    """Trains a CLIP model of open_clip's from streams of batches with `id`, `text` and `payload`.

    `model` and `start` name what it begins with, as `start_of` takes them; without either it is a small one,
    from random weights. The loss is CLIP's, or SigLIP's where the model has a bias. It runs for `epochs`, 10
    where nothing is said, or for `steps`, or for `minutes`; where two are given, the first to end. The
    optimizer is AdamW with the settings of open_clip's training; `lr` is 0.001 from random weights, as ours
    were found on clip art, and 0.00001 from trained ones. `crop`: the least share of width and height that a
    random part of an image has. `flip`: whether images are mirrored, which makes captions that say left or
    right wrong. `word_dropout`, from random weights alone: the share of words that are made unknown, which is
    how the model learns what to think of words that it has not seen.

    `held_out`: the share of pictures, chosen by hash(seed, perceptual hash), that it is measured on and never
    trained on; the figure is the AUC of true captions against shuffled ones. It is taken `evaluations` times;
    the best weights are kept, and after `patience` times without better ones it ends. `ensemble`: the share
    of the trained weights in their mean with those of the start (WiSE-FT, Wortsman et al. 2021,
    arXiv:2109.01903; used for filters by Fang et al. 2023, arXiv:2309.17425); all where it is None.

    `memory`: bytes of decoded images that are kept; the others are decoded anew each time. `precision`: fp32
    or bf16; auto is bf16 on a GPU that has it. Where the same number of `threads` computes on a CPU, the same
    pairs and seed give the same bytes, unless `minutes` end it.

    Raises ValueError for parameters out of range.
    """

    model: str | None = None
    start: str | None = None
    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None
    batch: int = 128
    lr: float | None = None
    warmup: float = 0.1
    weight_decay: float = 0.2
    crop: float = 0.8
    flip: bool = False
    word_dropout: float = 0.1
    held_out: float = 0.1
    evaluations: int = 10
    patience: int = 4
    ensemble: float | None = None
    memory: int = 2_000_000_000
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None
    licence: str = "unknown"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "evaluations", "patience", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it is at least 1")
        if self.batch < 2:
            raise ValueError("batch is 1; a caption is told from those of the other pairs of its batch")
        for name in ("epochs", "minutes", "lr"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it is above 0")
        for name in ("held_out", "warmup", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; write a fraction of 0 or more, below 1")
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop is {self.crop}; it is above 0 and at most 1")
        if self.weight_decay < 0 or self.memory < 0:
            raise ValueError("weight_decay and memory are 0 or more")
        if self.ensemble is not None and (self.start is None or not 0 < self.ensemble <= 1):
            raise ValueError(
                f"ensemble is {self.ensemble}; it is above 0 and at most 1, and needs a model to start from"
            )
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision is {self.precision!r}; training is done in auto, fp32 or bf16")

    def fit(self, data: Mapping[str, Iterable[pa.RecordBatch]], out: Path, seed: int) -> AssetRef:
        """Trains on the batches of all labels and writes the folder `out`. Raises as `train` does."""
        return self.train((batch for batches in data.values() for batch in batches), out, seed).weights

    def train(
        self,
        batches: Iterable[pa.RecordBatch],
        out: Path,
        seed: int,
        *,
        sources: Iterable[str] = (),
        report: Callable[[Progress], None] = lambda progress: None,
    ) -> TrainedClip:
        """As `fit`; returns all there is to know. `sources`: for the card, where the pairs came from.
        `report` hears of each evaluation.

        Ctrl-C while it trains ends it with the best weights so far, and `ending` says so; before there are
        any, it is let through. Memory: `memory`, the model four times, and the activations of a batch. Disk,
        beside `out`, until the end: the encoded images that have no room in memory. Raises ValueError where
        too few pairs are left to learn from, AssetError where a package or a file is missing, TrainingError
        where the loss is no longer a number.
        """
        import_open_clip()
        import torch

        device = device_of(self.device)
        start = start_of(self.model, self.start, LocalAssets(), out)
        out.parent.mkdir(parents=True, exist_ok=True)
        workers = max(1, self.threads or os.cpu_count() or 1)
        with (
            torch.random.fork_rng(),
            threads(self.threads),
            ThreadPoolExecutor(workers) as pool,
            tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder,
        ):
            torch.manual_seed(seed)
            preprocessing = start.preprocessing()
            tokenizer = tokenizer_of(start.described, start.context)
            with closing(
                TrainingPairs(Path(folder), preprocessing, tokenizer, seed, self.held_out, self.memory, pool)
            ) as pairs:
                for batch in batches:
                    pairs.add(batch)
                pairs.finish()
                _check(pairs)
                vocabulary = self._vocabulary(start, pairs)
                tokens = pairs.tokens if vocabulary is None else vocabulary.compact(pairs.tokens)
                cfg = start.described.model_cfg
                network = start.network(cfg if vocabulary is None else vocabulary.configured(cfg))
                half = _trains_in_bf16(device, self.precision)
                settings = self._settings(pairs, vocabulary, half)
                training = Training(network, pairs, tokens, preprocessing, device, settings)
                began = {
                    name: tensor.detach().clone()
                    for name, tensor in network.state_dict().items()
                    if self.ensemble is not None
                }
                schedule = self._schedule(len(pairs.learned), settings.batch)
                outcome = training.run(schedule, seed, report, from_start=start.is_trained)
                if self.ensemble is not None:
                    _mix(network, began, self.ensemble)
                    outcome.auc = training.auc()
                state = network.state_dict()
                if vocabulary is not None:
                    state = vocabulary.expanded(state)
                write_clip(out, cfg, shown_config(preprocessing), state)
                start.copy_tokenizer(out)
                return self._told(
                    start, pairs, outcome, settings, out, sources, sum(map(torch.numel, state.values())), seed
                )

    def _vocabulary(self, start: Start, pairs: TrainingPairs) -> CompactVocabulary | None:
        """A smaller one, where the model has nothing to say about tokens that do not occur."""
        if start.is_trained or not is_compactable(start.described.model_cfg):
            return None
        return CompactVocabulary.of(pairs.tokens[pairs.learned])

    def _settings(self, pairs: TrainingPairs, vocabulary: CompactVocabulary | None, half: bool) -> Settings:
        return Settings(
            batch=min(self.batch, len(pairs.learned)),
            rate=self.lr or RATES[self.start is not None],
            weight_decay=self.weight_decay,
            patience=self.patience,
            crop=self.crop,
            mirrored=self.flip,
            word_dropout=self.word_dropout,
            unknown=None if vocabulary is None else vocabulary.unknown,
            half=half,
        )

    def _schedule(self, pairs: int, batch: int) -> Schedule:
        epochs = self.epochs
        if epochs is None and self.steps is None and self.minutes is None:
            epochs = EPOCHS
        ends = [self.steps] if self.steps else []
        if epochs is not None:
            ends.append(max(1, round(epochs * pairs / batch)))
        seconds = None if self.minutes is None else 60 * self.minutes
        return Schedule(min(ends, default=None), seconds, self.warmup, self.evaluations)

    def _told(
        self,
        start: Start,
        pairs: TrainingPairs,
        outcome: Outcome,
        settings: Settings,
        out: Path,
        sources: Iterable[str],
        parameters: int,
        seed: int,
    ) -> TrainedClip:
        import torch

        weights = out / WEIGHTS_FILE
        trained = TrainedClip(
            folder=out,
            weights=AssetRef(str(weights), checksum(weights), self.licence),
            card=out / CARD_FILE,
            pairs=len(pairs.learned),
            held_out=len(pairs.held_out),
            without_caption=pairs.without_caption,
            without_image=pairs.without_image,
            data_sha256=pairs.data_sha256(),
            parameters=parameters,
            steps=outcome.steps,
            best_step=outcome.step,
            auc=outcome.auc,
            start_auc=outcome.start_auc,
            ending=outcome.ending,
        )
        shown = {
            **asdict(self),
            "batch": settings.batch,
            "lr": settings.rate,
            "threads": torch.get_num_threads(),
            "precision": "bf16" if settings.half else "fp32",
            "seed": seed,
        }
        words = f"{start.described.name}, trained {'further' if start.is_trained else 'from random weights'}"
        trained.card.write_text(training_card(trained, shown, words, sources), encoding="utf-8")
        return trained


def _check(pairs: TrainingPairs) -> None:
    if len(np.unique(pairs.captions[pairs.learned])) < 2:
        raise ValueError(
            f"there are {len(pairs.learned)} pairs to learn from, and at least two with different captions "
            f"are needed; {pairs.without_caption} records have no caption, {pairs.without_image} no readable "
            f"image, and {len(pairs.held_out)} pairs are held out"
        )


def _trains_in_bf16(device: torch.device, precision: str) -> bool:
    """A CPU's layers in training are small, and turning their numbers into bf16 costs more than it saves."""
    if precision == "auto" and device.type == "cpu":
        return False
    return precision_on(device, precision) == "bf16"


def _mix(network: Any, start: Mapping[str, torch.Tensor], share: float) -> None:
    """Moves the weights back towards those of the start, of which they keep 1 - `share`."""
    mixed = {
        name: start[name] + share * (tensor - start[name]) if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    network.load_state_dict(mixed)
