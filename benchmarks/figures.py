"""What a benchmark finds, and whether it meets its target."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

NOT_RUN = 77  # exit status of a benchmark whose data is not there


@dataclass(frozen=True)
class Figure:
    """One number with, where there is one, the target of the project for it."""

    name: str
    value: float
    unit: str
    target: float | None = None
    at_most: bool = False  # whether the target is an upper bound

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


def add_option(parser: argparse.ArgumentParser) -> None:
    """The option by which a benchmark is told where to leave its figures."""
    parser.add_argument("--figures", type=Path, help="a JSON file to leave the figures in")


def save(figures: Sequence[Figure], path: Path | None) -> None:
    """Leaves figures for `load`; nothing where `path` is None."""
    if path is not None:
        path.write_text(json.dumps([asdict(figure) for figure in figures], indent=1), encoding="utf-8")


def load(path: Path) -> list[Figure]:
    """What `save` has left."""
    return [Figure(**values) for values in json.loads(path.read_text(encoding="utf-8"))]


def table(figures: Sequence[Figure]) -> str:
    """A line for each figure: name, value, unit, target, met or not."""
    width = max((len(figure.name) for figure in figures), default=0)
    lines = []
    for figure in figures:
        line = f"{figure.name:{width}}  {_number(figure.value):>9} {figure.unit:12}"
        if figure.target is not None:
            bound = f"{'<=' if figure.at_most else '>='} {figure.target:g}"
            line += f"  {bound:9}  {'met' if figure.met else 'NOT MET'}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _number(value: float) -> str:
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 2 else f"{value:.1f}"
