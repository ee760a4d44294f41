"""Placeholder."""

from __future__ import annotations

from ..schemas.dedup import Semantic
from .compiled import CorpusStep


def compile_semantic(name: str, prefix: str, options: Semantic, seed: int) -> CorpusStep:
    raise NotImplementedError("semantic")
