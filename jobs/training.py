"""Trains a classifier on files of good and of other documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


class NotTrainableError(Exception):
    """The data or the parameters make no model; the message says why."""


def train_fasttext(
    positives: Sequence[str],
    negatives: Sequence[str],
    out: Path,
    *,
    label: str,
    seed: int,
    text: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains a fastText classifier and returns where it is and how good it is on documents held out.

    `positives`, `negatives`: paths and globs of JSON Lines, Parquet or WET files, whose column `text` (or the
    one named) is learned. `parameters`: those of scorers.training.FastTextTrainer.
    Raises NotTrainableError, AssetError where the package that trains is missing, SourceError where a path
    matches nothing.
    """
    from ..scorers import training

    sources = {label: positives, f"not_{label}": negatives}
    columns = {"text": text} if text else {}
    try:
        trained = training.train_fasttext(
            texts(positives, columns),
            texts(negatives, columns),
            out,
            label=label,
            other=f"not_{label}",
            seed=seed,
            trainer=training.FastTextTrainer(**(parameters or {})),
            sources=sources,
        )
    except (ValueError, training.TrainingError) as error:
        raise NotTrainableError(str(error)) from error
    metrics = trained.metrics.get(label)
    return {
        "model": trained.model.path,
        "sha256": trained.model.sha256,
        "card": str(trained.card),
        "documents": dict(trained.documents),
        "held_out": dict(trained.held_out),
        "skipped": trained.skipped,
        "label": label,
        "precision": metrics.precision if metrics else None,
        "recall": metrics.recall if metrics else None,
        "f1": metrics.f1 if metrics else None,
        "auc": metrics.auc if metrics else None,
    }


def texts(paths: Sequence[str], columns: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    from ..pipeline.sources.containers import ContainerCounts
    from ..pipeline.sources.inputs import files_of, splits_of
    from ..pipeline.sources.reader import read
    from ..pipeline.sources.split import TARGET_BYTES

    for path in paths:
        source = {"path": path, "format": None, "columns": dict(columns)}
        for file in files_of(source):
            for split in splits_of(file, source, TARGET_BYTES):
                yield from read(split, ContainerCounts())


def told(answer: Mapping[str, Any]) -> str:
    """The answer as lines of text, with the step that uses the model."""
    figures = {"precision": "precision", "recall": "recall", "F1": "f1", "AUC": "auc"}
    # A figure that cannot be told from so few documents is a dash, as on the card.
    shown = [
        f"{name} {'–' if answer[key] is None else format(answer[key], '.4f')}"
        for name, key in figures.items()
    ]
    held_out = ", ".join(f"{count:,} {label}" for label, count in answer["held_out"].items())
    total = sum(answer["held_out"].values())
    measured = f"{', '.join(shown)} ({held_out})" if total else "not measured"
    learned = ", ".join(f"{count:,} {label}" for label, count in answer["documents"].items())
    skipped = f"; {answer['skipped']:,} records without text were left out" if answer["skipped"] else ""
    return "\n".join(
        [
            f"{answer['model']}: learned from {learned}{skipped}",
            f"on {total:,} documents held out: {measured}",
            f"its card is {answer['card']}; use it in a job as",
            f"  - score: {{fasttext: {{model: {answer['model']}, label: {answer['label']}}}}}",
            "    as: quality",
        ]
    )
