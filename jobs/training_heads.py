"""Trains what reads embeddings: heads from targets, and the two prompts of Q16 from two sets of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .training import NotTrainableError

if TYPE_CHECKING:
    from ..filters.embeddings.matrix import Matrix
    from ..scorers.heads.file import Kind

_EMBEDDINGS: Final = (".npy", ".npz")
_PIECE: Final = 256  # images that are decoded at a time


def train_head(
    embeddings: Path,
    out: Path,
    *,
    target: str | None = None,
    targets: Path | None = None,
    array: str | None = None,
    kind: Kind | None = None,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains a head and returns where it is and how good it is on rows held out.

    `embeddings`: a file as read_reference takes it, of which `array` names the array or column. What they
    teach is the column `target` of that file, or the .npy or .npz `targets` (of an .npz the array `target`),
    a value for each row. `kind` is by default a regression for numbers and a classification for text and
    truth values. `parameters`: those of scorers.heads.training.HeadTrainer.

    Raises NotTrainableError, which names file and column, and AssetError where a file cannot be read.
    """
    from ..filters.embeddings.reference import read_reference
    from ..scorers.heads.training import HeadTrainer

    is_table = embeddings.suffix.lower() == ".parquet"
    if targets is None and (target is None or not is_table):
        raise NotTrainableError(
            f"{embeddings}: what is to be learned? name a column of a Parquet file with --target, or a file "
            "with --targets"
        )
    parameters = dict(parameters or {})
    unit = bool(parameters.get("normalised", True))
    columns = [target] if targets is None and target is not None else []
    read = read_reference(embeddings, array, columns=columns, unit=unit)
    if targets is None:
        where, values = f"{embeddings}: column {target}", read.columns.get(str(target), pa.array([]))
    else:
        if is_table:
            raise NotTrainableError(
                f"{targets}: the rows of a Parquet file are taught by one of its columns; write --target"
            )
        where, values = f"{targets}", _targets(targets, target)
    if len(values) != len(read.matrix):
        raise NotTrainableError(
            f"{where}: has {len(values)} values for the {len(read.matrix)} embeddings of {embeddings}"
        )
    taught, there, is_number = _taught(values, where)
    chosen = kind or ("regression" if is_number else "classification")
    if chosen == "regression" and not is_number:
        raise NotTrainableError(f"{where}: is {values.type}; a regression learns numbers")
    try:
        trainer = HeadTrainer(kind=chosen, **parameters)
        trained = trainer.train(
            read.matrix[there],
            taught,
            out,
            seed,
            sources=[str(embeddings), *([] if targets is None else [str(targets)])],
            skipped=int((~there).sum()),
        )
    except ValueError as error:
        raise NotTrainableError(f"{where}: {error}") from error
    return {
        "model": trained.model.path,
        "sha256": trained.model.sha256,
        "card": str(trained.card),
        "kind": trained.kind,
        "labels": list(trained.labels),
        "rows": trained.rows,
        "held_out": trained.held_out,
        "skipped": trained.skipped,
        "figures": dict(trained.figures),
    }


def train_q16(
    acceptable: Sequence[str],
    unacceptable: Sequence[str],
    out: Path,
    *,
    model: str,
    checkpoint: str | None = None,
    sentences: Sequence[str] | None = None,
    array: str | None = None,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains the prompts of Q16 and returns where they are and how well they tell images held out.

    `acceptable`, `unacceptable`: files of embeddings, or of images as a job's sources, which `model` then
    embeds. `parameters`: those of scorers.clip.q16_training.PromptTrainer. Raises NotTrainableError,
    AssetError where the model or a file cannot be read, SourceError where a path matches nothing.
    """
    from ..scorers.assets import LocalAssets
    from ..scorers.clip.model import load_clip
    from ..scorers.clip.q16_training import LABELS, SENTENCES, PromptTrainer
    from ..scorers.clip.texts import text_embeddings

    chosen = tuple(sentences or SENTENCES)
    assets = LocalAssets([Path()])
    clip = load_clip(model, checkpoint, assets, precision="fp32")
    start = text_embeddings(clip, list(chosen))
    described = assets.describe(checkpoint or model)
    found, skipped, sources = {}, 0, dict(zip(LABELS, (acceptable, unacceptable), strict=True))
    for label, paths in sources.items():
        found[label], lost = _embedded(paths, array, model, checkpoint)
        skipped += lost
    about = {"model": model, "model_sha256": described.sha256, "sentences": list(chosen)}
    try:
        trained = PromptTrainer(**(parameters or {})).train(
            found, start, out, seed, about=about, sources=sources, skipped=skipped
        )
    except ValueError as error:
        raise NotTrainableError(str(error)) from error
    return {
        "model": trained.model.path,
        "sha256": trained.model.sha256,
        "card": str(trained.card),
        "images": dict(trained.rows),
        "held_out": dict(trained.held_out),
        "skipped": trained.skipped,
        "figures": dict(trained.figures),
        "before": dict(trained.before),
    }


def _targets(path: Path, name: str | None) -> pa.Array:
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.lib.npyio.NpzFile):
            with stored as archive:
                if name is None and len(archive.files) != 1:
                    raise NotTrainableError(
                        f"{path}: which array? it has {', '.join(archive.files)}; name it with --target"
                    )
                if name is not None and name not in archive.files:
                    raise NotTrainableError(
                        f"{path}: has no array {name!r}; it has {', '.join(archive.files)}"
                    )
                stored = archive[name or archive.files[0]]
        return pa.array(stored.reshape(len(stored)) if stored.ndim == 2 and stored.shape[1] == 1 else stored)
    except (OSError, EOFError, ValueError, pa.ArrowException) as error:
        raise NotTrainableError(f"{path}: cannot be read as targets ({error})") from error


def _taught(values: pa.Array, where: str) -> tuple[Any, npt.NDArray[np.bool_], bool]:
    """The targets that are there, which rows have one, and whether they are numbers."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    there = np.asarray(values.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        there = there & np.isfinite(numbers)
        # An integer is a label as it is written.
        whole = pa.types.is_integer(kind)
        return (numbers[there].astype(np.int64) if whole else numbers[there]), there, True
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
        found = values.drop_null().to_pylist()
        named = [str(value).lower() if isinstance(value, bool) else value for value in found]
        return named, there, False
    raise NotTrainableError(f"{where}: is {kind}; targets are numbers, text, or true and false")


def _embedded(
    paths: Sequence[str], array: str | None, model: str, checkpoint: str | None
) -> tuple[Matrix, int]:
    """The embeddings of all files, and how many records have none."""
    from ..filters.embeddings.reference import read_reference

    found, skipped, pictures = [], 0, []
    for path in paths:
        if _is_embeddings(Path(path)):
            found.append(read_reference(Path(path), array).matrix)
        else:
            pictures.append(path)
    if pictures:
        matrix, skipped = _of_pictures(pictures, model, checkpoint)
        found.append(matrix)
    wide = [matrix for matrix in found if len(matrix)]
    if len({matrix.shape[1] for matrix in wide}) > 1:
        told = ", ".join(str(matrix.shape[1]) for matrix in wide)
        raise NotTrainableError(f"{', '.join(paths)}: embeddings of different lengths ({told})")
    return (np.concatenate(wide) if wide else np.empty((0, 0), np.float32)), skipped


def _is_embeddings(path: Path) -> bool:
    if path.suffix.lower() in _EMBEDDINGS:
        return True
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    import pyarrow.parquet as pq

    from ..filters.embeddings.matrix import is_embedding

    return any(is_embedding(field.type) for field in pq.read_schema(path))


def _of_pictures(paths: Sequence[str], model: str, checkpoint: str | None) -> tuple[Matrix, int]:
    from ..filters.embeddings.matrix import matrix_of
    from ..scorers.assets import LocalAssets
    from ..scorers.clip.scorer import ClipScorer

    scorer = ClipScorer(model, checkpoint, outputs=["image"])
    scorer.open(LocalAssets([Path()]))
    found, skipped = [], 0
    for batch in _pictures(paths):
        column = scorer.score(scorer.prepare(batch))["image"]
        found.append(matrix_of(column)[0])
        skipped += column.null_count
    filled = [matrix for matrix in found if len(matrix)]
    return (np.concatenate(filled) if filled else np.empty((0, 0), np.float32)), skipped


def _pictures(paths: Sequence[str]) -> Iterator[pa.RecordBatch]:
    from ..pipeline.sources.containers import ContainerCounts
    from ..pipeline.sources.inputs import files_of, splits_of
    from ..pipeline.sources.reader import read
    from ..pipeline.sources.split import TARGET_BYTES

    for path in paths:
        listed = path.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))
        source: dict[str, Any] = {
            "path": path,
            "format": "image-folder" if listed else None,
            "columns": {},
        }
        for file in files_of(source):
            for split in splits_of(file, source, TARGET_BYTES, "image-text"):
                for batch in read(split, ContainerCounts()):
                    images = pa.RecordBatch.from_pydict({"image": batch.column("payload")})
                    yield from (images.slice(start, _PIECE) for start in range(0, len(images), _PIECE))


def told_head(answer: Mapping[str, Any]) -> str:
    """The answer as lines of text, with the step that uses the head."""
    what = f"a classifier of {', '.join(answer['labels'])}" if answer["labels"] else "a regression"
    skipped = f"; {answer['skipped']:,} without a target were left out" if answer["skipped"] else ""
    label = f", label: {answer['labels'][-1]}" if answer["labels"] else ""
    return "\n".join(
        [
            f"{answer['model']}: {what}, learned from {answer['rows']:,} embeddings{skipped}",
            f"on {answer['held_out']:,} embeddings held out: {_figures(answer['figures'])}",
            f"its card is {answer['card']}; use it in a job, after the step that makes clip_image, as",
            f"  - score: {{linear_head: {{embedding: clip_image, head: {answer['model']}{label}}}}}",
            "    as: quality",
        ]
    )


def told_q16(answer: Mapping[str, Any]) -> str:
    """The answer as lines of text, with the step that uses the prompts."""
    learned = ", ".join(f"{count:,} {label}" for label, count in answer["images"].items())
    held_out = ", ".join(f"{count:,} {label}" for label, count in answer["held_out"].items())
    skipped = f"; {answer['skipped']:,} without an embedding were left out" if answer["skipped"] else ""
    return "\n".join(
        [
            f"{answer['model']}: learned from {learned} images{skipped}",
            f"on images held out ({held_out}): {_figures(answer['figures'])}",
            f"with the sentences alone: {_figures(answer['before'])}",
            f"its card is {answer['card']}; use it in a job, after the step that makes clip_image, as",
            f"  - score: {{q16: {{embedding: clip_image, prompts: {answer['model']}}}}}",
            "    as: inappropriate",
        ]
    )


def _figures(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items()) or "not measured"
