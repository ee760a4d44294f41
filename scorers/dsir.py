"""The log importance weight of a text, as DSIR computes it from two bags of hashed n-grams."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..schemas.contracts import AssetError, Assets, Scorer

if TYPE_CHECKING:
    from ..filters.text.hashed_ngrams import NgramHasher

EPSILON: Final = 1e-8  # added to each probability: github.com/p-lambda/dsir, hashed_ngram_dsir.py
MIN_TOKENS: Final = 100  # of the same file, `min_example_length`
TOKENS: Final = "tokens"
LOG_WEIGHT: Final = "log_weight"

_FORMAT: Final = "thresher dsir 1"
_HASH: Final = "sha256"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")

Counts = npt.NDArray[np.int64]


class DsirScorer(Scorer):
    """How much more likely a text is under a target than under raw data, as a logarithm (DSIR: Xie et al.
    2023, arXiv:2302.03169).

    Reads `text`. Returns `log_weight`: float64, the sum of log(p_target + 1e-8) - log(p_raw + 1e-8) over the
    hashed n-grams of the text; null where the text is null or has fewer than `min_tokens` words.
    `statistics`: a file that `thresher train dsir` has made. `target`: one of the targets in it, or a list of
    them, each with a column of its own name; left out, all of them are taken together as one. `min_tokens`:
    what the file says if left out, which is 100 as in the authors' code. `tokens: true` adds a column
    `tokens` (int64), the words of the text, null where it is null.

    Raises AssetError for a file that holds no such statistics, or not those of a target.
    """

    version: ClassVar[int] = 1
    obtain = "`thresher train dsir` makes it"
    inputs = ("text",)
    kernels = ("thresher.filters.text.hashed_ngrams",)

    def __init__(
        self,
        statistics: str,
        target: str | Sequence[str] | None = None,
        min_tokens: int | None = None,
        tokens: bool = False,
    ) -> None:
        if min_tokens is not None and min_tokens < 0:
            raise ValueError(f"min_tokens is {min_tokens}; it is 0 or more")
        several = target is not None and not isinstance(target, str)
        names = [target] if isinstance(target, str) else list(target or ())
        if several and (not names or len(set(names)) < len(names)):
            raise ValueError(f"target is {names}; write a name, or a list of different names")
        for name in names:
            check_name(name)
        self.assets = (statistics,)
        self._targets = names
        self._columns = names if several else [LOG_WEIGHT]
        self._min_tokens, self._tokens = min_tokens, tokens
        self._hasher: NgramHasher | None = None
        self._weights: npt.NDArray[np.float64] | None = None

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        """One column, or one for each target of a list, and the number of words where it is asked for."""
        weights = dict.fromkeys(self._columns, pa.float64())
        return {**weights, TOKENS: pa.int64()} if self._tokens else weights

    def open(self, assets: Assets) -> None:
        """Reads the statistics."""
        from ..filters.text.hashed_ngrams import NgramHasher

        path = assets.locate(self.assets[0])
        found = read(path)
        for name in self._targets:
            if name not in found.targets:
                raise AssetError(f"{path}: no target {name!r}; there are {', '.join(found.targets)}")
        self._hasher = NgramHasher(found.buckets, found.ngram)
        self._weights = np.stack([found.log_ratios(name) for name in self._targets or (None,)])
        if self._min_tokens is None:
            self._min_tokens = found.min_tokens

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Adds up the weights of the n-grams of each text."""
        from ..filters.text.hashed_ngrams import sums

        assert self._hasher is not None, "score before open"
        assert self._weights is not None, "score before open"
        found = self._hasher.hash(batch.column("text"))
        null = batch.column("text").is_null().to_numpy(zero_copy_only=False)
        short = null | (found.words < (self._min_tokens or 0))
        total = sums(found, self._weights)
        columns = {name: pa.array(total[:, row], mask=short) for row, name in enumerate(self._columns)}
        if self._tokens:
            columns[TOKENS] = pa.array(found.words, mask=null)
        return columns


@dataclass(frozen=True)
class Bag:
    """Hashed n-grams of some documents, and which documents those were."""

    counts: Counts  # by bucket
    documents: int
    sha256: str  # of the texts, in the order in which they were read


@dataclass(frozen=True)
class Statistics:
    """Two sides of an importance weight: n-grams of raw data and of targets, counted in the same buckets."""

    raw: Bag
    targets: Mapping[str, Bag]
    ngram: int = 2  # the longest
    smoothing: float = 0.0  # added to each count of a target
    min_tokens: int = MIN_TOKENS  # words of a text that is worth a weight
    facts: Mapping[str, Any] = field(default_factory=dict)  # what else is good to know; JSON values

    @property
    def buckets(self) -> int:
        """The number of buckets."""
        return len(self.raw.counts)

    def log_ratios(self, target: str | None) -> npt.NDArray[np.float64]:
        """For each bucket log(p_target + 1e-8) - log(p_raw + 1e-8); None: of all targets as one."""
        bags = self.targets.values() if target is None else [self.targets[target]]
        smoothed = np.sum([bag.counts for bag in bags], axis=0) + self.smoothing
        in_target, in_raw = smoothed / smoothed.sum(), self.raw.counts / self.raw.counts.sum()
        ratios: npt.NDArray[np.float64] = np.log(in_target + EPSILON) - np.log(in_raw + EPSILON)
        return ratios

    def write(self, path: Path) -> None:
        """Writes an `.npz` file without pickle: an array for each bag, and JSON with the rest."""
        bags = {"raw": self.raw, **{f"target.{name}": bag for name, bag in self.targets.items()}}
        settings = {
            "format": _FORMAT,
            "hash": _HASH,
            "ngram": self.ngram,
            "smoothing": self.smoothing,
            "min_tokens": self.min_tokens,
            "facts": dict(self.facts),
            "bags": {
                name: {key: value for key, value in asdict(bag).items() if key != "counts"}
                for name, bag in bags.items()
            },
        }
        text = json.dumps(settings, ensure_ascii=False, indent=1).encode()
        made = path.with_name(f".{path.name}.new")
        arrays: dict[str, Any] = {f"counts.{name}": bag.counts.astype("<i8") for name, bag in bags.items()}
        with made.open("wb") as file:
            np.savez(file, settings=np.frombuffer(text, np.uint8), **arrays)
        os.replace(made, path)


def read(path: Path) -> Statistics:
    """The statistics in a file. Raises AssetError if it holds none, or some that this version cannot use."""
    from ..filters.text.hashed_ngrams import NgramHasher

    try:
        with np.load(path, allow_pickle=False) as file:
            settings = json.loads(file["settings"].tobytes())
            if settings["format"] != _FORMAT or settings["hash"] != _HASH:
                raise AssetError(
                    f"{path}: statistics of format {settings['format']!r} with hash {settings['hash']!r}; "
                    f"here are {_FORMAT!r} with {_HASH!r}. Train them anew"
                )
            bags = {
                name: Bag(file[f"counts.{name}"].astype(np.int64), bag["documents"], bag["sha256"])
                for name, bag in settings["bags"].items()
            }
            NgramHasher(len(bags["raw"].counts), settings["ngram"], remembered=1)
    except (KeyError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, OSError) as error:
        raise AssetError(
            f"{path}: no statistics of DSIR ({error}); `thresher train dsir` makes some"
        ) from error
    raw = bags.pop("raw")
    if not bags or not all(_is_count(bag.counts, len(raw.counts)) for bag in (raw, *bags.values())):
        raise AssetError(f"{path}: counts that cannot be; `thresher train dsir` makes some that can")
    targets = {name.removeprefix("target."): bag for name, bag in bags.items()}
    return Statistics(
        raw, targets, settings["ngram"], settings["smoothing"], settings["min_tokens"], settings["facts"]
    )


def _is_count(counts: Counts, buckets: int) -> bool:
    return counts.shape == (buckets,) and bool((counts >= 0).all()) and bool(counts.any())


def check_name(target: str) -> None:
    """Raises ValueError if a target's name cannot be a column's."""
    if not _NAME.fullmatch(target) or target in (TOKENS, LOG_WEIGHT):
        raise ValueError(
            f"target {target!r}: a name is small letters, digits and _, and neither {TOKENS} nor {LOG_WEIGHT}"
        )
