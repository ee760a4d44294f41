"""Intervals over a few seeds, and how much random data does as well as a choice."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
MOST_SEEDS = len(T_95) + 1


@dataclass(frozen=True)
class Interval:
    """A mean and half the width of its 95 % interval; nan where there is one value alone."""

    mean: float
    half: float

    @property
    def text(self) -> str:
        return f"{self.mean:.3f} ± {self.half:.3f}"


def interval(values: Sequence[float]) -> Interval:
    """Of Student's t."""
    if len(values) < 2:
        return Interval(values[0], math.nan)
    return Interval(
        statistics.mean(values), T_95[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values))
    )


def difference(values: Sequence[float], others: Sequence[float]) -> Interval:
    """Of pairs that share a seed, and so the weights that training begins with."""
    return interval([value - other for value, other in zip(values, others, strict=True)])


@dataclass(frozen=True)
class Needed:
    """Tokens of random data that reach a loss; a bound where the curve ends before or begins behind."""

    tokens: float
    beyond: str = ""  # ">": more than was tried; "<": fewer

    def times(self, tokens: int) -> str:
        return f"{self.beyond}{self.tokens / tokens:.2g} ×"


def needed(curve: Sequence[tuple[int, float]], loss: float) -> Needed:
    """Where a curve of (tokens, loss), by tokens, first comes down to a loss.

    Straight between its points in the logarithm of tokens, as losses fall about evenly there.
    """
    (tokens, before), *rest = sorted(curve)
    if before <= loss:
        return Needed(tokens, "" if before == loss else "<")
    for more, after in rest:
        if after <= loss:
            share = (before - loss) / (before - after)
            return Needed(math.exp(math.log(tokens) + share * math.log(more / tokens)))
        tokens, before = more, after
    return Needed(tokens, ">")
