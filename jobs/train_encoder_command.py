"""The command `thresher train encoder`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

INTERRUPTED = 130


@click.command("encoder")
@click.option(
    "--input", "inputs", multiple=True, metavar="PATH", help="Labelled records: JSON Lines or Parquet."
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="FIELD[,FIELD]",
    help="What is learned: fields of these records. Each becomes a head of that name.",
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="[FIELD=]KIND",
    help="regression or classification, of all targets or of one; where left out, numbers are for a "
    "regression, text and truth values for a classification.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option(
    "--from",
    "start",
    metavar="FOLDER",
    help="The encoder to start from, as transformers or this command writes it; where left out, a small BERT "
    "is made.",
)
@click.option(
    "--frozen",
    is_flag=True,
    default=None,
    help="With --from: the encoder stays as it is, and only heads are learned, by regression unless --lr, "
    "--epochs, --batch, --hidden, --class-weights or --sampling is given.",
)
@click.option(
    "--pretrain",
    multiple=True,
    metavar="PATH",
    help="Texts on which a new encoder first learns to fill in hidden tokens.",
)
@click.option("--pooling", help="cls, mean or last; where left out as the folder of --from says, or mean.")
@click.option("--max-tokens", type=int, help="Of a text; 512 where left out, or as the folder says.")
@click.option("--prefix", help="What comes before each text; none where left out, or as the folder says.")
@click.option(
    "--normalised/--as-pooled",
    default=None,
    help="Whether heads read vectors of length one; where left out, only those learned by regression do.",
)
@click.option("--hidden", type=int, metavar="UNITS", help="A hidden layer of each head; none where left out.")
@click.option("--activation", help="tanh, relu or none, behind the hidden layer; tanh where left out.")
@click.option(
    "--lr",
    type=float,
    help="Highest learning rate: 0.0003 with --frozen as FineWeb-Edu's, 0.00002 with --from as Celadon's, "
    "0.0005 without.",
)
@click.option("--epochs", type=int, help="At most; 20, and 10 with --from and without --frozen.")
@click.option("--batch", type=int, help="Texts of a step; 64, and 256 with --frozen.")
@click.option("--patience", type=int, help="Epochs without a gain after which it ends; 3 where left out.")
@click.option("--weight-decay", type=float, help="0 where left out.")
@click.option("--warmup", type=float, help="Share of the steps in which the rate rises; 0 where left out.")
@click.option(
    "--class-weights",
    help="none, balanced (by rarity) or errors (by mistakes of the epoch before, as Celadon's); none where "
    "left out.",
)
@click.option(
    "--sampling", help="plain, or balanced: rare classes are drawn more often; plain where left out."
)
@click.option("--width", type=int, help="Of a new encoder: numbers of a token; 256 where left out.")
@click.option("--layers", type=int, help="Of a new encoder; 4 where left out.")
@click.option("--attention-heads", type=int, help="Of a new encoder; 4 where left out.")
@click.option("--vocabulary", type=int, help="Of a new encoder: tokens; 16000 where left out.")
@click.option("--dropout", type=float, help="Of a new encoder; 0.1 where left out.")
@click.option("--pretrain-epochs", type=int, help="With --pretrain; 10 where left out.")
@click.option("--pretrain-lr", type=float, help="With --pretrain; 0.0005 where left out.")
@click.option("--masked", type=float, help="Share of tokens to be guessed; 0.15 where left out, as BERT's.")
@click.option("--held-out", type=float, help="Share of texts to measure on; 0.1 where left out.")
@click.option("--text", metavar="COLUMN", help="The input's text column; text where left out.")
@click.option("--device", help="cpu, cuda or auto; auto where left out.")
@click.option("--threads", type=int, help="Of the CPU, which are part of the result; torch's where left out.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--licence", help="Licence of the model, for its card; unknown where left out.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train_encoder(
    inputs: tuple[str, ...],
    targets: tuple[str, ...],
    kinds: tuple[str, ...],
    out: Path,
    pretrain: tuple[str, ...],
    text: str | None,
    seed: int,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Train heads on an encoder of texts, alone or with it, or a small encoder from nothing.

    Ctrl-C ends the training and keeps the best so far.

    \b
    Example:
      thresher train encoder --input labels.jsonl --target score --from arctic-embed-m --frozen --out edu
    """
    from . import training_encoder

    given = {name: value for name, value in parameters.items() if value is not None}
    named = [name.strip() for part in targets for name in part.split(",") if name.strip()]
    if kinds:
        given["kinds"] = {target: kind for target, _, kind in (kind.rpartition("=") for kind in kinds)}
        unknown = [target for target in given["kinds"] if target and target not in named]
        if unknown:
            raise click.UsageError(f"--kind {unknown[0]}=…: there is no --target {unknown[0]}")
    answer = training_encoder.train_encoder(
        inputs,
        named,
        out,
        seed=seed,
        pretrain=pretrain,
        text=text,
        parameters=given,
        report=lambda progress: click.echo(training_encoder.told_progress(progress), err=True),
    )
    click.echo(json.dumps(answer, indent=1, ensure_ascii=False) if as_json else training_encoder.told(answer))
    if answer["ending"] == "interrupted":
        raise click.exceptions.Exit(INTERRUPTED)
