"""Learns the two prompts of Q16 from embeddings of acceptable and of inappropriate images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...filters.embeddings.matrix import Matrix, normalised
from ...schemas.contracts import AssetRef
from ..assets import checksum
from ..heads.data import data_digest, divided, ordered
from ..heads.file import Prompts, write_prompts
from ..metrics import auc
from ..model_card import closing
from .q16 import inappropriate

LABELS: Final = ("acceptable", "inappropriate")
# What Q16's own vectors begin with (github.com/ml-research/Q16, main/models/clip.py).
SENTENCES: Final = ("This image is about something positive", "This image is about something negative")


@dataclass(frozen=True)
class TrainedPrompts:
    """Learned prompts: their file, their card, and figures on images that they were not learned from."""

    model: AssetRef
    card: Path
    rows: Mapping[str, int]  # learned from, by label
    held_out: Mapping[str, int]
    skipped: int  # images without an embedding
    figures: Mapping[str, float]
    before: Mapping[str, float]  # the same of the sentences, as they were before
    data_sha256: str


@dataclass(frozen=True)
class PromptTrainer:
    """Tunes two vectors, begun at the embeddings of two sentences, as Q16 does.

    Schramowski et al. 2022, arXiv:2202.06675, and its repository: logits are `scale` (100) times the cosines.
    How it was optimised is not in the repository; here it is the cross-entropy by Adam, with `lr`, `batch`
    images at a time, until a fifth of the images has seen no lower loss for `patience` of at most `epochs`
    rounds. `held_out`: the share of images, chosen by hash(seed, embedding), that they are measured on.

    Raises ValueError for parameters out of range.
    """

    scale: float = 100.0
    lr: float = 1e-3
    batch: int = 64
    epochs: int = 200
    patience: int = 20
    held_out: float = 0.1
    licence: str = "unknown"

    def __post_init__(self) -> None:
        for name in ("batch", "epochs", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is at least 1")
        for name in ("scale", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it is above 0")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; it is a share of images, less than 1")

    def train(
        self,
        images: Mapping[str, Matrix],
        start: Matrix,
        out: Path,
        seed: int,
        *,
        about: Mapping[str, Any],
        sources: Mapping[str, Sequence[str]],
        skipped: int = 0,
    ) -> TrainedPrompts:
        """Learns from the embeddings of each of LABELS and writes `out`, with a card beside it.

        `start`: the embeddings of the sentences. `about` is put into the file. Raises ValueError where the
        embeddings teach nothing.
        """
        from ..heads.network import tuned_prompts

        for label in LABELS:
            if len(images[label]) and images[label].shape[1] != start.shape[1]:
                raise ValueError(
                    f"{', '.join(sources.get(label, ()))}: embeddings of {images[label].shape[1]} numbers; "
                    f"the model's have {start.shape[1]}"
                )
        rows = normalised(np.concatenate([images[label].reshape(-1, start.shape[1]) for label in LABELS]))
        values = np.repeat([0.0, 1.0], [len(images[label]) for label in LABELS])
        order = ordered(rows, values)
        rows, values = rows[order], values[order]
        held = divided(rows, self.held_out, seed)
        seen = {label: int((values[~held] == number).sum()) for number, label in enumerate(LABELS)}
        for label, count in seen.items():
            if not count:
                where = ", ".join(sources.get(label, ()))
                raise ValueError(f"{where}: there is no {label} image to learn from; give more")
        how = {name: getattr(self, name) for name in ("lr", "batch", "epochs", "patience")}
        vectors, epochs = tuned_prompts(start, rows[~held], values[~held], self.scale, seed, **how)
        digest = data_digest(rows[~held], values[~held])
        parameters = {**asdict(self), "epochs_learned": epochs, "seed": seed}
        told = {**about, "dimensions": int(start.shape[1]), "data_sha256": digest, "rows": seen, **parameters}
        found = Prompts(vectors, self.scale, told)
        write_prompts(found, out)
        figures = [
            _measured(prompts, rows[held], values[held]) for prompts in (found, Prompts(start, self.scale))
        ]
        apart = {label: int((values[held] == number).sum()) for number, label in enumerate(LABELS)}
        card = out.with_name(f"{out.name}.md")
        model = AssetRef(str(out), checksum(out), self.licence)
        trained = TrainedPrompts(model, card, seen, apart, skipped, figures[0], figures[1], digest)
        card.write_text(_card(trained, {**about, **parameters}, sources), "utf-8")
        return trained


def _measured(prompts: Prompts, rows: Matrix, values: np.ndarray) -> dict[str, float]:
    if not len(rows):
        return {}
    scores = inappropriate(rows, prompts)
    figures = {"accuracy": float(((scores > 0.5) == (values == 1)).mean())}
    area = auc(scores, values == 1)
    return figures if area is None else {**figures, "AUC": area}


def _card(
    trained: TrainedPrompts, parameters: Mapping[str, Any], sources: Mapping[str, Sequence[str]]
) -> str:
    quality = ["| figure | before | learned |", "|---|---|---|"]
    quality += [
        f"| {name} | {trained.before[name]:.4f} | {value:.4f} |" for name, value in trained.figures.items()
    ]
    lines = [
        f"# {Path(trained.model.path).name}",
        "",
        "Two vectors whose cosines with an image's CLIP embedding tell how likely it is inappropriate (Q16, "
        "arXiv:2202.06675). What counts as such is what its data called so. Use it on embeddings of the "
        "model below, and of no other.",
        "",
        "## Data",
        "",
        "| label | trained on | held out | from |",
        "|---|---|---|---|",
        *(
            f"| {label} | {trained.rows[label]} | {trained.held_out[label]} | "
            f"{', '.join(sources.get(label, ())) or 'not recorded'} |"
            for label in LABELS
        ),
        "",
        f"{trained.skipped} images had no embedding and were left out. SHA-256 of what it was trained on: "
        f"`{trained.data_sha256}`.",
        "",
        *closing(
            parameters,
            quality if trained.figures else ["Nothing was held out, so nothing is known of it."],
            trained.model,
        ),
    ]
    return "\n".join(lines)
