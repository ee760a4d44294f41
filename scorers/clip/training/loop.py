"""The steps in which a CLIP model is trained, until it gets no better on pairs that it does not see."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ....filters.image.decode import Pixels
from ...schedule import Schedule
from ...torch_images import Normaliser
from ...training import TrainingError
from ..preprocessing import Preprocessing
from .augmentation import cropped, with_unknown_words
from .evaluation import Matrix, derangements, separation
from .losses import alike, contrastive_loss, sigmoid_loss
from .pairs import TrainingPairs

if TYPE_CHECKING:
    import torch

Numbers = npt.NDArray[np.int64]
Ending = Literal["end", "no better", "interrupted"]

# As open_clip's own training does for transformers (open_clip_train/params.py and main.py).
_BETAS: Final = (0.9, 0.98)
_EPSILON: Final = 1e-6
_MOST_SCALE: Final = math.log(100)
_MOST_GRADIENT: Final = 1.0


@dataclass(frozen=True)
class Progress:
    """What is known at an evaluation."""

    step: int
    loss: float  # mean of the steps since the last one; not a number before the first step
    auc: float | None
    best: bool
    pairs_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Settings:
    """What the loop does beside its schedule."""

    batch: int
    rate: float
    weight_decay: float
    patience: int  # evaluations
    crop: float
    mirrored: bool
    word_dropout: float
    unknown: int | None  # the token of unknown words, where the model has one
    half: bool  # products in bf16


@dataclass
class Outcome:
    """The best weights, and how they were found."""

    state: Mapping[str, torch.Tensor] = field(default_factory=dict)
    step: int = 0  # at which the weights were as they are
    auc: float | None = None
    start_auc: float | None = None
    steps: int = 0
    ending: Ending = "end"


class Training:
    """One network and the pairs that it is trained on. `tokens` are those of all pairs, as it reads them."""

    def __init__(
        self,
        network: Any,
        pairs: TrainingPairs,
        tokens: npt.NDArray[np.int32],
        preprocessing: Preprocessing,
        device: torch.device,
        settings: Settings,
    ) -> None:
        self.network = network.to(device)
        self._pairs, self._tokens, self._device, self._settings = pairs, tokens, device, settings
        self._ways = derangements(pairs.captions[pairs.held_out])
        self._normaliser = Normaliser(preprocessing.mean, preprocessing.std, device, "fp32")

    def run(
        self, schedule: Schedule, seed: int, report: Callable[[Progress], None], *, from_start: bool
    ) -> Outcome:
        """Trains, and leaves the best weights in the network too. `from_start`: the weights that it begins
        with are the first to be measured.

        Ctrl-C ends it with what was best so far; where that is nothing yet, KeyboardInterrupt is raised.
        Raises TrainingError where the loss is no longer a number.
        """
        outcome = Outcome()
        try:
            self._run(schedule, seed, report, outcome, from_start)
        except KeyboardInterrupt:
            if not outcome.state:
                raise
            outcome.ending = "interrupted"
        self.network.load_state_dict(outcome.state)
        return outcome

    def auc(self) -> float | None:
        """The figure on the pairs held out; None where there are none, or with too few captions."""
        if not len(self._ways):
            return None
        images, texts = self.embeddings(self._pairs.held_out)
        return separation(images, texts, self._ways)

    def embeddings(self, numbers: Numbers) -> tuple[Matrix, Matrix]:
        """Those of these pairs' images and captions, of length one."""
        import torch

        found: list[tuple[Matrix, Matrix]] = []
        training = self.network.training
        self.network.eval()
        with torch.inference_mode():
            for start in range(0, len(numbers), self._settings.batch):
                part = numbers[start : start + self._settings.batch]
                towers = self._encoded(self._normaliser(self._pairs.pixels(part)), self._captions(part))
                found.append(tuple(tower.cpu().numpy() for tower in towers))  # type: ignore[arg-type]
        self.network.train(training)
        images, texts = zip(*found, strict=True)
        return np.concatenate(images), np.concatenate(texts)

    def _run(
        self,
        schedule: Schedule,
        seed: int,
        report: Callable[[Progress], None],
        outcome: Outcome,
        from_start: bool,
    ) -> None:
        import torch

        generator = torch.Generator().manual_seed(seed)
        optimizer = self._optimizer()
        began, last, done, worse, losses = time.monotonic(), 0, 0, 0, [math.nan]
        if from_start:
            outcome.start_auc, _ = self._measure(outcome, 0)
            report(Progress(0, math.nan, outcome.auc, True, 0.0, math.inf))
        self.network.train()
        progress = 0.0
        since = time.monotonic()
        for numbers, pixels in self._batches(generator):
            progress = schedule.progress(outcome.steps + 1, time.monotonic() - began)
            for group in optimizer.param_groups:
                group["lr"] = self._settings.rate * schedule.rate(min(progress, 1 - 1e-3))
            losses.append(self._step(optimizer, numbers, pixels, generator))
            outcome.steps += 1
            progress = schedule.progress(outcome.steps, time.monotonic() - began)
            if schedule.is_due(progress, done):
                while schedule.is_due(progress, done):
                    done += 1
                pace = (outcome.steps - last) * self._settings.batch / (time.monotonic() - since)
                found, better = self._measure(outcome, outcome.steps)
                elapsed = time.monotonic() - began
                mean = float(np.mean(losses[1:]))
                report(Progress(outcome.steps, mean, found, better, pace, elapsed / progress - elapsed))
                worse = 0 if better else worse + 1
                last, since, losses = outcome.steps, time.monotonic(), [math.nan]
                if worse >= self._settings.patience:
                    outcome.ending = "no better"
                    return
            if progress >= 1:
                return

    def _step(
        self,
        optimizer: torch.optim.Optimizer,
        numbers: Numbers,
        pixels: Pixels,
        generator: torch.Generator,
    ) -> float:
        import torch

        settings = self._settings
        images = cropped(self._normaliser(pixels), generator, settings.crop, settings.mirrored)
        tokens = torch.from_numpy(self._tokens[numbers])
        if settings.unknown is not None and settings.word_dropout:
            tokens = with_unknown_words(tokens, generator, settings.word_dropout, settings.unknown)
        shown, said = self._encoded(images, tokens.to(self._device).long())
        same = alike(
            *(
                torch.from_numpy(kinds[numbers].view(np.int64)).to(self._device)
                for kinds in (self._pairs.captions, self._pairs.pictures)
            )
        )
        scale, bias = self.network.logit_scale.exp(), getattr(self.network, "logit_bias", None)
        if bias is None:
            loss = contrastive_loss(shown, said, scale, same)
        else:
            loss = sigmoid_loss(shown, said, scale, bias, same)
        found = float(loss.detach())
        if not math.isfinite(found):
            raise TrainingError(f"the loss is {found}; try a smaller --lr")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _MOST_GRADIENT)
        optimizer.step()
        with torch.no_grad():
            self.network.logit_scale.clamp_(0, _MOST_SCALE)
        return found

    def _measure(self, outcome: Outcome, step: int) -> tuple[float | None, bool]:
        """The AUC, and whether it is the best so far, whose weights are kept. Without one the last is."""
        found = self.auc()
        better = found is None or outcome.auc is None or found > outcome.auc
        if better:
            state = self.network.state_dict()
            outcome.state = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
            outcome.step, outcome.auc = step, found
        return found, better

    def _encoded(self, images: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        from torch.nn.functional import normalize

        with self._autocast():
            shown, said = self.network.encode_image(images), self.network.encode_text(tokens)
        return normalize(shown.float(), dim=-1), normalize(said.float(), dim=-1)

    def _autocast(self) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast(self._device.type, torch.bfloat16) if self._settings.half else nullcontext()

    def _captions(self, numbers: Numbers) -> torch.Tensor:
        import torch

        said = torch.from_numpy(self._tokens[numbers])
        return said.to(self._device).long()

    def _batches(self, generator: torch.Generator) -> Iterator[tuple[Numbers, Pixels]]:
        """Batches without end, each pair once before any is there again; the pixels of the next one are taken
        while the last one is worked on."""
        with ThreadPoolExecutor(1) as ahead:
            following = None
            for numbers in self._draws(generator):
                coming = ahead.submit(self._pairs.pixels, numbers)
                if following is not None:
                    yield following[0], following[1].result()
                following = numbers, coming

    def _draws(self, generator: torch.Generator) -> Iterator[Numbers]:
        import torch

        learned, batch = self._pairs.learned, self._settings.batch
        waiting = np.empty(0, np.int64)
        while True:
            while len(waiting) < batch:
                order = torch.randperm(len(learned), generator=generator).numpy()
                waiting = np.concatenate([waiting, learned[order]])
            yield waiting[:batch]
            waiting = waiting[batch:]

    def _optimizer(self) -> torch.optim.Optimizer:
        """AdamW; gains, biases and the scale do not decay."""
        import torch

        groups: dict[bool, list[torch.Tensor]] = {True: [], False: []}
        for parameter in self.network.parameters():
            if parameter.requires_grad:
                groups[parameter.ndim >= 2].append(parameter)
        return torch.optim.AdamW(
            [
                {"params": groups[True], "weight_decay": self._settings.weight_decay},
                {"params": groups[False], "weight_decay": 0.0},
            ],
            lr=self._settings.rate,
            betas=_BETAS,
            eps=_EPSILON,
        )
