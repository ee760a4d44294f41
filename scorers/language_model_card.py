"""The page beside a tokenizer or a language model that says what it was made from and how good it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..schemas.contracts import AssetRef


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
        "## Parameters",
        "",
        "| parameter | value |",
        "|---|---|",
        *(f"| {name} | {_cell(value)} |" for name, value in parameters.items() if name != "licence"),
        "",
        "## Quality on the held-out documents",
        "",
        *(quality if figures else ["Nothing was held out, so nothing is known of it."]),
        "",
        "## File and licence",
        "",
        f"SHA-256: `{trained.model.sha256}`. Licence: {trained.model.licence}. A model can repeat what it "
        "was trained on: the licence of the data binds whoever passes the model on.",
        "",
    ]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return shown.replace("|", "\\|").replace("\n", " ") or "none"
