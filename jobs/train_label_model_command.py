"""The command `thresher train label-model`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


@click.command("label-model")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="PATH",
    help="Records with votes: Parquet or JSON Lines, such as a job's output.",
)
@click.option(
    "--votes", required=True, metavar="COLUMN,…", help="The columns of votes, one for each function."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .json file to write.")
@click.option(
    "--classes",
    metavar="NAME,…",
    help="What votes are for, in the order of their numbers; 0,1 where left out.",
)
@click.option(
    "--balance", metavar="SHARE,…", help="Share of each class, where it is known; learned where left out."
)
@click.option(
    "--gold",
    metavar="COLUMN",
    help="The true class of some records, to measure by; nothing is learned from it.",
)
@click.option("--smoothing", type=float, help="Added to each count of a vote; 1 where left out.")
@click.option("--iterations", type=int, help="Rounds of learning at most; 1000 where left out.")
@click.option(
    "--labelled",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Also write the records by their most probable class, to train a classifier on.",
)
@click.option(
    "--min-probability",
    type=float,
    help="How probable a class must be for a record to be written; 0 where left out.",
)
@click.option("--licence", help="Licence of the model, for its card; unknown where left out.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train_label_model(
    inputs: tuple[str, ...],
    votes: str,
    out: Path,
    classes: str | None,
    balance: str | None,
    gold: str | None,
    labelled: Path | None,
    min_probability: float | None,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Learn how often each voting function is right, from where they agree and differ.

    \b
    Example:
      thresher train label-model --input 'votes/shard-*.parquet' --votes vote_money,vote_link,vote_short \\
        --classes ham,spam --out spam.json --labelled labelled/
    """
    from . import training_label_model

    given = {name: value for name, value in parameters.items() if value is not None}
    if classes is not None:
        given["classes"] = _names(classes)
    if balance is not None:
        try:
            given["balance"] = tuple(map(float, balance.split(",")))
        except ValueError:
            raise click.UsageError(
                f"--balance {balance!r}: write shares with commas between, as 0.8,0.2"
            ) from None
    if min_probability is not None and labelled is None:
        raise click.UsageError("--min-probability goes with --labelled")
    answer = training_label_model.train_label_model(
        inputs,
        _names(votes),
        out,
        gold=gold,
        labelled=labelled,
        min_probability=min_probability or 0.0,
        parameters=given,
    )
    told = training_label_model.told
    click.echo(json.dumps(answer, indent=1, ensure_ascii=False) if as_json else told(answer))


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in listed.split(","))
