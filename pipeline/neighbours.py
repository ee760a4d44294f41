"""Placeholder."""

from __future__ import annotations

from ..schemas.dedup import Neighbours
from .compiled import CorpusStep


def compile_neighbours(name: str, prefix: str, options: Neighbours, seed: int) -> CorpusStep:
    raise NotImplementedError("neighbours")
