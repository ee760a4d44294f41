"""The commands of `thresher train`: fasttext, sentencepiece, kenlm; others have files of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from .train_clip_command import train_clip
from .train_correlations_command import train_perplexity_correlations
from .train_dsir_command import train_dsir
from .train_encoder_command import train_encoder
from .train_head_commands import train_head, train_q16
from .train_label_model_command import train_label_model
from .train_lm_command import train_lm, train_retrieval_heads
from .train_student_commands import rank_for_benchmarks, train_student

Command = TypeVar("Command", bound=Callable[..., Any])

# Options that both commands have; the first come first in the help.
_FIRST: Final = (
    click.option(
        "--input", "inputs", multiple=True, required=True, metavar="PATH", help="Documents to learn from."
    ),
    click.option("--out", required=True, type=click.Path(path_type=Path), help="The model file to write."),
)
_LAST: Final = (
    click.option(
        "--normalize", help="How text is prepared, ccnet or none; ccnet where left out, as in the scorer."
    ),
    click.option(
        "--lines",
        help="joined reads a document as one line, separate each line by itself; joined where left out, as "
        "CCNet does.",
    ),
    click.option(
        "--max-documents",
        type=int,
        help="Documents to learn from at most, drawn by the seed; 1000000 where left out, as CCNet's.",
    ),
    click.option("--held-out", type=float, help="Share of documents to measure on; 0.1 where left out."),
    click.option("--text", metavar="COLUMN", help="The input's text column; text where left out."),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
    click.option("--licence", help="Licence of the model, for its card; unknown where left out."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


def register(train: click.Group) -> None:
    """Adds the commands to `thresher train`."""
    train.add_command(train_fasttext)
    train.add_command(train_sentencepiece)
    train.add_command(train_kenlm)
    train.add_command(train_dsir)
    train.add_command(train_clip)
    train.add_command(train_encoder)
    train.add_command(train_head)
    train.add_command(train_q16)
    train.add_command(train_lm)
    train.add_command(train_retrieval_heads)
    train.add_command(train_label_model)
    train.add_command(train_student)
    train.add_command(rank_for_benchmarks)
    train.add_command(train_perplexity_correlations)


def _options(*own: Callable[[Any], Any]) -> Callable[[Command], Command]:
    def add(command: Any) -> Any:
        for option in reversed((*_FIRST, *own, *_LAST)):
            command = option(command)
        return command

    return add


@click.command("fasttext")
@click.option("--positive", "positives", multiple=True, required=True, metavar="PATH", help="Good documents.")
@click.option("--negative", "negatives", multiple=True, required=True, metavar="PATH", help="All others.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The model file to write.")
@click.option("--label", default="hq", show_default=True, help="What good documents are called.")
@click.option("--text", metavar="COLUMN", help="The input's text column; text where left out.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--epoch", type=int, help="Passes over the data; 5 where left out, as fastText's.")
@click.option("--lr", type=float, help="Learning rate; 0.1 where left out, as fastText's.")
@click.option("--dim", type=int, help="Size of the word vectors; 100 where left out, as fastText's.")
@click.option(
    "--word-ngrams", type=int, help="Longest word n-gram that is a feature; 2 where left out, as DCLM's."
)
@click.option("--minn", type=int, help="Shortest n-gram of characters that is a feature; 0 where left out.")
@click.option(
    "--maxn", type=int, help="Longest of these, as 6 for URLs; 0 where left out, for none, as fastText's."
)
@click.option(
    "--bucket",
    type=int,
    help="Hash buckets of n-grams: fewer make a smaller model; 2000000 where left out, as fastText's.",
)
@click.option("--licence", help="Licence of the model, for its card; unknown where left out.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train_fasttext(
    positives: tuple[str, ...],
    negatives: tuple[str, ...],
    out: Path,
    label: str,
    text: str | None,
    seed: int,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Train a fastText classifier that tells good documents from others.

    \b
    Example:
      thresher train fasttext --positive good.jsonl --negative 'crawl/*.jsonl.gz' --out hq.bin
    """
    from . import training

    answer = training.train_fasttext(
        positives, negatives, out, label=label, seed=seed, text=text, parameters=_given(parameters)
    )
    _print(answer, training.told, as_json)


@click.command("sentencepiece")
@_options(
    click.option("--vocab-size", type=int, help="Pieces; 65536 where left out, as CCNet's."),
    click.option(
        "--fallback-vocab-size",
        type=int,
        help="Pieces where the text is too little for so many; 40000 where left out, as CCNet's.",
    ),
    click.option("--model-type", help="unigram or bpe; unigram where left out, as CCNet's."),
    click.option(
        "--character-coverage",
        type=float,
        help="Share of characters kept; 0.9995 where left out, as CCNet's.",
    ),
    click.option(
        "--hard-vocab-limit/--soft-vocab-limit",
        default=None,
        help="Whether fewer pieces than asked for are an error; hard where left out, as CCNet's.",
    ),
    click.option(
        "--byte-fallback/--no-byte-fallback",
        default=None,
        help="Whether unknown characters become bytes; not where left out, as CCNet's.",
    ),
    click.option("--max-bytes", type=int, help="Text to learn from at most; 200000000 where left out."),
    click.option("--threads", type=int, help="Threads, which are part of the result; 1 where left out."),
)
def train_sentencepiece(
    inputs: tuple[str, ...], out: Path, text: str | None, seed: int, as_json: bool, **parameters: Any
) -> None:
    """Train a SentencePiece tokenizer for a KenLM model.

    \b
    Example:
      thresher train sentencepiece --input 'wiki/*.jsonl.gz' --out en.sp.model
    """
    from . import training_kenlm

    _print(
        training_kenlm.train_sentencepiece(inputs, out, seed=seed, text=text, parameters=_given(parameters)),
        training_kenlm.told,
        as_json,
    )


@click.command("kenlm")
@_options(
    click.option(
        "--tokenizer", required=True, type=click.Path(path_type=Path), help="The SentencePiece model."
    ),
    click.option("--order", type=int, help="Pieces of the longest n-gram; 5 where left out, as CCNet's."),
    click.option(
        "--prune",
        metavar="COUNTS",
        help="Counts up to which n-grams are left out, for each order, as in '0 0 1'; none where left out, "
        "as CCNet's.",
    ),
    click.option(
        "--discount-fallback/--no-discount-fallback",
        default=None,
        help="Whether fixed discounts serve where the text is too little to estimate them; they do if left "
        "out, as CCNet's.",
    ),
    click.option("--structure", help="probing (fast) or trie (small); probing where left out, as CCNet's."),
    click.option("--quantize", type=int, metavar="BITS", help="Bits of a number in a trie, if fewer."),
    click.option("--memory", help="For sorting, as 512M, 8G or 50%; 1G where left out."),
)
def train_kenlm(
    inputs: tuple[str, ...],
    out: Path,
    tokenizer: Path,
    text: str | None,
    seed: int,
    as_json: bool,
    prune: str | None,
    **parameters: Any,
) -> None:
    """Train a KenLM language model, for perplexity as CCNet computes it.

    \b
    Example:
      thresher train kenlm --tokenizer en.sp.model --input 'wiki/*.jsonl.gz' --out en.bin
    """
    from . import training_kenlm

    given = _given(parameters)
    if prune is not None:
        try:
            given["prune"] = tuple(map(int, prune.split()))
        except ValueError:
            raise click.UsageError(
                f"--prune {prune!r}: write counts with spaces between, as '0 0 1'"
            ) from None
    _print(
        training_kenlm.train_kenlm(inputs, out, tokenizer=tokenizer, seed=seed, text=text, parameters=given),
        training_kenlm.told,
        as_json,
    )


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _print(answer: dict[str, Any], told: Callable[[Any], str], as_json: bool) -> None:
    click.echo(json.dumps(answer, indent=1, ensure_ascii=False) if as_json else told(answer))
