"""The command `thresher train perplexity-correlations`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

_ESTIMATORS = ("spearman", "sign_cdf", "sign_sign", "sign", "product")


@click.command("perplexity-correlations")
@click.option(
    "--losses",
    multiple=True,
    required=True,
    metavar="PATH",
    help="Bits per byte: records with a domain and a column for each model, or a row for each model.",
)
@click.option(
    "--scores",
    required=True,
    metavar="PATH",
    help="Benchmark errors of the models: a CSV or Parquet file with a column model or benchmark.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .json file to write.")
@click.option(
    "--domain",
    metavar="COLUMN",
    help="What a record belongs to; signal_domain where left out, of the step `signals: [domain]`.",
)
@click.option(
    "--size",
    metavar="COLUMN",
    help="How much text a record has, such as its tokens; each has as much where left out.",
)
@click.option(
    "--benchmark", "benchmarks", multiple=True, metavar="NAME", help="Which count; all where left out."
)
@click.option(
    "--accuracy", "higher_is_better", is_flag=True, help="The scores are accuracies: errors are 1 less these."
)
@click.option("--estimator", type=click.Choice(_ESTIMATORS), default="spearman", show_default=True)
@click.option("--projection", type=click.Choice(("linear", "l2")), default="linear", show_default=True)
@click.option(
    "--share",
    type=float,
    help="How much of all text the weights take at most without taking any twice; 0.1 where left out.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train_perplexity_correlations(
    losses: tuple[str, ...], scores: str, out: Path, as_json: bool, **options: Any
) -> None:
    """Weigh domains by how models' losses on them go with benchmark errors.

    \b
    Example:
      thresher train perplexity-correlations --losses teacher/ --scores errors.csv \\
        --out weights.json
    """
    from . import training_correlations

    given = {name: value for name, value in options.items() if value is not None}
    answer = training_correlations.train_correlations(losses, scores, out, **given)
    told = training_correlations.told
    click.echo(json.dumps(answer, indent=1, ensure_ascii=False) if as_json else told(answer))
