"""Trains fastText classifiers from labelled records, and says how good they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..schemas.contracts import AssetError, AssetRef
from .assets import checksum
from .metrics import Metrics, measure
from .model_card import Trained, model_card
from .training_text import TrainingText

_LINES: Final = 4096  # held-out documents that are scored at a time
_HOW: Final = "install it with: pip install --force-reinstall --no-deps 'fasttext>=0.9.3'"

# fastText 0.9.3 draws the first values of its input matrix in as many tenths as it has threads
# (`DenseMatrix::uniform` and `uniformThread` in src/densematrix.cc) and leaves the rest as the allocator gave
# it: with one thread small models start from garbage, and learn another model, or only NaN, at each run. In a
# process of its own glibc can be told to hand out zeros instead (mallopt(3), M_PERTURB): the complement of
# 255.
_ZEROED_MEMORY: Final = "glibc.malloc.perturb=255:glibc.malloc.tcache_count=0"
_TRAIN: Final = """
import json, sys
import fasttext
arguments = json.load(sys.stdin)
out = arguments.pop("out")
try:
    fasttext.train_supervised(**arguments).save_model(out)
except (RuntimeError, ValueError, MemoryError) as error:
    sys.exit(str(error) or type(error).__name__)
"""


class TrainingError(Exception):
    """fastText could not learn from the data; the message is its own, with what may help."""


@dataclass(frozen=True)
class FastTextTrainer:
    """Trains a supervised fastText model from labelled streams of batches with a column `text`.

    The parameters are fastText's own, with its defaults (its documentation, "List of options") except
    `word_ngrams`: 2, as in the quality classifier of DCLM (Li et al. 2024, arXiv:2406.11794). A model takes
    about 4 · dim · (bucket + words) bytes; 800 MB with the defaults. `maxn` above 0 makes n-grams of
    `minn` to so many characters features too, for text without blanks, such as URLs. With `threads` 1 the
    same data and seed give the same bytes, on Linux with glibc; more threads race for the weights.
    `held_out`: the share of documents, chosen by hash(seed, text), that the model is measured on and never
    sees; copies of a text fall on the same side.

    Raises ValueError for parameters out of range.
    """

    word_ngrams: int = 2
    lr: float = 0.1
    epoch: int = 5
    dim: int = 100
    min_count: int = 1
    minn: int = 0
    maxn: int = 0
    bucket: int = 2_000_000
    threads: int = 1
    held_out: float = 0.1
    licence: str = "unknown"

    def __post_init__(self) -> None:
        for name in ("word_ngrams", "epoch", "dim", "min_count", "bucket", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is at least 1")
        if self.minn < 0 or self.maxn < self.minn:
            raise ValueError(f"minn is {self.minn} and maxn {self.maxn}; write 0 <= minn <= maxn")
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; the learning rate is above 0")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; write a fraction of 0 or more and below 1")

    def fit(self, data: Mapping[str, Iterable[pa.RecordBatch]], out: Path, seed: int) -> AssetRef:
        """Trains on label -> batches and writes `out`, a `.bin` file, and its card `out` + `.md`.

        Raises as `train` does.
        """
        return self.train(data, out, seed).model

    def train(
        self,
        data: Mapping[str, Iterable[pa.RecordBatch]],
        out: Path,
        seed: int,
        sources: Mapping[str, Iterable[str]] | None = None,
    ) -> Trained:
        """As `fit`; returns all there is to know. `sources`: for the card, where each label's data came from.

        Memory: fastText's own, and 4 bytes for each label of a held-out document. Disk: the text once, beside
        `out`, until the end. Records without text are skipped and counted. Raises ValueError if there are
        fewer than two labels, or one has no text to learn from, AssetError if the fastText package cannot
        train, and TrainingError if it gives up.
        """
        _require_training()
        _check_labels(list(data))
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
            text = TrainingText(Path(folder), list(data), seed, self.held_out)
            for label, batches in data.items():
                for batch in batches:
                    text.add(label, batch.column("text"))
            training, data_sha256 = text.close()
            empty = [label for label, count in text.documents.items() if not count]
            if empty:
                raise ValueError(f"label {empty[0]} has no document with text to learn from")
            made = Path(folder) / "model.bin"
            self._run(training, made, seed)
            metrics = _measured(made, text)
            os.replace(made, out)
        model = AssetRef(str(out), checksum(out), self.licence)
        card = out.with_name(out.name + ".md")
        trained = Trained(model, card, text.documents, text.held_out, text.skipped, data_sha256, metrics)
        card.write_text(model_card(trained, {**asdict(self), "seed": seed}, sources or {}), encoding="utf-8")
        return trained

    def _run(self, training: Path, out: Path, seed: int) -> None:
        arguments = {
            "input": str(training),
            "out": str(out),
            "wordNgrams": self.word_ngrams,
            "lr": self.lr,
            "epoch": self.epoch,
            "dim": self.dim,
            "minCount": self.min_count,
            "minn": self.minn,
            "maxn": self.maxn,
            "bucket": self.bucket,
            "thread": self.threads,
            "seed": seed & 0x7FFFFFFF,  # fastText keeps 32 bits, signed
            "verbose": 0,
        }
        done = subprocess.run(
            [sys.executable, "-c", _TRAIN],
            input=json.dumps(arguments),
            env=os.environ | {"GLIBC_TUNABLES": _ZEROED_MEMORY},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            told = done.stderr.strip() or f"it ended with status {done.returncode}"
            hint = "; try a smaller lr" if "NaN" in told else ""
            raise TrainingError(f"fastText stopped: {told}{hint}")


def train_fasttext(
    positives: Iterable[pa.RecordBatch],
    negatives: Iterable[pa.RecordBatch],
    out: Path,
    *,
    label: str = "hq",
    other: str = "lq",
    seed: int = 0,
    trainer: FastTextTrainer | None = None,
    sources: Mapping[str, Iterable[str]] | None = None,
) -> Trained:
    """Trains a classifier that tells `positives` (called `label`) from `negatives` (called `other`).

    Batches have a column `text`; `sources` names, for the card, what each label was read from. Writes `out`
    and its card. Raises as `FastTextTrainer.train` does.
    """
    if label == other:
        raise ValueError(f"both labels are {label!r}; name the positives and the negatives differently")
    return (trainer or FastTextTrainer()).train({label: positives, other: negatives}, out, seed, sources)


def _require_training() -> None:
    try:
        import fasttext
    except (ImportError, AttributeError) as error:
        raise AssetError(f"training needs the package fasttext ({error}); {_HOW}") from error
    if not hasattr(fasttext, "train_supervised"):
        raise AssetError(f"the package fasttext-predict is here, which cannot train; {_HOW}")


def _check_labels(labels: list[str]) -> None:
    if len(labels) < 2:
        raise ValueError(f"a classifier tells at least two labels apart; there is {len(labels)}")
    for label in labels:
        if not label or label.split() != [label] or "\0" in label:
            raise ValueError(f"label {label!r} is not one word; write a name without blanks")


def _measured(model_path: Path, text: TrainingText) -> dict[str, Metrics]:
    """The figures of each label, the model's choice being its most probable label."""
    from ..filters.fasttext_model import load

    labels = list(text.held_out)
    if not any(text.held_out.values()):
        return {}
    model = load(model_path)
    truth: list[npt.NDArray[np.int64]] = []
    scores: list[npt.NDArray[np.float32]] = []
    for number, label in enumerate(labels):
        for lines in text.held_out_lines(label, _LINES):
            truth.append(np.full(len(lines), number))
            scores.append(
                np.stack([np.nan_to_num(model.probability(lines, name)) for name in labels], axis=1)
            )
    true, score = np.concatenate(truth), np.concatenate(scores)
    chosen = score.argmax(axis=1)
    return {
        label: measure(score[:, number], true == number, chosen == number)
        for number, label in enumerate(labels)
    }
