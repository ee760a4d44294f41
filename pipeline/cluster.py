"""Placeholder."""

from __future__ import annotations

from pathlib import Path

from ..schemas.steps import ClusterStep
from .compiled import CorpusStep


def compile_cluster(step: ClusterStep, number: int, seed: int, directory: Path) -> CorpusStep:
    raise NotImplementedError("cluster")
