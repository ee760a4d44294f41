"""Learning by small steps: what training heads, encoders and their first weights have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ..training import TrainingError

if TYPE_CHECKING:
    import torch

Numbers = npt.NDArray[np.int64]
Ending = Literal["end", "no better", "interrupted"]
Stage = Literal["pretraining", "learning"]

_WINDOW: Final = 16  # batches whose texts are sorted by length together
_MOST_GRADIENT: Final = 1.0  # its norm, as transformers' Trainer and BERT's own training


@dataclass(frozen=True)
class Settings:
    """The learning rate rises in the first `warmup` share of the steps and falls to nothing in a line; after
    `patience` epochs without a lower loss it ends."""

    lr: float
    epochs: int
    batch: int
    patience: int
    weight_decay: float = 0.0
    warmup: float = 0.0
    half: bool = False


@dataclass(frozen=True)
class Progress:
    """One look at what has been learned."""

    stage: Stage
    epoch: int
    epochs: int
    loss: float  # the mean of the epoch
    checked: float  # the loss on texts that are not learned from
    best: bool
    texts_per_second: float
    seconds_left: float


@dataclass
class Outcome:
    """How a run went; `state` holds the weights with the lowest loss on texts not learned from."""

    epochs: int = 0
    best_epoch: int = 0
    checked: float = float("inf")
    ending: Ending = "end"
    state: list[dict[str, Any]] = field(default_factory=list)


def descend(
    networks: Sequence[torch.nn.Module],
    batches: Callable[[np.random.Generator], Iterable[Numbers]],
    steps: int,
    loss: Callable[[Numbers], torch.Tensor],
    judged: Callable[[], float],
    settings: Settings,
    seed: int,
    stage: Stage,
    report: Callable[[Progress], None],
) -> Outcome:
    """AdamW on the networks' weights; they are left as they were best, and in the state of evaluation.

    `batches` gives an epoch's rows, `steps` of them; `loss` and `judged` compute. Ctrl-C ends it with what
    was best so far; where that is nothing yet, KeyboardInterrupt is raised. Raises TrainingError where the
    loss is no longer a number.
    """
    outcome = Outcome()
    try:
        _run(networks, batches, steps, loss, judged, settings, seed, stage, report, outcome)
    except KeyboardInterrupt:
        if not outcome.state:
            raise
        outcome.ending = "interrupted"
    for network, state in zip(networks, outcome.state, strict=True):
        network.load_state_dict(state)
        network.eval()
    return outcome


def _run(
    networks: Sequence[torch.nn.Module],
    batches: Callable[[np.random.Generator], Iterable[Numbers]],
    steps: int,
    loss: Callable[[Numbers], torch.Tensor],
    judged: Callable[[], float],
    settings: Settings,
    seed: int,
    stage: Stage,
    report: Callable[[Progress], None],
    outcome: Outcome,
) -> None:
    import torch

    weights = [weight for network in networks for weight in network.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=settings.lr, weight_decay=settings.weight_decay)
    total = settings.epochs * steps
    warm = max(1, round(settings.warmup * total))
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, 1.0) * max(0.0, 1 - step / total)
    )
    chance = np.random.Generator(np.random.PCG64(seed))
    began = time.monotonic()
    seen = 0
    for epoch in range(1, settings.epochs + 1):
        for network in networks:
            network.train()
        losses = []
        for rows in batches(chance):
            optimiser.zero_grad()
            with torch.autocast(weights[0].device.type, torch.bfloat16, enabled=settings.half):
                found = loss(rows)
            found.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, _MOST_GRADIENT)
            optimiser.step()
            rate.step()
            losses.append(found.item())
            seen += len(rows)
        for network in networks:
            network.eval()
        mean = float(np.mean(losses))
        with torch.no_grad():
            checked = judged()
        if not np.isfinite(mean) or not np.isfinite(checked):
            raise TrainingError("the loss is no longer a number; try a smaller lr")
        outcome.epochs = epoch
        best = checked < outcome.checked
        if best:
            outcome.checked, outcome.best_epoch = checked, epoch
            outcome.state = [_copied(network) for network in networks]
        spent = time.monotonic() - began
        left = spent / epoch * (settings.epochs - epoch)
        report(Progress(stage, epoch, settings.epochs, mean, checked, best, seen / spent, left))
        if epoch - outcome.best_epoch >= settings.patience:
            outcome.ending = "no better" if epoch < settings.epochs else "end"
            return


def shuffled(
    rows: Numbers, lengths: npt.NDArray[np.int64] | None, batch: int, chance: np.random.Generator
) -> list[Numbers]:
    """The rows in batches by chance; with `lengths` those of like length are together, in windows of some
    batches, and the batches come by chance."""
    order = chance.permutation(rows)
    if lengths is None:
        return [order[start : start + batch] for start in range(0, len(order), batch)]
    found = []
    for start in range(0, len(order), batch * _WINDOW):
        window = order[start : start + batch * _WINDOW]
        window = window[np.argsort(lengths[window], kind="stable")]
        found += [window[at : at + batch] for at in range(0, len(window), batch)]
    return [found[number] for number in chance.permutation(len(found))]


def _copied(network: torch.nn.Module) -> dict[str, Any]:
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
