"""The commands `thresher train lm` and `thresher train retrieval-heads`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

INTERRUPTED: Final = 130
_SECONDS: Final = 5.0  # between two lines of progress


@click.command("lm")
@click.option(
    "--input", "inputs", multiple=True, required=True, metavar="PATH", help="Documents to learn from."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option(
    "--from",
    "start",
    metavar="FOLDER",
    help="A model to train further, as this command or Hugging Face writes it; one of random weights where "
    "left out.",
)
@click.option(
    "--tokenizer",
    metavar="PATH",
    help="A tokenizer.json or a SentencePiece model; where left out, one is learned from the documents.",
)
@click.option("--vocab-size", type=int, help="Tokens of a tokenizer that is learned; 8192 where left out.")
@click.option("--layers", type=int, help="4 where left out.")
@click.option("--width", type=int, help="256 where left out.")
@click.option("--heads", type=int, help="Attention heads of a layer; 4 where left out.")
@click.option("--context", type=int, help="Tokens that it reads at a time; 512 where left out.")
@click.option("--epochs", type=float, help="Passes over the text; 1 where nothing says how long.")
@click.option("--tokens", type=int, help="Tokens that it learns from at most.")
@click.option("--minutes", type=float, help="Time at most, after the text is cut into tokens.")
@click.option("--batch-tokens", type=int, help="Tokens of a step; 16384 where left out.")
@click.option("--lr", type=float, help="Highest learning rate; 0.002 where left out, with --from 0.0003.")
@click.option("--warmup", type=float, help="Share of the run in which it rises; 0.05 where left out.")
@click.option("--weight-decay", type=float, help="0.1 where left out.")
@click.option("--held-out", type=float, help="Share of documents to measure on; 0.05 where left out.")
@click.option("--held-out-tokens", type=int, help="Of these at most; 50000 where left out.")
@click.option("--evaluations", type=int, help="How often it is measured; 10 where left out.")
@click.option("--patience", type=int, help="Evaluations without a better one that end it; 3 where left out.")
@click.option("--precision", help="fp32, bf16 or auto: bf16 on a GPU that has it; auto where left out.")
@click.option("--device", help="cpu, cuda or auto; auto where left out.")
@click.option("--threads", type=int, help="Of the CPU, which are part of the result; torch's where left out.")
@click.option("--text", metavar="COLUMN", help="The input's text column; text where left out.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--licence", help="Licence of the model, for its card; unknown where left out.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train_lm(
    inputs: tuple[str, ...], out: Path, text: str | None, seed: int, as_json: bool, **parameters: Any
) -> None:
    """Train a small causal language model, or train one further.

    Ctrl-C ends the training and keeps the best model so far.

    \b
    Example:
      thresher train lm --input 'crawl/*.jsonl.gz' --out prior
      thresher train lm --from prior --input target.jsonl --out conditional
    """
    from . import training_lm

    answer = training_lm.train_lm(
        inputs,
        out,
        seed=seed,
        text=text,
        parameters={name: value for name, value in parameters.items() if value is not None},
        report=lambda progress: click.echo(training_lm.told_progress(progress), err=True),
    )
    click.echo(json.dumps(answer, indent=1, ensure_ascii=False) if as_json else training_lm.told(answer))
    if answer["ending"] == "interrupted":
        raise click.exceptions.Exit(INTERRUPTED)


@click.command("retrieval-heads")
@click.option("--model", required=True, type=click.Path(path_type=Path), help="The folder of the model.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The JSON file to write.")
@click.option("--tasks", type=int, help="800 where left out.")
@click.option("--shots", type=int, help="Keys with their texts before the one asked for; 3 where left out.")
@click.option("--key-length", type=int, help="Characters of a key; 32 where left out.")
@click.option("--words", type=int, help="Words of a text; 8 where left out.")
@click.option(
    "--max-tokens", type=int, help="Of a task; 4096 where left out, or the model's context if that is less."
)
@click.option("--share", type=float, help="Of all heads, those that are named; 0.05 where left out.")
@click.option(
    "--measure",
    help="attention: the mean weight of the token to copy; copy: how often that has the most. attention "
    "where left out.",
)
@click.option("--precision", help="fp32, bf16, fp16 or auto, as in the scorer; auto where left out.")
@click.option("--device", help="cpu, cuda or auto; auto where left out.")
@click.option("--threads", type=int, help="Of the CPU; torch's where left out.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train_retrieval_heads(model: Path, out: Path, seed: int, as_json: bool, **parameters: Any) -> None:
    """Find the attention heads of a model that retrieve, for AttentionInfluence.

    \b
    Example:
      thresher train retrieval-heads --model lm --out heads.json
    """
    from . import training_lm

    given = {name: value for name, value in parameters.items() if value is not None}
    answer = training_lm.find_heads(model, out, seed=seed, parameters=given, report=_Progress())
    told = training_lm.told_heads(answer)
    click.echo(json.dumps(answer, indent=1, ensure_ascii=False) if as_json else told)


class _Progress:
    """Says now and then on standard error how many tasks are done."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, done: int, tasks: int) -> None:
        now = time.monotonic()
        if now - self._last >= _SECONDS:
            self._last = now
            print(f"{done:,} of {tasks:,} tasks", file=sys.stderr)
