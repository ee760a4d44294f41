"""Learns a label model from files with columns of votes, and writes records by the labels that it gives."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .training import NotTrainableError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ..scorers.votes.label_model import LabelModel

_ROWS: Final = 8192  # read at a time
_FORMATS: Final = ("parquet", "jsonl")
_TEXTS: Final = ("id", "text", "url")  # of these, what the input has is written beside the probabilities


def train_label_model(
    inputs: Sequence[str],
    votes: Sequence[str],
    out: Path,
    *,
    gold: str | None = None,
    labelled: Path | None = None,
    min_probability: float = 0.0,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Learns from the columns `votes` and returns where the model is and what it knows of each function.

    `inputs`: paths and globs of Parquet or JSON Lines. `gold`: a column with the true class of some records,
    as a number or a name, to measure by. `labelled`: a folder in which the records with a vote are written,
    in a file `CLASS.parquet` for each class, by the most probable one, the first of several that tie, where
    its probability is `min_probability` or more. `parameters`: those of
    scorers.votes.training.LabelModelTrainer.
    Raises NotTrainableError, SourceError where a path matches nothing.
    """
    from ..pipeline.sources.files import expand
    from ..pipeline.sources.source_file import SourceError
    from ..scorers.votes.training import LabelModelTrainer

    if not 0 <= min_probability <= 1:
        raise NotTrainableError(f"min_probability is {min_probability}; it is between 0 and 1")
    files = [file.path for path in inputs for file in expand(path)]
    columns = [*votes, *([gold] if gold else [])]
    try:
        trainer = LabelModelTrainer(functions=tuple(votes), **(parameters or {}))
        batches = (
            _with_gold(batch, gold, trainer.classes) for path in files for batch in _read(path, columns)
        )
        trained = trainer.train(batches, out, gold, inputs)
    except SourceError:
        raise
    except ValueError as error:
        raise NotTrainableError(str(error)) from error
    written = {} if labelled is None else _write_labelled(trained.model, files, labelled, min_probability)
    return {
        "model": trained.file.path,
        "sha256": trained.file.sha256,
        "card": str(trained.card),
        "records": trained.records,
        "voted": trained.voted,
        "combinations": trained.combinations,
        "classes": list(trained.model.classes),
        "balance": trained.model.balance.tolist(),
        "log_likelihood": trained.fitted.log_likelihood,
        "iterations": trained.fitted.iterations,
        "has_converged": trained.fitted.has_converged,
        "functions": [{**asdict(one), "is_useful": one.is_useful} for one in trained.functions],
        "accuracy": None if trained.accuracy is None else asdict(trained.accuracy),
        "labelled": written,
    }


def told(answer: Mapping[str, Any]) -> str:
    """The answer as lines of text, with the step that uses the model."""
    names = [one["name"] for one in answer["functions"]]
    width = max(len(name) for name in (*names, "function"))
    shares = ", ".join(
        f"{label} {share:.1%}" for label, share in zip(answer["classes"], answer["balance"], strict=True)
    )
    settled = "" if answer["has_converged"] else "; it has not converged, more --iterations may help"
    lines = [
        f"{answer['model']}: learned from {answer['voted']:,} of {answer['records']:,} records with a vote, "
        f"in {answer['combinations']:,} combinations{settled}",
        f"classes: {shares}",
        f"{'function'.ljust(width)}  votes on  against  accuracy  chance",
        *(_function_line(one, width) for one in answer["functions"]),
    ]
    if found := answer["accuracy"]:
        lines.append(
            f"of {found['records']:,} records whose class is known, right {found['label_model']:.4f}; "
            f"by majority {found['majority']:.4f}"
        )
    lines += [f"{path}: {count:,} records" for path, count in answer["labelled"].items()]
    return "\n".join(
        [
            *lines,
            f"its card is {answer['card']}; use it in a job, after the step that makes the votes, as",
            f"  - score: {{label_model: {{model: {answer['model']}, votes: [{', '.join(names)}], "
            f"label: {answer['classes'][-1]}}}}}",
            "    as: probability",
        ]
    )


def _function_line(one: Mapping[str, Any], width: int) -> str:
    if one["accuracy"] is None:
        return f"{one['name'].ljust(width)}  {0:8.1%}  never votes"
    warning = "" if one["is_useful"] else "  no better than chance"
    return (
        f"{one['name'].ljust(width)}  {one['coverage']:8.1%}  {one['conflict']:7.1%}  "
        f"{one['accuracy']:8.1%}  {one['chance']:6.1%}{warning}"
    )


def _read(path: str, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
    """Some columns of a file, and those of `optional` that it has. Raises NotTrainableError."""
    import pyarrow as pa

    from ..pipeline.sources.files import guess_format
    from ..pipeline.sources.patience import ReadError

    format_ = guess_format(path)
    if format_ not in _FORMATS:
        raise NotTrainableError(f"{path}: is {format_}; votes are read from {' and '.join(_FORMATS)}")
    try:
        if format_ == "parquet":
            yield from _read_parquet(path, columns, optional)
        else:
            yield from _read_lines(path, columns, optional)
    except (pa.ArrowException, OSError, ReadError) as error:
        raise NotTrainableError(f"{path}: cannot be read ({error})") from error


def _read_parquet(path: str, columns: Sequence[str], optional: Sequence[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    from ..pipeline.sources.files import open_file

    with open_file(path, ahead=False) as file, pq.ParquetFile(file) as parquet:
        names = parquet.schema_arrow.names
        for name in columns:
            if name not in names:
                raise NotTrainableError(f"{path}: has no column {name}; it has {', '.join(names)}")
        wanted = [*columns, *(name for name in optional if name in names)]
        for batch in parquet.iter_batches(_ROWS, columns=wanted):
            yield batch.select(wanted)


def _read_lines(path: str, columns: Sequence[str], optional: Sequence[str]) -> Iterator[pa.RecordBatch]:
    import json
    from itertools import islice

    from ..pipeline.sources.compression import Decoded, compression_of
    from ..pipeline.sources.files import open_file
    from ..pipeline.sources.jsonl import read_lines

    with open_file(path) as file:
        head = file.read(4)
    seen: set[str] = set()
    with open_file(path) as file:
        stream = Decoded(file, compression_of(head))
        found = read_lines(stream, 0, False, None)
        while lines := list(islice(found, _ROWS)):
            rows = []
            for line in lines:
                try:
                    row = json.loads(line.data) if line.fault is None else None
                except ValueError:
                    row = None
                if not isinstance(row, dict):
                    raise NotTrainableError(f"{path}: byte {line.offset}: no JSON object")
                rows.append(row)
                seen.update(row)
            yield _batch(rows, columns, optional, path)
        if stream.fault is not None:
            raise NotTrainableError(f"{path}: {stream.fault.reason} at byte {stream.fault.offset}")
    for name in columns:
        # Leaving a field out is another way to write null, but not if no record has it.
        if seen and name not in seen:
            raise NotTrainableError(f"{path}: no record has {name}; there are {', '.join(sorted(seen))}")


def _batch(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], optional: Sequence[str], path: str
) -> pa.RecordBatch:
    import pyarrow as pa

    found = {}
    for name in columns:
        try:
            found[name] = pa.array([row.get(name) for row in rows])
        except pa.ArrowException as error:
            raise NotTrainableError(f"{path}: {name} is not of one kind ({error})") from error
    for name in optional:
        texts = [value if isinstance(value := row.get(name), str) else None for row in rows]
        found[name] = pa.array(texts, pa.string())
    return pa.RecordBatch.from_pydict(found)


def _with_gold(batch: pa.RecordBatch, gold: str | None, classes: Sequence[str]) -> pa.RecordBatch:
    """The batch with names of classes in the column `gold` as their numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if gold is None:
        return batch
    column = batch.column(gold)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return batch
    numbers = pc.index_in(column, pa.array(classes, column.type), skip_nulls=True)
    unknown = pc.and_(numbers.is_null(), column.is_valid())
    if pc.any(unknown).as_py():
        text = column.filter(unknown)[0].as_py()
        raise NotTrainableError(f"column {gold}: {text!r} is none of {', '.join(classes)}")
    place = batch.schema.get_field_index(gold)
    return batch.set_column(place, gold, numbers)


def _write_labelled(model: LabelModel, files: Sequence[str], folder: Path, least: float) -> dict[str, int]:
    """Writes the records by class; returns the number of records of each file."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ..scorers.votes.labels import ABSTAIN, votes_of

    folder.mkdir(parents=True, exist_ok=True)
    probabilities = [pa.field(f"probability_{label}", pa.float32()) for label in model.classes]
    schema = pa.schema([*((name, pa.string()) for name in _TEXTS), *probabilities])
    paths = {label: folder / f"{label}.parquet" for label in model.classes}
    made = {label: path.with_name(f".{path.name}.new") for label, path in paths.items()}
    written = dict.fromkeys(model.classes, 0)
    writers: dict[str, pq.ParquetWriter] = {
        label: pq.ParquetWriter(path, schema, compression="zstd") for label, path in made.items()
    }
    try:
        for path in files:
            for batch in _read(path, model.functions, _TEXTS):
                votes = votes_of(batch, model.functions, len(model.classes))
                shares = model.probabilities(votes)
                best, has_vote = shares.argmax(axis=1), (votes != ABSTAIN).any(axis=1)
                chosen = has_vote & (shares.max(axis=1) >= least)
                table = _labelled(batch, shares, schema)
                for number, label in enumerate(model.classes):
                    rows = np.flatnonzero(chosen & (best == number))
                    writers[label].write_table(table.take(pa.array(rows)))
                    written[label] += len(rows)
    finally:
        for writer in writers.values():
            writer.close()
    for label, place in paths.items():
        os.replace(made[label], place)
    return {str(paths[label]): count for label, count in written.items()}


def _labelled(batch: pa.RecordBatch, shares: Any, schema: pa.Schema) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    texts = [
        batch.column(name).cast(pa.string())
        if name in batch.schema.names
        else pa.nulls(len(batch), pa.string())
        for name in _TEXTS
    ]
    numbers = [pa.array(shares[:, number].astype(np.float32)) for number in range(shares.shape[1])]
    return pa.Table.from_arrays([*texts, *numbers], schema=schema)
