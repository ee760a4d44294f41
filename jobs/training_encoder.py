"""Trains an encoder of texts, or heads on one, from files of labelled records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from .training import NotTrainableError, texts

if TYPE_CHECKING:
    from ..scorers.encoders.descent import Progress

_OWN: Final = ("id", "url", "date")  # fields that the reader keeps out of `meta`
_FIRST: Final = ("R²", "Spearman", "accuracy", "balanced accuracy", "macro F1")


def train_encoder(
    inputs: Sequence[str],
    targets: Sequence[str],
    out: Path,
    *,
    seed: int,
    pretrain: Sequence[str] = (),
    text: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Any]:
    """Trains an encoder or its heads, and returns where it is and how good it is on texts held out.

    `inputs`: paths and globs of JSON Lines or Parquet whose column `text` (or the one named) is read, and
    whose fields `targets` are learned; `pretrain`: of texts on which a new encoder learns to fill in tokens.
    `parameters`: those of scorers.encoders.training.EncoderTrainer, of its architecture too. `report` hears
    of each epoch. Ctrl-C keeps the best so far, and the answer says so; before there is any,
    KeyboardInterrupt is raised. Raises NotTrainableError, AssetError where a package or an encoder is
    missing, SourceError where a path matches nothing.
    """
    from ..scorers.encoders.pretraining import Architecture
    from ..scorers.encoders.training import EncoderTrainer
    from ..scorers.training import TrainingError

    columns = {"text": text} if text else {}
    given = dict(parameters or {})
    shape = {name: given.pop(name) for name in Architecture.__dataclass_fields__ if name in given}
    try:
        if bool(inputs) != bool(targets):
            raise ValueError("records to learn from and the fields that they teach go together")
        if shape and "start" in given:
            raise ValueError(f"{', '.join(shape)}: are of a new encoder, and this one starts from another")
        trainer = EncoderTrainer(architecture=Architecture(**shape), **given)
        trained = trainer.train(
            taught(inputs, columns, targets),
            targets,
            out,
            seed,
            pretrain_on=_texts(pretrain, columns),
            sources=[*inputs, *pretrain],
            report=report,
        )
    except (ValueError, TrainingError) as error:
        raise NotTrainableError(str(error)) from error
    return {
        "model": str(trained.folder),
        "sha256": trained.weights.sha256,
        "card": str(trained.card),
        "texts": trained.texts,
        "held_out": trained.held_out,
        "pretrained_on": trained.pretrained_on,
        "pretraining_loss": trained.pretraining_loss,
        "skipped": trained.skipped,
        "heads": {
            name: {
                "kind": question.kind,
                "classes": list(question.classes),
                "figures": dict(trained.figures.get(name, {})),
            }
            for name, question in trained.questions.items()
        },
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "ending": trained.ending,
    }


def taught(
    paths: Sequence[str], columns: Mapping[str, str], targets: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Batches of `text` and the targets, which are fields of the input; what lacks one has null.

    Raises NotTrainableError where no record has a target.
    """
    seen: dict[str, bool] = dict.fromkeys(targets, False)
    fields: set[str] = set()
    for batch in texts(paths, columns):
        rows = [json.loads(meta) if meta else {} for meta in batch.column("meta").to_pylist()]
        found: dict[str, pa.Array] = {"text": batch.column("text")}
        for name in targets:
            values = [row.get(name) for row in rows]
            if name in _OWN and all(value is None for value in values):
                values = batch.column(name).to_pylist()
            seen[name] |= any(value is not None for value in values)
            found[name] = _column(name, values)
        fields.update(*rows[:1])
        yield pa.RecordBatch.from_pydict(found)
    for name, there in seen.items():
        if not there:
            known = ", ".join(sorted(fields)) or "none"
            raise NotTrainableError(f"{', '.join(paths)}: no record has a field {name!r}; there are: {known}")


def _column(name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # 1 and 2.5, say
        pass
    try:
        return pa.array(values, pa.float64())
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise NotTrainableError(f"{name}: is of several types ({error})") from error


def _texts(paths: Sequence[str], columns: Mapping[str, str]) -> Iterator[str]:
    for batch in texts(paths, columns):
        yield from (text for text in batch.column("text").to_pylist() if text)


def told(answer: Mapping[str, Any]) -> str:
    """The answer as lines of text, with the step that uses the model."""
    skipped = (
        f"; {answer['skipped']:,} records without text or target were left out" if answer["skipped"] else ""
    )
    lines = []
    if answer["ending"] == "interrupted":
        lines.append("interrupted; this is the best until then")
    if answer["pretrained_on"]:
        loss = answer["pretraining_loss"]
        lines.append(
            f"learned to fill in tokens of {answer['pretrained_on']:,} texts, to a loss of {loss:.3f}"
        )
    if answer["heads"]:
        best = f", after epoch {answer['best_epoch']} of {answer['epochs']}" if answer["epochs"] else ""
        lines.append(f"{answer['model']}: learned from {answer['texts']:,} texts{skipped}{best}")
        lines.append(f"on {answer['held_out']:,} texts held out:")
    for name, head in answer["heads"].items():
        shown = [f"{key} {head['figures'][key]:.4f}" for key in _FIRST if key in head["figures"]]
        lines.append(f"  {name}: {', '.join(shown) or 'not measured'}")
    names = [
        name if head["kind"] == "regression" or _are_numbers(head["classes"]) else f"{name}_label"
        for name, head in answer["heads"].items()
    ]
    outputs = ", ".join(names) or "embedding"
    lines += [
        f"its card is {answer['card']}; use it in a job as",
        f"  - score: {{encoder: {{model: {answer['model']}, outputs: [{outputs}]}}}}",
        "    as: encoded",
    ]
    return "\n".join(lines)


def told_progress(progress: Progress) -> str:
    """One line for an epoch."""
    best = " (best)" if progress.best else ""
    return (
        f"{progress.stage}: epoch {progress.epoch} of {progress.epochs}, loss {progress.loss:.4f}, on others "
        f"{progress.checked:.4f}{best}, {progress.texts_per_second:,.0f} texts/s, "
        f"{progress.seconds_left:,.0f} s left"
    )


def _are_numbers(classes: Sequence[str]) -> bool:
    try:
        return bool([float(label) for label in classes])
    except ValueError:
        return False
