"""What torch learns of a head: logistic regression, a hidden layer, two prompts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...filters.embeddings.matrix import Matrix, normalised
from ..torch_device import threads
from .data import divided

if TYPE_CHECKING:
    import torch

    from .training import HeadTrainer

Doubles = npt.NDArray[np.float64]
Layer = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

_CHECKED: float = 0.2  # of the rows, which decide when to stop and how much to shrink
_ANOTHER: int = 0x5EED  # so that these rows are others than those held out


def logistic_regression(
    rows: Matrix,
    values: Doubles,
    classes: int,
    penalty: float | None,
    penalties: Sequence[float],
    seed: int,
    rounds: int,
) -> tuple[Layer, float]:
    """Weight and bias of multinomial logistic regression by L-BFGS, and the penalty.

    Where none is given it is that of `penalties`, strongest first, with the lowest loss on a fifth of the
    rows; the result is then learned from all.
    """
    import torch

    given = torch.from_numpy(rows.astype(np.float64))
    wanted = torch.from_numpy(values.astype(np.int64))
    with threads(1):
        if penalty is None:
            checked = torch.from_numpy(divided(rows, _CHECKED, seed ^ _ANOTHER))
            if not checked.any() or len(np.unique(values[~checked.numpy()])) < classes:
                penalty = float(penalties[len(penalties) // 2])
            else:
                start, losses = None, []
                for tried in penalties:
                    start = _fitted(given[~checked], wanted[~checked], classes, tried, rounds, start)
                    loss = torch.nn.functional.cross_entropy(
                        given[checked] @ start[0].T + start[1], wanted[checked]
                    )
                    losses.append(float(loss))
                penalty = float(penalties[int(np.argmin(losses))])
        weight, bias = _fitted(given, wanted, classes, penalty, rounds, None)
    return (weight.numpy().astype(np.float32), bias.numpy().astype(np.float32)), penalty


def _fitted(
    rows: torch.Tensor,
    wanted: torch.Tensor,
    classes: int,
    penalty: float,
    rounds: int,
    start: tuple[torch.Tensor, torch.Tensor] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    weight = torch.zeros(classes, rows.shape[1], dtype=torch.float64) if start is None else start[0].clone()
    bias = torch.zeros(classes, dtype=torch.float64) if start is None else start[1].clone()
    weight.requires_grad_()
    bias.requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=rounds,
        tolerance_grad=1e-8,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        found = torch.nn.functional.cross_entropy(rows @ weight.T + bias, wanted)
        found = found + penalty / 2 * (weight**2).sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def hidden_layer(
    trainer: HeadTrainer, rows: Matrix, values: Doubles, labels: tuple[str, ...], seed: int
) -> tuple[tuple[Layer, ...], dict[str, Any]]:
    """Both layers of a network with one hidden layer, and how many rounds it learned."""
    import torch

    assert trainer.hidden is not None
    middle, spread = (0.0, 1.0) if labels else (float(values.mean()), float(values.std()) or 1.0)
    with threads(1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torch.nn.Sequential(
            torch.nn.Linear(rows.shape[1], trainer.hidden),
            torch.nn.ReLU(),
            torch.nn.Linear(trainer.hidden, len(labels) or 1),
        )
        wanted = torch.from_numpy(values.astype(np.int64) if labels else (values - middle) / spread)

        def loss(given: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
            found = network(given)
            if labels:
                return torch.nn.functional.cross_entropy(found, wanted[numbers])
            return torch.nn.functional.mse_loss(found[:, 0], wanted[numbers].float())

        epochs = descend(
            network,
            loss,
            rows,
            seed,
            lr=trainer.lr,
            batch=trainer.batch,
            epochs=trainer.epochs,
            patience=trainer.patience,
        )
        weights = [parameter.detach().numpy().astype(np.float64) for parameter in network.parameters()]
    weights[2], weights[3] = weights[2] * spread, weights[3] * spread + middle
    first, second = (tuple(array.astype(np.float32) for array in weights[at : at + 2]) for at in (0, 2))
    learned = {"hidden": trainer.hidden, "epochs_learned": epochs}
    return (first, second), learned  # type: ignore[return-value]


def descend(
    network: torch.nn.Module,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    rows: Matrix,
    seed: int,
    *,
    lr: float,
    batch: int,
    epochs: int,
    patience: int,
) -> int:
    """Adam on batches of four fifths of the rows, until the rest has seen no lower loss for a while.

    The network is left as it was best; the number of its rounds is returned, 0 if it was best at the start.
    """
    import torch

    given = torch.from_numpy(np.ascontiguousarray(rows, np.float32))
    is_checked = divided(rows, _CHECKED, seed ^ _ANOTHER)
    if not is_checked.any() or is_checked.all():
        is_checked = np.zeros(len(rows), np.bool_)
    checked, learned = np.flatnonzero(is_checked), np.flatnonzero(~is_checked)
    checked = checked if len(checked) else learned
    optimiser = torch.optim.Adam(network.parameters(), lr=lr)
    generator = np.random.Generator(np.random.PCG64(seed))

    def judged() -> float:
        with torch.no_grad():
            return float(loss(given[checked], torch.from_numpy(checked)))

    best, at, kept = judged(), 0, copy.deepcopy(network.state_dict())
    for epoch in range(1, epochs + 1):
        order = generator.permutation(learned)
        for start in range(0, len(order), batch):
            numbers = torch.from_numpy(order[start : start + batch])
            optimiser.zero_grad()
            loss(given[numbers], numbers).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        now = judged()
        if now < best:
            best, at, kept = now, epoch, copy.deepcopy(network.state_dict())
        elif epoch - at >= patience:
            break
    network.load_state_dict(kept)
    return at


def tuned_prompts(
    start: Matrix, rows: Matrix, values: Doubles, scale: float, seed: int, **how: Any
) -> tuple[Matrix, int]:
    """Two vectors of length one, begun at `start`, whose cosines with the rows tell 0 from 1; and the rounds
    that they learned for."""
    import torch

    class Tuned(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.prompts = torch.nn.Parameter(torch.from_numpy(normalised(start).copy()))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return scale * images @ torch.nn.functional.normalize(self.prompts, dim=1).T

    with threads(1):
        network = Tuned()
        wanted = torch.from_numpy(values.astype(np.int64))
        epochs = descend(
            network,
            lambda given, numbers: torch.nn.functional.cross_entropy(network(given), wanted[numbers]),
            rows,
            seed,
            **how,
        )
        return normalised(network.prompts.detach().numpy()), epochs
