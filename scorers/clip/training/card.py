"""The page in a trained CLIP model's folder that says what it was made from and how good it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....schemas.contracts import AssetRef
from ..architecture import WEIGHTS_FILE
from .evaluation import SHUFFLES
from .loop import Ending

CARD_FILE = "README.md"
_ENDINGS: dict[Ending, str] = {
    "end": "it ran to its end",
    "no better": "it was no longer getting better",
    "interrupted": "it was interrupted",
}


@dataclass(frozen=True)
class TrainedClip:
    """A trained model: its folder, its card, and its figure on pairs that it has not seen."""

    folder: Path
    weights: AssetRef  # the file in the folder
    card: Path
    pairs: int  # that it was trained on
    held_out: int  # that it was measured on
    without_caption: int
    without_image: int
    data_sha256: str  # of the pairs that it was trained on, in their order
    parameters: int
    steps: int
    best_step: int  # of which the weights are
    auc: float | None  # true captions against shuffled ones, on the pairs held out
    start_auc: float | None  # of the model that it was trained from
    ending: Ending


def training_card(
    trained: TrainedClip, parameters: Mapping[str, Any], model: str, sources: Iterable[str]
) -> str:
    """The card in Markdown. `model`: what it is, in words. It holds no time, so that the same training gives
    the same card."""
    origin = ", ".join(sources) or "not recorded"
    shown = {name: value for name, value in parameters.items() if name != "licence" and value is not None}
    return "\n".join(
        [
            f"# {trained.folder.name}",
            "",
            f"A CLIP model: {model}, {trained.parameters:,} parameters. The folder is in open_clip's layout; "
            "open_clip loads it as `local-dir:` and its path.",
            "",
            "## Data",
            "",
            f"Trained on {trained.pairs} pairs, measured on {trained.held_out} others, no picture being in "
            f"both. From: {_cell(origin)}.",
            f"{trained.without_caption} records had no caption and {trained.without_image} no image that can "
            f"be decoded; they were left out. SHA-256 of the training pairs: `{trained.data_sha256}`.",
            "",
            "## Parameters",
            "",
            "| parameter | value |",
            "|---|---|",
            *(f"| {name} | {_cell(str(value))} |" for name, value in shown.items()),
            "",
            f"The weights are those after step {trained.best_step} of {trained.steps}; then "
            f"{_ENDINGS[trained.ending]}.",
            "",
            "## Quality on the held-out pairs",
            "",
            *_quality(trained),
            "",
            "## File and licence",
            "",
            f"SHA-256 of {WEIGHTS_FILE}: `{trained.weights.sha256}`. Licence: {trained.weights.licence}. A "
            "model can repeat what it was trained on: the licence of the data binds whoever passes the model "
            "on.",
            "",
        ]
    )


def _quality(trained: TrainedClip) -> list[str]:
    if trained.auc is None:
        return ["Nothing was measured: no pairs were held out, or too few of different captions."]
    lines = ["| model | AUC |", "|---|---|"]
    if trained.start_auc is not None:
        lines.append(f"| before training | {trained.start_auc:.4f} |")
    return [
        *lines,
        f"| this one | {trained.auc:.4f} |",
        "",
        "AUC is the chance that an image is nearer to its own caption than another held-out image is to one "
        f"of another pair; each image got {SHUFFLES} of these at most. The weights were chosen by this "
        "figure, so on other pairs it will be a little lower; on pairs of another kind it may be much lower.",
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
