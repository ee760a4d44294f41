"""How well and how fast each extraction method finds the article of a page.

Precision, recall and F1 over shingles of 4 words, as the public article extraction benchmark defines them
(github.com/scrapinghub/article-extraction-benchmark, evaluate.py), on its 181 annotated pages, beside the
figures that its authors and others publish for it. Pages per second of one core, by CPU time.

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

import pyarrow as pa
from figures import NOT_RUN, Figure, add_option, save
from thresher.filters.text.extraction import Method, extract

SHINGLE = 4
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
    print(f"{'method':24}{'F1':>7}{'precision':>11}{'recall':>8}{'pages/s':>9}{'MB/s':>7}")
    found: list[Figure] = []
    for method in arguments.methods:
        extract(payload[:2], types[:2], addresses[:2], method)  # imports
        start = time.process_time()
        texts = extract(payload, types, addresses, method)["text"].to_pylist()
        spent = time.process_time() - start
        f1, precision, recall = figures(
            [overlap(t or "", body) for t, body in zip(texts, bodies, strict=True)]
        )
        speed = f"{len(pages) / spent:9.0f}{sum(map(len, pages)) / spent / 1e6:7.1f}"
        print(f"{method:24}{f1:7.3f}{precision:11.3f}{recall:8.3f}{speed}")
        found.append(Figure(f"{method} F1", f1, ""))
        found.append(Figure(f"{method} pages", len(pages) / spent, "pages/s a core"))
    for name, f1 in PUBLISHED.items():
        print(f"{name + ' (published)':24}{f1:7.3f}")
    save(found, arguments.figures)


if __name__ == "__main__":
    main()
