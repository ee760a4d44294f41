"""Placeholder."""

from __future__ import annotations

from ..schemas.embeddings import HierarchicalSample
from ..schemas.verbs import OnNull
from .compiled import CorpusStep


def compile_hierarchical_sample(
    name: str, number: int, options: HierarchicalSample, seed: int, on_null: OnNull
) -> CorpusStep:
    raise NotImplementedError("hierarchical_sample")
