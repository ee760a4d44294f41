"""Trains a fastText classifier on what a teacher has chosen from a sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .scored_records import files_of, read
from .training import NotTrainableError
from .training_correlations import DOMAIN

if TYPE_CHECKING:
    import pyarrow as pa

    from ..scorers.teacher_choice import Others

_PURPOSE = "student"  # what negatives are drawn for


def train_student(
    teacher: Sequence[str],
    out: Path,
    *,
    by: str | None = None,
    top: float | None = None,
    least: float | None = None,
    others: Others = "all",
    weights: Path | None = None,
    domain: str = DOMAIN,
    label: str = "hq",
    seed: int = 0,
    text: str = "text",
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains on the records that a teacher has scored; returns where the model is and how good it is.

    `teacher`: folders of jobs' outputs, or paths and globs of Parquet or JSON Lines. Positive are the best by
    the column `by`, and negative are others, as scorers.teacher_choice.TeacherChoice takes them; or, with
    `weights`, the records whose `domain` has a weight above 0 in that file, and those with a weight of 0.
    `parameters`: those of scorers.training.FastTextTrainer. Memory: a few numbers and the id of each record,
    besides fastText's own; files are read once to choose and once to learn.
    Raises NotTrainableError, AssetError where a file or the package that trains is missing, SourceError where
    a path matches nothing.
    """
    from ..scorers import training
    from ..scorers.teacher_choice import TeacherChoice

    if (by is None) == (weights is None):
        raise NotTrainableError("give the column that the teacher made (by), or the weights of domains")
    if weights is not None and (top is not None or least is not None or others != "all"):
        raise NotTrainableError("weights say which records are positive; leave top, min and others out")
    files = files_of(teacher)
    try:
        if weights is not None:
            scores, ids = _weighed(files, domain, weights)
            choice = TeacherChoice(least=np.nextafter(0, 1))
        else:
            assert by is not None
            scores, ids = _scored(files, by)
            choice = TeacherChoice(top, least, others)
        good, rest = choice.split(scores, ids, _draws(ids, seed))
        trained = training.train_fasttext(
            _texts(files, text, good, len(ids)),
            _texts(files, text, rest, len(ids)),
            out,
            label=label,
            other=f"not_{label}",
            seed=seed,
            trainer=training.FastTextTrainer(**(parameters or {})),
            sources={label: teacher, f"not_{label}": teacher},
        )
    except (ValueError, training.TrainingError) as error:
        raise NotTrainableError(str(error)) from error
    metrics = trained.metrics.get(label)
    return {
        "model": trained.model.path,
        "sha256": trained.model.sha256,
        "card": str(trained.card),
        "records": len(ids),
        "positive": len(good),
        "negative": len(rest),
        "documents": dict(trained.documents),
        "held_out": dict(trained.held_out),
        "skipped": trained.skipped,
        "label": label,
        "precision": metrics.precision if metrics else None,
        "recall": metrics.recall if metrics else None,
        "f1": metrics.f1 if metrics else None,
        "auc": metrics.auc if metrics else None,
    }


def told(answer: Mapping[str, Any]) -> str:
    """The answer as lines of text, with the step that uses the model."""
    from .training import told as told_of_model

    chosen = (
        f"of {answer['records']:,} records {answer['positive']:,} are positive and "
        f"{answer['negative']:,} negative"
    )
    return f"{chosen}\n{told_of_model(answer)}"


def _scored(files: Sequence[str], by: str) -> tuple[pa.Array, pa.Array]:
    """The scores of all records, and their ids."""
    import pyarrow as pa

    scores, ids = [], []
    for path in files:
        for batch in read(path, [by], ["id"]):
            column = batch.column(by)
            if not (
                pa.types.is_floating(column.type)
                or pa.types.is_integer(column.type)
                or pa.types.is_null(column.type)
            ):
                raise NotTrainableError(f"{path}: column {by} is {column.type}; scores are numbers")
            scores.append(column.cast(pa.float64(), safe=False))
            ids.append(_ids_of(batch))
    return pa.concat_arrays(scores), pa.concat_arrays(ids)


def _weighed(files: Sequence[str], domain: str, weights: Path) -> tuple[pa.Array, pa.Array]:
    """The weights of the domains of all records, null where the file has none, and their ids."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from .training_correlations import read_weights

    known = read_weights(weights)
    names, values = pa.array(list(known), pa.string()), pa.array(list(known.values()), pa.float64())
    scores, ids = [], []
    for path in files:
        for batch in read(path, [domain], ["id"]):
            rows = pc.index_in(batch.column(domain).cast(pa.string()), names, skip_nulls=True)
            scores.append(values.take(rows))
            ids.append(_ids_of(batch))
    return pa.concat_arrays(scores), pa.concat_arrays(ids)


def _ids_of(batch: pa.RecordBatch) -> pa.Array:
    """The ids as strings; empty ones where there are none, and then the order of the records decides."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if "id" not in batch.schema.names:
        return pa.array([""] * len(batch))
    return pc.fill_null(batch.column("id").cast(pa.string()), "")


def _draws(ids: pa.Array, seed: int) -> npt.NDArray[np.uint64]:
    from ..pipeline.draws import draws

    return draws(ids, seed, _PURPOSE)


def _texts(
    files: Sequence[str], text: str, rows: npt.NDArray[np.int64], count: int
) -> Iterator[pa.RecordBatch]:
    """The texts of some rows, numbered over all files."""
    import pyarrow as pa

    chosen = np.zeros(count, np.bool_)
    chosen[rows] = True
    start = 0
    for path in files:
        for batch in read(path, [text]):
            inside = chosen[start : start + len(batch)]
            start += len(batch)
            texts = batch.column(text).filter(pa.array(inside)).cast(pa.string())
            yield pa.RecordBatch.from_pydict({"text": texts})
