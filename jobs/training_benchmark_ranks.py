"""Scores the documents of a sample by how high examples of benchmarks rank them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from .scored_records import files_of, read
from .training import NotTrainableError

if TYPE_CHECKING:
    import pyarrow as pa

    from ..filters.embeddings.matrix import Matrix
    from ..scorers.benchmark_targets import Aggregate, Targeted

RANK: Final = "benchmark_rank"
SCORE: Final = "benchmark_score"


def rank_for_benchmarks(
    documents: Sequence[str],
    examples: Sequence[str],
    out: Path,
    *,
    embedding: str = "embedding",
    aggregate: Aggregate = "best",
    threads: int | None = None,
) -> dict[str, Any]:
    """Writes the documents to `out`, a Parquet file, with `benchmark_rank` and `benchmark_score`.

    `documents`, `examples`: folders of jobs' outputs, or paths and globs of files with a column `embedding`,
    made by the same model. A document without one is written with nulls, an example without one is left out.
    `aggregate`: as in scorers.benchmark_targets.rank_documents. Memory: the embeddings of all documents in
    single precision, three times while they are put in order.
    Raises NotTrainableError, SourceError where a path matches nothing.
    """
    from ..scorers.benchmark_targets import rank_documents

    if out.suffix != ".parquet":
        raise NotTrainableError(f"--out {out}: write a name that ends in .parquet")
    files = files_of(documents)
    matrix, ids, has = _embeddings(files, embedding)
    targets, _, _ = _embeddings(files_of(examples), embedding)
    try:
        found = rank_documents(matrix, ids, targets, aggregate, threads)
    except ValueError as error:
        raise NotTrainableError(str(error)) from error
    _write(files, embedding, out, has, found)
    firsts = int((found.best == 1).sum())
    return {
        "documents": str(out),
        "ranked": len(matrix),
        "without": int((~has).sum()),
        "examples": len(targets),
        "aggregate": aggregate,
        "nearest_to_some": firsts,
        "median_rank": float(np.median(found.best)),
    }


def told(answer: Mapping[str, Any]) -> str:
    """The answer as lines of text, with the command that comes next."""
    without = f"; {answer['without']:,} have no embedding" if answer["without"] else ""
    return "\n".join(
        [
            f"{answer['documents']}: {answer['ranked']:,} documents ranked by {answer['examples']:,} examples"
            f"{without}",
            f"{answer['nearest_to_some']:,} are the nearest to an example; the median of best ranks is "
            f"{answer['median_rank']:,.0f}",
            "train a classifier on the best tenth with",
            f"  thresher train student --teacher {answer['documents']} --by {SCORE} --top 10% --others drawn "
            "--out …",
        ]
    )


def _embeddings(files: Sequence[str], name: str) -> tuple[Matrix, pa.Array, npt.NDArray[np.bool_]]:
    """The embeddings of all records that have one, the ids of these, and which records have one."""
    import pyarrow as pa

    from ..filters.embeddings.matrix import is_embedding, matrix_of

    parts: list[Matrix] = []
    ids: list[pa.Array] = []
    has: list[npt.NDArray[np.bool_]] = []
    dimensions = None
    for path in files:
        for batch in read(path, [name], ["id"]):
            column = batch.column(name)
            if not is_embedding(column.type):
                raise NotTrainableError(f"{path}: column {name} is {column.type}, no embedding")
            try:
                matrix, valid = matrix_of(column, dimensions)
            except ValueError as error:
                raise NotTrainableError(f"{path}: column {name}: {error}") from error
            has.append(np.asarray(valid, np.bool_))
            if not len(matrix):
                continue
            dimensions = matrix.shape[1]
            parts.append(matrix)
            rows = pa.array(np.flatnonzero(valid))
            named = "id" in batch.schema.names
            ids.append(
                batch.column("id").cast(pa.string()).take(rows) if named else pa.array([""] * len(matrix))
            )
    if not parts:
        raise NotTrainableError(f"{files[0]}: no record has an embedding in column {name}")
    return np.concatenate(parts), pa.concat_arrays(ids), np.concatenate(has)


def _write(
    files: Sequence[str], embedding: str, out: Path, has: npt.NDArray[np.bool_], found: Targeted
) -> None:
    import pyarrow.parquet as pq

    out.parent.mkdir(parents=True, exist_ok=True)
    made = out.with_name(f".{out.name}.new")
    batches = _with_ranks(files, embedding, has, found)
    first = next(batches)
    with pq.ParquetWriter(made, first.schema, compression="zstd") as writer:
        writer.write_batch(first)
        for batch in batches:
            if batch.schema != first.schema:
                raise NotTrainableError(f"files of documents have other columns than {files[0]}")
            writer.write_batch(batch)
    os.replace(made, out)


def _with_ranks(
    files: Sequence[str], embedding: str, has: npt.NDArray[np.bool_], found: Targeted
) -> Iterator[pa.RecordBatch]:
    """The records without their embeddings, with rank and score."""
    import pyarrow as pa

    place = np.cumsum(has) - 1  # of a record's embedding among those that are there
    start = 0
    for path in files:
        for batch in read(path, None):
            rows = slice(start, start + len(batch))
            start += len(batch)
            at = pa.array(place[rows], mask=~has[rows])
            kept = batch.drop_columns([embedding])
            yield kept.append_column(RANK, pa.array(found.best).take(at)).append_column(
                SCORE, pa.array(found.scores).take(at)
            )
