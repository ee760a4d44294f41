"""The command `thresher train clip`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

INTERRUPTED = 130


@click.command("clip")
@click.option(
    "--pairs",
    "paths",
    multiple=True,
    required=True,
    metavar="PATH",
    help="Images with captions: WebDataset tars, Parquet, or JSON Lines beside image files.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option(
    "--model",
    metavar="NAME",
    help="What is trained: small, one of open_clip's architectures, or a JSON file with its configuration; "
    "small where left out.",
)
@click.option(
    "--from",
    "start",
    metavar="PATH",
    help="Weights to begin with: a folder as this command writes it, or a .safetensors file for --model; "
    "random ones where left out.",
)
@click.option("--epochs", type=float, help="Passes over the pairs; 10 where nothing says how long.")
@click.option("--steps", type=int, help="Batches that it learns from at most.")
@click.option("--minutes", type=float, help="Time at most, after the pairs are read.")
@click.option("--batch", type=int, help="Pairs that are told apart at a time; 128 where left out.")
@click.option("--lr", type=float, help="Highest learning rate; 0.001 where left out, with --from 0.00001.")
@click.option("--warmup", type=float, help="Share of the run in which it rises; 0.1 where left out.")
@click.option("--weight-decay", type=float, help="0.2 where left out, as in open_clip.")
@click.option("--crop", type=float, help="Least share of width and height that is shown; 0.8 where left out.")
@click.option(
    "--flip/--no-flip",
    default=None,
    help="Whether images are mirrored, for captions that say nothing of left and right; not where left out.",
)
@click.option(
    "--word-dropout", type=float, help="Share of words made unknown, without --from; 0.1 where left out."
)
@click.option("--held-out", type=float, help="Share of pictures to measure on; 0.1 where left out.")
@click.option("--evaluations", type=int, help="How often it is measured; 10 where left out.")
@click.option("--patience", type=int, help="Evaluations without a better one that end it; 4 where left out.")
@click.option(
    "--ensemble",
    type=float,
    metavar="SHARE",
    help="With --from: the mean of the weights before and after, these with so large a share.",
)
@click.option("--memory", help="For decoded images, as 8GB; 2GB where left out.")
@click.option("--precision", help="fp32, bf16 or auto: bf16 on a GPU that has it; auto where left out.")
@click.option("--device", help="cpu, cuda or auto; auto where left out.")
@click.option("--threads", type=int, help="Of the CPU, which are part of the result; torch's where left out.")
@click.option("--image", metavar="COLUMN", help="The input's image column, or the field that names a file.")
@click.option("--text", metavar="COLUMN", help="The input's caption column; text or caption where left out.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--licence", help="Licence of the model, for its card; unknown where left out.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train_clip(
    paths: tuple[str, ...],
    out: Path,
    image: str | None,
    text: str | None,
    seed: int,
    memory: str | None,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Train a CLIP model that tells which captions belong to which images.

    Ctrl-C ends the training and keeps the best model so far.

    \b
    Example:
      thresher train clip --pairs 'clean/shard-*.tar' --out filter
    """
    # Read when torch is loaded. Threads that spin while they wait for each other take the processors that the
    # others need where these are shared: on two busy ones the same training took five times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from ..schemas.quantities import parse_size
    from . import training_clip

    given = {name: value for name, value in parameters.items() if value is not None}
    if memory is not None:
        try:
            given["memory"] = parse_size(memory)
        except ValueError as error:
            raise click.UsageError(f"--memory: {error}") from None
    named = {"image": image, "text": text}
    answer = training_clip.train_clip(
        paths,
        out,
        seed=seed,
        columns={name: column for name, column in named.items() if column},
        parameters=given,
        report=lambda progress: click.echo(training_clip.told_progress(progress), err=True),
    )
    click.echo(json.dumps(answer, indent=1, ensure_ascii=False) if as_json else training_clip.told(answer))
    if answer["ending"] == "interrupted":
        raise click.exceptions.Exit(INTERRUPTED)
