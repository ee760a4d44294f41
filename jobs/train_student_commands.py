"""The commands `thresher train student` and `thresher train benchmark-ranks`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


def _share(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """10% or 0.1 as a number."""
    from pydantic_core import PydanticCustomError

    from ..schemas.quantities import parse_fraction

    if value is None:
        return None
    try:
        return parse_fraction(value if value.endswith("%") else float(value))
    except PydanticCustomError as error:
        raise click.BadParameter(error.message(), ctx, param) from None
    except ValueError:
        raise click.BadParameter(f"{value!r} is no share; write 10% or 0.1", ctx, param) from None


@click.command("student")
@click.option(
    "--teacher",
    multiple=True,
    required=True,
    metavar="PATH",
    help="Records that a teacher has scored: a job's output folder, Parquet or JSON Lines.",
)
@click.option("--by", metavar="COLUMN", help="The teacher's score, the higher the better.")
@click.option(
    "--top", callback=_share, metavar="SHARE", help="Share of the records that are positive, as 10%."
)
@click.option("--min", "least", type=float, help="The least score that is positive.")
@click.option(
    "--others",
    type=click.Choice(("all", "lowest", "drawn")),
    default="all",
    show_default=True,
    help="Which are negative: all the rest; as many as are positive, the lowest first; or all the rest, and "
    "the larger side is drawn down to the smaller one.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="In place of a score: domains with a weight above 0 are positive, those with 0 are negative.",
)
@click.option(
    "--domain",
    default="signal_domain",
    show_default=True,
    metavar="COLUMN",
    help="The domain of a record, with weights.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The model file to write.")
@click.option("--label", default="hq", show_default=True, help="What positive documents are called.")
@click.option("--text", default="text", show_default=True, metavar="COLUMN", help="What is learned.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--epoch", type=int, help="Passes over the data; 5 where left out, as fastText's.")
@click.option("--lr", type=float, help="Learning rate; 0.1 where left out, as fastText's.")
@click.option("--dim", type=int, help="Size of the word vectors; 100 where left out, as fastText's.")
@click.option("--word-ngrams", type=int, help="Longest word n-gram that is a feature; 2 where left out.")
@click.option("--bucket", type=int, help="Hash buckets of n-grams; 2000000 where left out, as fastText's.")
@click.option("--held-out", type=float, help="Share of documents to measure on; 0.1 where left out.")
@click.option("--licence", help="Licence of the model, for its card; unknown where left out.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train_student(
    teacher: tuple[str, ...],
    out: Path,
    by: str | None,
    top: float | None,
    least: float | None,
    others: Any,
    weights: Path | None,
    domain: str,
    label: str,
    text: str,
    seed: int,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Train a fastText classifier on what a teacher has chosen from a sample.

    \b
    Example:
      thresher train student --teacher teacher/ --by agreement --min 15 \\
        --others lowest --out hq.bin
    """
    from . import training_student

    answer = training_student.train_student(
        teacher,
        out,
        by=by,
        top=top,
        least=least,
        others=others,
        weights=weights,
        domain=domain,
        label=label,
        seed=seed,
        text=text,
        parameters={name: value for name, value in parameters.items() if value is not None},
    )
    told = training_student.told
    click.echo(json.dumps(answer, indent=1, ensure_ascii=False) if as_json else told(answer))


@click.command("benchmark-ranks")
@click.option(
    "--documents",
    multiple=True,
    required=True,
    metavar="PATH",
    help="A sample with embeddings: a job's output folder, or Parquet.",
)
@click.option(
    "--examples",
    multiple=True,
    required=True,
    metavar="PATH",
    help="Training examples of benchmarks with embeddings of the same model.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .parquet file to write.")
@click.option("--embedding", default="embedding", show_default=True, metavar="COLUMN")
@click.option(
    "--aggregate",
    type=click.Choice(("best", "reciprocal", "log")),
    default="best",
    show_default=True,
    help="What a document's ranks make: the best of them, the mean of 1/rank, or the mean of log2(1/rank).",
)
@click.option("--threads", type=int, help="All cores where left out; no part of the result.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rank_for_benchmarks(
    documents: tuple[str, ...], examples: tuple[str, ...], out: Path, as_json: bool, **options: Any
) -> None:
    """Score documents by how high examples of benchmarks rank them.

    \b
    Example:
      thresher train benchmark-ranks --documents teacher/ --examples examples/ \\
        --out ranked.parquet
    """
    from . import training_benchmark_ranks

    answer = training_benchmark_ranks.rank_for_benchmarks(documents, examples, out, **options)
    told = training_benchmark_ranks.told
    click.echo(json.dumps(answer, indent=1, ensure_ascii=False) if as_json else told(answer))
