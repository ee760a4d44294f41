"""Trains a CLIP model on pairs of images and captions, for a job to filter by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .training import NotTrainableError

if TYPE_CHECKING:
    import pyarrow as pa

    from ..scorers.clip.training.loop import Progress


def train_clip(
    paths: Sequence[str],
    out: Path,
    *,
    seed: int,
    columns: Mapping[str, str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Any]:
    """Trains a CLIP model and returns where it is and how good it is on pairs held out.

    `paths`: paths and globs of WebDataset tars, Parquet with encoded images, and JSON Lines that name image
    files beside them; `columns` says what they call `image` and `text`. `parameters`: those of
    scorers.clip.training.trainer.ClipTrainer. `report` hears of each evaluation. Ctrl-C keeps the best model
    so far, and the answer says so; before there is one, KeyboardInterrupt is raised.
    Raises NotTrainableError, AssetError where a package or a file is missing, SourceError where a path
    matches nothing.
    """
    from ..scorers.clip.training.trainer import ClipTrainer
    from ..scorers.training import TrainingError

    try:
        trainer = ClipTrainer(**(parameters or {}))
        trained = trainer.train(pairs(paths, columns or {}), out, seed, sources=paths, report=report)
    except (ValueError, TrainingError) as error:
        raise NotTrainableError(str(error)) from error
    return {
        "model": str(trained.folder),
        "sha256": trained.weights.sha256,
        "card": str(trained.card),
        "pairs": trained.pairs,
        "held_out": trained.held_out,
        "without_caption": trained.without_caption,
        "without_image": trained.without_image,
        "steps": trained.steps,
        "best_step": trained.best_step,
        "ending": trained.ending,
        "auc": trained.auc,
        "start_auc": trained.start_auc,
    }


def pairs(paths: Sequence[str], columns: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    """Batches of RAW_TEXT, an encoded image the payload of each record and its caption the text."""
    from ..pipeline.sources.containers import ContainerCounts
    from ..pipeline.sources.files import guess_format
    from ..pipeline.sources.inputs import files_of, splits_of
    from ..pipeline.sources.reader import read
    from ..pipeline.sources.split import TARGET_BYTES

    for path in paths:
        for file in files_of({"path": path, "format": None}):
            # By its name a table of text; what it is given as says that its lines name images.
            format_ = "image-folder" if guess_format(file.path) == "jsonl" else None
            source = {"path": path, "format": format_, "columns": dict(columns)}
            for split in splits_of(file, source, TARGET_BYTES, "image-text"):
                yield from read(split, ContainerCounts())


def told(answer: Mapping[str, Any]) -> str:
    """The answer as lines of text, with the step that uses the model."""
    left_out = [
        f"{answer[key]:,} records without {what}"
        for key, what in (("without_caption", "a caption"), ("without_image", "a readable image"))
        if answer[key]
    ]
    skipped = f"; {' and '.join(left_out)} were left out" if left_out else ""
    started = "" if answer["start_auc"] is None else f", {answer['start_auc']:.4f} before training"
    measured = "not measured" if answer["auc"] is None else f"AUC {answer['auc']:.4f}{started}"
    lines = [
        f"{answer['model']}: learned from {answer['pairs']:,} pairs{skipped}",
        f"on {answer['held_out']:,} pairs held out: {measured}, after step {answer['best_step']:,} of "
        f"{answer['steps']:,}",
        f"its card is {answer['card']}; use it in a job as",
        f"  - score: {{clip: {{model: {answer['model']}}}}}",
        "    as: clip",
    ]
    if answer["ending"] == "interrupted":
        lines.insert(0, "interrupted; this is the best model until then")
    return "\n".join(lines)


def told_progress(progress: Progress) -> str:
    """One line for an evaluation."""
    import math

    parts = [f"step {progress.step:,}"]
    if not math.isnan(progress.loss):
        parts.append(f"loss {progress.loss:.3f}")
    if progress.auc is not None:
        parts.append(f"AUC {progress.auc:.4f}{' (best)' if progress.best else ''}")
    if progress.pairs_per_second:
        parts.append(f"{progress.pairs_per_second:,.0f} pairs/s")
        parts.append(f"{progress.seconds_left:,.0f} s left")
    return ", ".join(parts)
