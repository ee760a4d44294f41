"""The steps in which a language model is trained, until it gets no better on text that it does not see."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ..schedule import Schedule
from ..training import TrainingError

if TYPE_CHECKING:
    import torch

Ending = Literal["end", "no better", "interrupted"]
Rows = npt.NDArray[np.uint32]

# Of the optimizer and the gradient, as CoLoR-Filter's configs/base.yaml and OLMo have them.
_BETAS: Final = (0.9, 0.95)
_MOST_GRADIENT: Final = 1.0
# Logits of a pass; the rows of a batch come in as many passes as that takes.
_LOGITS: Final = {"cpu": 1 << 22}
_GPU_LOGITS: Final = 1 << 29


@dataclass(frozen=True)
class Progress:
    """What is known at an evaluation."""

    step: int
    loss: float  # mean of the steps since the last one; not a number before the first step
    held_out: float | None  # loss on the text held out, in nats per token
    best: bool
    tokens_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Settings:
    """What the loop does beside its schedule."""

    rows: int  # of a batch
    rate: float
    weight_decay: float
    patience: int  # evaluations
    half: bool  # products in bf16


@dataclass
class Outcome:
    """The best weights, and how they were found."""

    state: Mapping[str, torch.Tensor] = field(default_factory=dict)
    step: int = 0  # at which the weights were as they are
    loss: float | None = None
    start_loss: float | None = None
    steps: int = 0
    tokens: int = 0  # that were learned from, each as often as it came
    ending: Ending = "end"


class Training:
    """One network, the rows of tokens that it learns from, and those that are held out."""

    def __init__(
        self, network: Any, learned: Rows, held_out: Rows, device: torch.device, settings: Settings
    ) -> None:
        self.network = network.to(device)
        self._learned, self._held_out, self._device, self._settings = learned, held_out, device, settings
        most = _LOGITS.get(device.type, _GPU_LOGITS)
        self._pass = max(1, most // (learned.shape[1] * int(network.config.vocab_size)))

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
        self.network.eval()
        return outcome

    def loss(self) -> float | None:
        """Mean nats per token on the rows held out; None where there are none."""
        import torch

        if not len(self._held_out):
            return None
        self.network.eval()
        total = 0.0
        with torch.inference_mode():
            for start in range(0, len(self._held_out), self._pass):
                rows = self._held_out[start : start + self._pass]
                total += float(self._forward(rows)) * len(rows)
        self.network.train()
        return total / len(self._held_out)

    def _run(
        self,
        schedule: Schedule,
        seed: int,
        report: Callable[[Progress], None],
        outcome: Outcome,
        from_start: bool,
    ) -> None:
        import torch

        optimizer = self._optimizer()
        began = since = time.monotonic()
        last, done, worse, losses = 0, 0, 0, [math.nan]
        if from_start:
            outcome.start_loss, _ = self._measure(outcome, 0)
            report(Progress(0, math.nan, outcome.loss, True, 0.0, math.inf))
        self.network.train()
        for rows in self._batches(torch.Generator().manual_seed(seed)):
            progress = schedule.progress(outcome.steps + 1, time.monotonic() - began)
            for group in optimizer.param_groups:
                group["lr"] = self._settings.rate * schedule.rate(min(progress, 1 - 1e-3))
            losses.append(self._step(optimizer, rows))
            outcome.steps += 1
            outcome.tokens += rows.size
            progress = schedule.progress(outcome.steps, time.monotonic() - began)
            if schedule.is_due(progress, done):
                while schedule.is_due(progress, done):
                    done += 1
                pace = (outcome.steps - last) * rows.size / (time.monotonic() - since)
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

    def _step(self, optimizer: torch.optim.Optimizer, rows: Rows) -> float:
        import torch

        optimizer.zero_grad()
        total = 0.0
        for start in range(0, len(rows), self._pass):
            part = rows[start : start + self._pass]
            loss = self._forward(part) * (len(part) / len(rows))
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if not math.isfinite(total):
            raise TrainingError(f"the loss is {total}; try a smaller --lr")
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _MOST_GRADIENT)
        optimizer.step()
        return total

    def _forward(self, rows: Rows) -> torch.Tensor:
        """The mean loss of the tokens of the rows, but for the first of each."""
        import torch
        from torch.nn.functional import cross_entropy

        ids = torch.from_numpy(rows.astype(np.int64)).to(self._device)
        with self._autocast():
            logits = self.network(input_ids=ids, use_cache=False).logits[:, :-1]
        return cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), ids[:, 1:].reshape(-1))

    def _measure(self, outcome: Outcome, step: int) -> tuple[float | None, bool]:
        """The loss, and whether it is the best so far, whose weights are kept. Without one the last is."""
        found = self.loss()
        better = found is None or outcome.loss is None or found < outcome.loss
        if better:
            state = self.network.state_dict()
            outcome.state = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
            outcome.step, outcome.loss = step, found
        return found, better

    def _autocast(self) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast(self._device.type, torch.bfloat16) if self._settings.half else nullcontext()

    def _batches(self, generator: torch.Generator) -> Iterator[Rows]:
        """Batches without end, each row once before any is there again."""
        import torch

        waiting = np.empty(0, np.int64)
        while True:
            while len(waiting) < self._settings.rows:
                order = torch.randperm(len(self._learned), generator=generator).numpy()
                waiting = np.concatenate([waiting, order])
            chosen, waiting = np.split(waiting, [self._settings.rows])
            yield self._learned[chosen]

    def _optimizer(self) -> torch.optim.Optimizer:
        """AdamW; gains and biases do not decay."""
        import torch

        groups: dict[bool, list[torch.Tensor]] = {True: [], False: []}
        for parameter in self.network.parameters():
            groups[parameter.ndim >= 2].append(parameter)
        return torch.optim.AdamW(
            [
                {"params": groups[True], "weight_decay": self._settings.weight_decay},
                {"params": groups[False], "weight_decay": 0.0},
            ],
            lr=self._settings.rate,
            betas=_BETAS,
        )
