"""How well and how fast each extraction method finds the article of a page.

Precision, recall and F1 over shingles of 4 words, as the public article extraction benchmark defines them
(github.com/scrapinghub/article-extraction-benchmark, evaluate.py), on its 181 annotated pages, beside the
figures that its authors and others publish for it. Pages per second of one core, by CPU time; imports and
word lists are not counted. `F1 - trafilatura` is the 95 % interval of the difference between a method's F1
and trafilatura's, by the paired bootstrap over pages.

    python benchmarks/extraction.py [--articles FOLDER] [--methods resiliparse trafilatura]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import get_args

import numpy as np
import pyarrow as pa
from figures import NOT_RUN, Figure, add_option, save
from thresher.filters.text.extraction import Method, extract

SHINGLE = 4
REFERENCE: Method = "trafilatura"
WARM_UP = 20  # pages
RESAMPLES = 10_000
# F1 as published for other extractors on the same pages.
PUBLISHED = {
    "rs-trafilatura": 0.970,
    "go-trafilatura": 0.960,
    "trafilatura 2.0": 0.958,
    "Readability.js": 0.947,
}

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Overlap:
    """Shingles that prediction and truth share, that only one has; counted with their repetitions."""

    shared: int
    predicted_only: int
    true_only: int

    @property
    def precision(self) -> float | None:
        """None where nothing was predicted: such a page does not enter the mean."""
        return self._of(self.predicted_only)

    @property
    def recall(self) -> float | None:
        """None where there was nothing to find."""
        return self._of(self.true_only)

    def _of(self, wrong: int) -> float | None:
        return self.shared / (self.shared + wrong) if self.shared + wrong else None


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """Runs of 4 words of a text; a shorter text is one run, an empty one none."""
    words = _WORD.findall(text)
    if not words:
        return Counter()
    return Counter(tuple(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1)))


def overlap(predicted: str, true: str) -> Overlap:
    """Compares two texts by their shingles."""
    found, wanted = shingles(predicted), shingles(true)
    shared = (found & wanted).total()
    return Overlap(shared, found.total() - shared, wanted.total() - shared)


def figures(overlaps: Sequence[Overlap]) -> tuple[float, float, float]:
    """F1, precision and recall: the means over pages, and the harmonic mean of these."""
    precision = fmean(p for one in overlaps if (p := one.precision) is not None)
    recall = fmean(r for one in overlaps if (r := one.recall) is not None)
    return 2 * precision * recall / (precision + recall), precision, recall


def difference(
    ours: Sequence[Overlap], theirs: Sequence[Overlap], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile interval of our F1 less theirs, over resampled pages (Efron 1979)."""
    rows = np.array(
        [[np.nan if value is None else value for value in (o.precision, o.recall, t.precision, t.recall)]
         for o, t in zip(ours, theirs, strict=True)]
    )  # fmt: skip
    generator = np.random.default_rng(seed)
    drawn = [
        np.nanmean(rows[generator.integers(len(rows), size=len(rows))], axis=0) for _ in range(resamples)
    ]
    p, r, their_p, their_r = np.array(drawn).T
    low, high = np.quantile(2 * p * r / (p + r) - 2 * their_p * their_r / (their_p + their_r), [0.025, 0.975])
    return float(low), float(high)


def articles(folder: Path) -> tuple[list[bytes], list[str], list[str]]:
    """Pages, their URLs, and the article text of each."""
    truth = json.loads((folder / "ground-truth.json").read_text("utf-8"))
    keys = sorted(truth)
    pages = [gzip.decompress((folder / f"{key}.html.gz").read_bytes()) for key in keys]
    return pages, [truth[key]["url"] for key in keys], [truth[key]["articleBody"] for key in keys]


def main() -> None:
    shared = Path(os.environ.get("THRESHER_SHARED", Path(__file__).parents[2] / "shared"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--articles", type=Path, default=shared / "data" / "web" / "articles")
    parser.add_argument("--methods", nargs="+", choices=get_args(Method), default=get_args(Method))
    add_option(parser)
    arguments = parser.parse_args()
    if not (arguments.articles / "ground-truth.json").is_file():
        print(f"{arguments.articles}: no ground-truth.json; clone the benchmark and pass --articles")
        sys.exit(NOT_RUN)
    pages, urls, bodies = articles(arguments.articles)
    payload, types, addresses = pa.array(pages), pa.nulls(len(pages), pa.string()), pa.array(urls)
    print(f"{len(pages)} pages, {sum(map(len, pages)) / 1e6:.1f} MB")
    print(f"{'method':24}{'F1':>7}{'precision':>11}{'recall':>8}{'pages/s':>9}{'MB/s':>7}   F1 - {REFERENCE}")
    found: list[Figure] = []
    methods = sorted(arguments.methods, key=lambda method: method != REFERENCE)
    reference: list[Overlap] | None = None
    for method in (REFERENCE, *methods):
        extract(payload[:WARM_UP], types[:WARM_UP], addresses[:WARM_UP], method)
    for method in methods:
        start = time.process_time()
        texts = extract(payload, types, addresses, method)["text"].to_pylist()
        spent = time.process_time() - start
        overlaps = [overlap(t or "", body) for t, body in zip(texts, bodies, strict=True)]
        f1, precision, recall = figures(overlaps)
        line = f"{method:24}{f1:7.3f}{precision:11.3f}{recall:8.3f}"
        line += f"{len(pages) / spent:9.0f}{sum(map(len, pages)) / spent / 1e6:7.1f}"
        found.append(Figure(f"{method} F1", f1, ""))
        found.append(Figure(f"{method} pages", len(pages) / spent, "pages/s a core"))
        if method == REFERENCE:
            reference = overlaps
        elif reference is not None:
            low, high = difference(overlaps, reference)
            line += f"   {low:+.4f} to {high:+.4f}"
            found.append(Figure(f"{method} F1 less {REFERENCE}'s, at least", low, ""))
        print(line)
    for name, f1 in PUBLISHED.items():
        print(f"{name + ' (published)':24}{f1:7.3f}")
    save(found, arguments.figures)


if __name__ == "__main__":
    main()
