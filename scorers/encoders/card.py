"""The page in a trained encoder's folder that says what it was made from and how good it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...schemas.contracts import AssetRef
from ..model_card import closing
from .descent import Ending
from .heads import Question

CARD_FILE = "README.md"
_ENDINGS: dict[Ending, str] = {
    "end": "it ran to its end",
    "no better": "it was no longer getting better",
    "interrupted": "it was interrupted",
}


@dataclass(frozen=True)
class TrainedEncoder:
    """A trained encoder: its folder, its card, and figures of its heads on texts that it has not seen."""

    folder: Path
    weights: AssetRef  # what was trained: the heads' file, or the encoder's
    card: Path
    texts: int  # that it was trained on
    held_out: int  # that it was measured on
    pretrained_on: int
    skipped: int  # records without a text or any target
    data_sha256: str  # of the texts and targets that it was trained on
    questions: Mapping[str, Question]
    figures: Mapping[str, Mapping[str, float]]  # by head
    epochs: int  # 0 where heads were computed, not learned by steps
    best_epoch: int
    ending: Ending
    pretraining_loss: float | None  # on texts not learned from, nats for a hidden token


def training_card(
    trained: TrainedEncoder, parameters: Mapping[str, Any], what: str, sources: Iterable[str]
) -> str:
    """The card in Markdown. `what`: what it is, in words. It holds no time, so that the same training gives
    the same card."""
    shown = {name: value for name, value in parameters.items() if value is not None}
    lines = [
        f"# {trained.folder.name}",
        "",
        f"{what} The folder is in the layout of transformers and of sentence-transformers.",
        "",
        "## Data",
        "",
        f"Trained on {trained.texts} labelled texts, measured on {trained.held_out} others; copies of a text "
        f"are on one side. From: {', '.join(sources).replace('|', chr(92) + '|') or 'not recorded'}.",
        f"{trained.skipped} records had no text or no target and were left out. SHA-256 of what it was "
        f"trained on: `{trained.data_sha256}`.",
    ]
    if trained.pretrained_on:
        loss = "" if trained.pretraining_loss is None else f", to a loss of {trained.pretraining_loss:.4f}"
        lines.append(f"Before that it learned to fill in tokens of {trained.pretrained_on} texts{loss}.")
    if trained.epochs:
        lines += [
            "",
            f"The weights are those after epoch {trained.best_epoch} of {trained.epochs}, by the loss on a "
            f"tenth of the texts that it was trained on; {_ENDINGS[trained.ending]}.",
        ]
    return "\n".join([*lines, "", *closing(shown, _quality(trained), trained.weights)])


def _quality(trained: TrainedEncoder) -> list[str]:
    if not any(trained.figures.values()):
        return ["Nothing was held out, so nothing is known of it."]
    lines = ["| head | figure | value |", "|---|---|---|"]
    for name, figures in trained.figures.items():
        lines += [f"| {name} | {figure} | {value:.4f} |" for figure, value in figures.items()]
    return lines
