"""Counts the hashed n-grams that DSIR weighs texts by, and says how well they tell a target from the rest."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from ..filters.text.hashed_ngrams import HashedNgrams, NgramHasher
from ..schemas.contracts import AssetRef
from .assets import checksum
from .dsir import MIN_TOKENS, Bag, Statistics, check_name
from .metrics import auc
from .model_card import closing

NGRAMS_PER_BUCKET: Final = 100_000  # that raw data is fitted on: hashed_ngram_dsir.py of p-lambda/dsir
RAW: Final = "raw"

Batches = Iterable[pa.RecordBatch]
Progress = Callable[[str, int, int], None]  # told of which data so many documents and n-grams are counted


@dataclass(frozen=True)
class Check:
    """Log weights of documents that the statistics had not seen; None where there were none."""

    documents: int  # of the target
    raw_documents: int
    mean: float | None
    raw_mean: float | None
    auc: float | None  # the chance that a document of the target weighs more than one of the raw data

    @property
    def difference(self) -> float | None:
        """By how much a document of the target weighs more, on average."""
        return None if self.mean is None or self.raw_mean is None else self.mean - self.raw_mean


@dataclass(frozen=True)
class TrainedDsir:
    """Statistics, their card beside them, and how they do on documents held out."""

    model: AssetRef
    card: Path
    statistics: Statistics
    ngrams: Mapping[str, int]  # by data: `raw`, and the targets
    skipped: int  # records without a word
    checks: Mapping[str, Check]  # by target


@dataclass(frozen=True)
class DsirTrainer:
    """Counts hashed n-grams of words in a target, or several, and in raw data, as DSIR does (Xie et al. 2023,
    arXiv:2302.03169).

    The defaults are those of the authors' code (github.com/p-lambda/dsir, data_selection): 10,000 buckets,
    words and pairs, no smoothing, 100 words for a text to be worth a weight, and as many n-grams of raw data
    as `ngrams_to_fit` says: 100,000 for each bucket if that is None. Raw data are read in their order, an
    equal share from each stream, until they are enough; targets are read to their end.

    `held_out`: the share of documents, drawn by hash(seed, text), and at most `most_held_out` of each side,
    that the check is made on with the counts of all others. The file has the counts of all documents.

    Raises ValueError for parameters out of range.
    """

    buckets: int = 10_000
    ngram: int = 2
    ngrams_to_fit: int | None = None
    smoothing: float = 0.0
    min_tokens: int = MIN_TOKENS
    held_out: float = 0.1
    most_held_out: int = 2000
    licence: str = "unknown"

    def __post_init__(self) -> None:
        NgramHasher(self.buckets, self.ngram, remembered=1)
        if self.ngrams_to_fit is not None and self.ngrams_to_fit < 1:
            raise ValueError(f"ngrams_to_fit is {self.ngrams_to_fit}; it is at least 1")
        if not 0 <= self.smoothing < math.inf:
            raise ValueError(f"smoothing is {self.smoothing}; it is a count of 0 or more")
        if self.min_tokens < 0:
            raise ValueError(f"min_tokens is {self.min_tokens}; it is 0 or more")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; write a fraction of 0 or more and below 1")

    def fit(self, data: Mapping[str, Batches], out: Path, seed: int) -> AssetRef:
        """Counts the batches of `raw` and of the targets, which are all other labels, and writes `out`.

        Raises as `train` does.
        """
        targets = {name: batches for name, batches in data.items() if name != RAW}
        return self.train(targets, [data.get(RAW, ())], out, seed).model

    def train(
        self,
        targets: Mapping[str, Batches],
        raw: Sequence[Batches],
        out: Path,
        seed: int,
        sources: Mapping[str, Iterable[str]] | None = None,
        progress: Progress | None = None,
    ) -> TrainedDsir:
        """As `fit`, with the raw data in several streams; returns all there is to know.

        `sources`: for the card, where the data came from, by target and `raw`. Writes `out`, an `.npz` file,
        and `out` + `.md`. Memory: 64 MB, a batch, and the held-out documents' n-grams. Raises ValueError for
        a name that is not a target's, and where one of the data has no word in it.
        """
        if not targets:
            raise ValueError("there is no target")
        for name in targets:
            check_name(name)
        if RAW in targets:
            raise ValueError(f"a target cannot be called {RAW!r}")
        hasher = NgramHasher(self.buckets, self.ngram)
        counting = {name: self._counting(name, hasher, seed, progress) for name in (RAW, *targets)}
        for name, batches in targets.items():
            counting[name].read(batches)
        parameters = {**asdict(self), "ngrams_to_fit": self._ngrams_to_fit, "seed": seed}
        left = self._ngrams_to_fit
        for number, batches in enumerate(raw):
            left -= counting[RAW].read(batches, math.ceil(left / (len(raw) - number)))
            if left <= 0:
                break
        for name, counted in counting.items():
            if not counted.ngrams:
                raise ValueError(f"{name}: there is no document with a word in it")
        skipped = sum(counted.skipped for counted in counting.values())
        bags = {name: counted.bag() for name, counted in counting.items()}
        statistics = self._statistics(bags, {**parameters, "skipped": skipped})
        out.parent.mkdir(parents=True, exist_ok=True)
        statistics.write(out)
        trained = TrainedDsir(
            AssetRef(str(out), checksum(out), self.licence),
            out.with_name(out.name + ".md"),
            statistics,
            {name: counted.ngrams for name, counted in counting.items()},
            skipped,
            self._checks(counting),
        )
        trained.card.write_text(dsir_card(trained, parameters, sources or {}), encoding="utf-8")
        return trained

    @property
    def _ngrams_to_fit(self) -> int:
        return self.ngrams_to_fit or NGRAMS_PER_BUCKET * self.buckets

    def _counting(self, name: str, hasher: NgramHasher, seed: int, progress: Progress | None) -> _Counting:
        return _Counting(
            name, hasher, f"{seed}\0".encode(), int(self.held_out * 2**64), self.most_held_out, progress
        )

    def _statistics(self, bags: Mapping[str, Bag], facts: Mapping[str, object]) -> Statistics:
        targets = {name: bag for name, bag in bags.items() if name != RAW}
        return Statistics(bags[RAW], targets, self.ngram, self.smoothing, self.min_tokens, facts)

    def _checks(self, counting: Mapping[str, _Counting]) -> dict[str, Check]:
        learned = {name: counted.bag(seen_only=True) for name, counted in counting.items()}
        if not all(bag.counts.any() for bag in learned.values()):
            return {}
        statistics = self._statistics(learned, {})
        found = {}
        for name in statistics.targets:
            ratios = statistics.log_ratios(name)
            inside = counting[name].held_weights(ratios, self.min_tokens)
            outside = counting[RAW].held_weights(ratios, self.min_tokens)
            truth = np.arange(len(inside) + len(outside)) < len(inside)
            found[name] = Check(
                len(inside),
                len(outside),
                float(inside.mean()) if len(inside) else None,
                float(outside.mean()) if len(outside) else None,
                auc(np.concatenate([inside, outside]), truth),
            )
        return found


@dataclass
class _Counting:
    """What has been counted of one of the data so far."""

    name: str
    hasher: NgramHasher
    seed: bytes
    bound: int  # of 2**64; a document whose hash is below it is held out
    most_held: int
    progress: Progress | None
    documents: int = 0
    ngrams: int = 0
    skipped: int = 0
    counts: npt.NDArray[np.int64] = field(init=False)
    held: list[tuple[int, npt.NDArray[np.uint32]]] = field(default_factory=list)  # words, buckets

    def __post_init__(self) -> None:
        self.counts = np.zeros(self.hasher.buckets, np.int64)
        self.digest = hashlib.sha256()

    def read(self, batches: Batches, most: int | None = None) -> int:
        """Counts documents until there are more than `most` n-grams; returns how many there were."""
        before = self.ngrams
        for batch in batches:
            found = self.hasher.hash(batch.column("text"))
            enough = len(found.words)
            if most is not None:
                read = np.searchsorted(found.first[1:], most - (self.ngrams - before), "right")
                enough = min(int(read) + 1, enough)
            self._add(found, batch.column("text").slice(0, enough).to_pylist())
            if self.progress is not None:
                self.progress(self.name, self.documents, self.ngrams)
            if most is not None and self.ngrams - before > most:
                break
        return self.ngrams - before

    def _add(self, found: HashedNgrams, texts: list[str | None]) -> None:
        stop = int(found.first[len(texts)])
        self.counts += np.bincount(found.buckets[:stop], minlength=len(self.counts))
        self.ngrams += stop
        for i, (text, words) in enumerate(zip(texts, found.words.tolist(), strict=False)):
            if not words:
                self.skipped += 1
                continue
            assert text is not None
            encoded = text.encode()
            self.documents += 1
            self.digest.update(encoded + b"\0")
            if len(self.held) < self.most_held and xxhash.xxh3_64_intdigest(self.seed + encoded) < self.bound:
                self.held.append((words, found.buckets[found.first[i] : found.first[i + 1]].copy()))

    def bag(self, *, seen_only: bool = False) -> Bag:
        """What was counted; with `seen_only` without the documents that are held out."""
        counts, documents = self.counts, self.documents
        if seen_only and self.held:
            apart = np.concatenate([buckets for _, buckets in self.held])
            counts = counts - np.bincount(apart, minlength=len(counts))
            documents -= len(self.held)
        return Bag(counts, documents, self.digest.hexdigest())

    def held_weights(self, ratios: npt.NDArray[np.float64], min_tokens: int) -> npt.NDArray[np.float64]:
        """The log weights of the held-out documents that are long enough."""
        return np.array([ratios[buckets].sum() for words, buckets in self.held if words >= min_tokens])


def dsir_card(
    trained: TrainedDsir, parameters: Mapping[str, object], sources: Mapping[str, Iterable[str]]
) -> str:
    """The card in Markdown. It holds no time: the same data give the same card."""
    bags = {**trained.statistics.targets, RAW: trained.statistics.raw}
    lines = [
        f"# {Path(trained.model.path).name}",
        "",
        f"Counts of hashed n-grams for DSIR. Targets: {', '.join(trained.statistics.targets)}.",
        "",
        "## Data",
        "",
        "| data | documents | n-grams | SHA-256 of the texts | from |",
        "|---|---|---|---|---|",
    ]
    for name, bag in bags.items():
        origin = ", ".join(sources.get(name, ())).replace("|", "\\|") or "not recorded"
        lines.append(f"| {name} | {bag.documents} | {trained.ngrams[name]} | `{bag.sha256}` | {origin} |")
    lines += ["", f"{trained.skipped} records had no word and were left out.", ""]
    return "\n".join([*lines, *closing(parameters, _quality(trained), trained.model)])


def _quality(trained: TrainedDsir) -> list[str]:
    if not any(check.documents and check.raw_documents for check in trained.checks.values()):
        return ["Nothing that is long enough was held out on both sides, so nothing is known of them."]
    rows = [
        "Log weights under the counts of all other documents; the file has those of the held-out ones too.",
        "",
        "| target | documents | of raw data | mean | of raw data | difference | AUC |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, check in trained.checks.items():
        means = (check.mean, check.raw_mean, check.difference)
        shown = " | ".join("–" if value is None else f"{value:.1f}" for value in means)
        area = "–" if check.auc is None else f"{check.auc:.4f}"
        rows.append(f"| {name} | {check.documents} | {check.raw_documents} | {shown} | {area} |")
    return rows
