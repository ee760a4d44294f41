"""The page beside a tokenizer or a language model that says what it was made from and how good it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..schemas.contracts import AssetRef
from .model_card import closing


@dataclass(frozen=True)
class TrainedLanguageModel:
    """A trained tokenizer or language model: its file, its card, and figures on documents it has not seen."""

    model: AssetRef
    card: Path
    documents: int  # that it was trained on
    held_out: int  # that it was measured on
    skipped: int  # records without text
    data_sha256: str  # of the lines that it was trained on, in their order
    figures: Mapping[str, float]  # by what they are; empty if nothing was held out


def language_model_card(
    what: str, trained: TrainedLanguageModel, parameters: Mapping[str, Any], sources: Iterable[str]
) -> str:
    """The card in Markdown. `what`: one sentence. It holds no time: the same training gives the same card."""
    origin = ", ".join(sources) or "not recorded"
    figures = [f"| {name} | {value:.4g} |" for name, value in trained.figures.items()]
    quality = ["| figure | value |", "|---|---|", *figures]
    lines = [
        f"# {Path(trained.model.path).name}",
        "",
        what,
        "",
        "## Data",
        "",
        f"Trained on {trained.documents} documents, measured on {trained.held_out} others. From: {origin}.",
        f"{trained.skipped} records had no text and were left out. SHA-256 of the training text: "
        f"`{trained.data_sha256}`.",
        "",
        *closing(
            parameters,
            quality if figures else ["Nothing was held out, so nothing is known of it."],
            trained.model,
        ),
    ]
    return "\n".join(lines)
