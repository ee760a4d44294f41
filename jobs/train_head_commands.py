"""The commands `thresher train head` and `thresher train q16`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_PATH = click.Path(path_type=Path)
_LEARNING = (
    click.option("--lr", type=float, help="Learning rate of Adam; 0.001 where left out."),
    click.option("--batch", type=int, help="Rows for each of its steps; 64 where left out."),
    click.option("--epochs", type=int, help="Rounds at most; 200 where left out."),
    click.option(
        "--patience", type=int, help="Rounds without a gain after which it ends; 20 where left out."
    ),
)
_LAST = (
    click.option("--held-out", type=float, help="Share of rows to measure on; 0.1 where left out."),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
    click.option("--licence", help="Licence of the model, for its card; unknown where left out."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.command("head")
@_options(
    click.option(
        "--embeddings", type=_PATH, required=True, help="Embeddings: .parquet, .npy or .npz, one in a row."
    ),
    click.option("--array", help="The column or array of them, where the file has several."),
    click.option("--target", metavar="COLUMN", help="What is learned: a column of the Parquet file."),
    click.option("--targets", type=_PATH, help="What is learned, for numpy files: a .npy with as many rows."),
    click.option("--out", required=True, type=_PATH, help="The file to write, .safetensors."),
    click.option(
        "--kind",
        type=click.Choice(["regression", "classification"]),
        help="Where left out, numbers are for a regression, text and truth values for a classification.",
    ),
    click.option(
        "--normalised/--as-stored",
        default=None,
        help="Whether embeddings are made of length one; they are where left out, as for LAION's.",
    ),
    click.option("--hidden", type=int, metavar="UNITS", help="A hidden layer; none where left out."),
    click.option(
        "--ridge", type=float, help="Strength of a regression's penalty; cross-validated where left out."
    ),
    click.option(
        "--penalty", type=float, help="That of a classification; chosen on a fifth of rows where left out."
    ),
    *_LEARNING,
    *_LAST,
)
def train_head(
    embeddings: Path,
    out: Path,
    array: str | None,
    target: str | None,
    targets: Path | None,
    kind: Any,
    seed: int,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Train a linear head, or one with a hidden layer, that reads embeddings.

    The embeddings of a job lie in its output, in the column that its clip step made. Learn from a rating, or
    from a label, of some of them; the head then gives it to all.

    \b
    Example:
      thresher train head --embeddings rated.parquet --target rating --out aesthetic.safetensors
    """
    from . import training_heads

    answer = training_heads.train_head(
        embeddings,
        out,
        target=target,
        targets=targets,
        array=array,
        kind=kind,
        seed=seed,
        parameters=_given(parameters),
    )
    _print(answer, training_heads.told_head, as_json)


@click.command("q16")
@_options(
    click.option(
        "--acceptable",
        multiple=True,
        required=True,
        metavar="PATH",
        help="Images, as a job reads them, or their embeddings (.parquet, .npy, .npz).",
    ),
    click.option(
        "--inappropriate",
        multiple=True,
        required=True,
        metavar="PATH",
        help="Images that are not acceptable.",
    ),
    click.option("--model", required=True, help="The CLIP model: a folder, or open_clip's name for it."),
    click.option("--checkpoint", help="The weights of a model that is named, .safetensors."),
    click.option("--out", required=True, type=_PATH, help="The file to write, .safetensors."),
    click.option(
        "--sentence",
        "sentences",
        nargs=2,
        help="What the prompts begin with, acceptable first; Q16's own where left out: 'This image is about "
        "something positive', and 'negative'.",
    ),
    click.option("--array", help="The column or array of embeddings, where a file has several."),
    click.option("--scale", type=float, help="What cosines are multiplied by; 100 where left out, as Q16's."),
    *_LEARNING,
    *_LAST,
)
def train_q16(
    acceptable: tuple[str, ...],
    inappropriate: tuple[str, ...],
    model: str,
    checkpoint: str | None,
    out: Path,
    sentences: tuple[str, str] | None,
    array: str | None,
    seed: int,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Train the two prompts of Q16, which tell inappropriate images from others.

    \b
    Example:
      thresher train q16 --acceptable fine.parquet --inappropriate not.parquet --model clip/ \\
        --out q16.safetensors
    """
    from . import training_heads

    answer = training_heads.train_q16(
        acceptable,
        inappropriate,
        out,
        model=model,
        checkpoint=checkpoint,
        sentences=sentences,
        array=array,
        seed=seed,
        parameters=_given(parameters),
    )
    _print(answer, training_heads.told_q16, as_json)


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _print(answer: dict[str, Any], told: Callable[[Any], str], as_json: bool) -> None:
    click.echo(json.dumps(answer, indent=1, ensure_ascii=False) if as_json else told(answer))
