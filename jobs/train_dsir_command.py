"""The command `thresher train dsir`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

_SECONDS: Final = 5.0  # between two words of how far it is


@click.command("dsir")
@click.option(
    "--target",
    "targets",
    multiple=True,
    required=True,
    metavar="[NAME=]PATH",
    help="Documents that the chosen ones shall be like; NAME=PATH for several targets.",
)
@click.option("--raw", multiple=True, required=True, metavar="PATH", help="Documents to choose from.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .npz file to write.")
@click.option("--buckets", type=int, help="Buckets of n-grams; 10000 where left out, as in DSIR's code.")
@click.option("--ngram", type=int, help="Words of the longest n-gram; 2 where left out, as in DSIR's code.")
@click.option(
    "--ngrams-to-fit",
    type=int,
    help="N-grams of raw data to count; 100000 for each bucket where left out, as in DSIR's code.",
)
@click.option("--smoothing", type=float, help="Added to each count of a target; 0 where left out.")
@click.option(
    "--min-tokens",
    type=int,
    help="Words that a text has at least to get a weight; 100 where left out, as in DSIR's code.",
)
@click.option("--held-out", type=float, help="Share of documents to measure on; 0.1 where left out.")
@click.option("--text", metavar="COLUMN", help="The input's text column; text where left out.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--licence", help="Licence of the statistics, for their card; unknown where left out.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train_dsir(
    targets: tuple[str, ...],
    raw: tuple[str, ...],
    out: Path,
    text: str | None,
    seed: int,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Count what tells a target from raw data, for DSIR's importance weights.

    \b
    Example:
      thresher train dsir --target wiki.jsonl --raw 'crawl/*.jsonl.gz' --out dsir.npz
    """
    from . import training_dsir

    given = {name: value for name, value in parameters.items() if value is not None}
    answer = training_dsir.train_dsir(
        targets, raw, out, seed=seed, text=text, parameters=given, progress=_Progress()
    )
    click.echo(json.dumps(answer, indent=1, ensure_ascii=False) if as_json else training_dsir.told(answer))


class _Progress:
    """Says now and then on standard error how much has been counted."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, name: str, documents: int, ngrams: int) -> None:
        now = time.monotonic()
        if now - self._last >= _SECONDS:
            self._last = now
            print(f"{name}: {documents:,} documents, {ngrams:,} n-grams", file=sys.stderr)
