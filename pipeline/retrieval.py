"""Placeholder."""

from __future__ import annotations

from pathlib import Path

from ..schemas.steps import RetrieveStep
from .compiled import CorpusStep


def compile_retrieve(step: RetrieveStep, number: int, seed: int, directory: Path) -> CorpusStep:
    raise NotImplementedError("retrieval")
