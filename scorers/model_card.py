"""The page beside a trained model that says what it was made from and how good it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..schemas.contracts import AssetRef
from .metrics import Metrics


@dataclass(frozen=True)
class Trained:
    """A trained model: the file, its card beside it, and its figures on documents it has not seen."""

    model: AssetRef
    card: Path
    documents: Mapping[str, int]  # that it was trained on, by label
    held_out: Mapping[str, int]  # that it was measured on, by label
    skipped: int  # records without text
    data_sha256: str  # of the training text, in the order in which the model saw it
    metrics: Mapping[str, Metrics]  # by label, against all others


def model_card(trained: Trained, parameters: Mapping[str, Any], sources: Mapping[str, Iterable[str]]) -> str:
    """The card in Markdown. It holds no time, so that the same training gives the same card."""
    labels = list(trained.documents)
    lines = [
        f"# {Path(trained.model.path).name}",
        "",
        f"A fastText classifier of {len(labels)} labels: {', '.join(labels)}.",
        "",
        "## Data",
        "",
        "| label | trained on | held out | from |",
        "|---|---|---|---|",
    ]
    for label in labels:
        origin = ", ".join(sources.get(label, ())) or "not recorded"
        lines.append(
            f"| {label} | {trained.documents[label]} | {trained.held_out[label]} | {_cell(origin)} |"
        )
    lines += [
        "",
        f"{trained.skipped} records had no text and were left out. SHA-256 of the training text: "
        f"`{trained.data_sha256}`.",
        "",
        *closing(parameters, _quality(trained), trained.model),
    ]
    return "\n".join(lines)


def closing(parameters: Mapping[str, Any], quality: Sequence[str], model: AssetRef) -> list[str]:
    """What every model's card ends with, as lines: parameters, quality, file and licence."""
    return [
        "## Parameters",
        "",
        "| parameter | value |",
        "|---|---|",
        *(f"| {name} | {_cell(_shown(value))} |" for name, value in parameters.items() if name != "licence"),
        "",
        "## Quality on the held-out documents",
        "",
        *quality,
        "",
        "## File and licence",
        "",
        f"SHA-256: `{model.sha256}`. Licence: {model.licence}. A model can repeat what it "
        "was trained on: the licence of the data binds whoever passes the model on.",
        "",
    ]


def _quality(trained: Trained) -> list[str]:
    if not trained.metrics:
        return ["Nothing was held out, so nothing is known of it."]
    rows = ["| label | documents | precision | recall | F1 | AUC |", "|---|---|---|---|---|---|"]
    for label, found in trained.metrics.items():
        figures = (found.precision, found.recall, found.f1, found.auc)
        shown = " | ".join("–" if figure is None else f"{figure:.4f}" for figure in figures)
        rows.append(f"| {label} | {found.documents} | {shown} |")
    return rows


def _shown(value: Any) -> str:
    return (" ".join(map(str, value)) if isinstance(value, tuple) else str(value)) or "none"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
