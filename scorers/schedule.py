"""How a training runs: for how long, at which learning rate, and when it is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A run of so many steps, or of so many seconds, whichever ends first.

    The learning rate rises in the first `warmup` share of the run and falls as half a wave of the cosine.
    """

    steps: int | None
    seconds: float | None
    warmup: float
    evaluations: int  # spread over the run

    def progress(self, step: int, elapsed: float) -> float:
        """The share of the run, in [0, 1], that is behind after so many steps and seconds."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = elapsed / self.seconds if self.seconds else 0.0
        return min(1.0, max(by_steps, by_time))

    def rate(self, progress: float) -> float:
        """The share of the highest learning rate."""
        if progress < self.warmup:
            return progress / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))

    def is_due(self, progress: float, done: int) -> bool:
        """Whether it is time for another evaluation after `done` of them; the last is at the end."""
        return progress >= (done + 1) / self.evaluations
