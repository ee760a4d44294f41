"""The plug-in contracts: what a scorer, a refiner, a trainable model and a selector promise.

A plug-in adds columns, edits or rows; only the runner drops rows. Null means "no score".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import pyarrow as pa


class AssetError(Exception):
    """A model, word list or reference set is missing or is not what the plug-in needs.

    The message says what was looked for, where, and how to make or fetch it.
    """


@dataclass(frozen=True)
class AssetRef:
    """A file that a plug-in reads: its location, the checksum that enters the fingerprint, its licence."""

    path: str
    sha256: str
    licence: str = "unknown"


class Assets(Protocol):
    """Where a plug-in finds its files."""

    def locate(self, name: str) -> Path:
        """The local path of the asset that the job calls `name`. Raises AssetError if it is missing."""
        ...


class Scorer(ABC):
    """Computes columns from columns; one worker holds one instance.

    Built from plain arguments (numbers, strings, lists, mappings of these), which with `version` make its
    fingerprint. `version` changes whenever the same input would give other output. What a job asks before
    there is a model (`inputs`, `outputs`, `assets`) is known when `__init__` ends and stays as it is.
    """

    version: ClassVar[int]
    inputs: tuple[str, ...]  # the columns that `score` reads; of the class, or as the arguments say
    tolerance: float = 0.0  # largest absolute difference between two runs; 0: bit for bit
    assets: tuple[str, ...] = ()  # names of the files that `open` locates
    listed: tuple[str, ...] = ()  # of these, folders too large to read: told by names, sizes and times alone
    obtain: str = ""  # how to make or fetch them, in half a sentence, for whoever lacks one
    kernels: ClassVar[tuple[str, ...]] = ()  # modules slow to import: engines may do it once for all workers

    @property
    @abstractmethod
    def outputs(self) -> dict[str, pa.DataType]:
        """Name and type of each column that `score` returns."""

    def open(self, assets: Assets) -> None:
        """Loads the model; called once per worker before the first batch."""

    def prepare(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """What `score` gets in place of `batch`: as many rows, in its order, of whatever columns.

        For work that needs no model, such as decoding images: it is done in another thread while `score`
        works on what came before, so it must change nothing that `score` reads.
        """
        return batch

    @abstractmethod
    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """The output columns, each as long as `batch`, in its order; null where there is no score.

        A batch is what was read at a time, of up to about a thousand records or 8 MB; the last of a part may
        be small, and one may have no row. A model that wants batches of its own size, or of texts of like
        length, cuts and sorts them in here: where a batch ends must make no difference beyond `tolerance`.
        Out-of-memory errors of a device are let through: then the batch comes again, in halves.
        """


# One edit of a text: the bytes [start, stop) of its UTF-8, which begin and end between characters, become
# `replacement` ("" deletes them).
EDIT: Final = pa.struct(
    [
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stop", pa.int64(), nullable=False),
        pa.field("replacement", pa.string(), nullable=False),
    ]
)


class Refiner(ABC):
    """Proposes edits of a record's text, which one shared executor applies.

    Built like a Scorer; `version`, `inputs`, `assets`, `obtain` and `kernels` mean the same.
    """

    version: ClassVar[int]
    inputs: ClassVar[tuple[str, ...]]  # the columns that `edits` reads; spans are of `text`
    assets: tuple[str, ...] = ()  # names of the files that `open` locates
    obtain: str = ""  # as a Scorer's
    kernels: ClassVar[tuple[str, ...]] = ()  # as a Scorer's

    def open(self, assets: Assets) -> None:
        """Loads what it needs; called once per worker before the first batch."""

    @abstractmethod
    def edits(self, batch: pa.RecordBatch) -> pa.ListArray:
        """list<EDIT> for each row, sorted by `start`, not overlapping; empty where nothing changes.

        Batches are those that a Scorer gets, and out-of-memory errors of a device mean the same.
        """


class Trainable(Protocol):
    """A model that can be made from data."""

    def fit(self, data: Mapping[str, Iterable[pa.RecordBatch]], out: Path, seed: int) -> AssetRef:
        """Trains on labelled streams of batches (label -> batches) and writes the model to `out`."""
        ...


@dataclass(frozen=True)
class Decision:
    """What a selector decided: a small mapping of JSON values that a person can read."""

    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Again:
    """The selector needs another pass over the records; `values` (JSON) is what it has learned so far."""

    values: Mapping[str, Any] = field(default_factory=dict)


class Selector(ABC):
    """A choice that needs the whole corpus: a summary of every part, merged, then one decision.

    States are Arrow tables of bounded size. `merge` is associative and is called in part order; counts and
    budgets are integers, so that the result depends neither on workers nor on how the corpus was cut.
    """

    version: ClassVar[int]
    max_copies: int = 1  # how often `decide` chooses a record at most; from 2 on a column says how often

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The columns it reads; `position` (uint64) and `id` may be among them."""

    @abstractmethod
    def start(self, learned: Again | None) -> pa.Table:
        """The empty state of the first pass (None) or of the pass that `learned` asked for."""

    @abstractmethod
    def update(self, state: pa.Table, batch: pa.RecordBatch, learned: Again | None) -> pa.Table:
        """The state with the rows of `batch` added."""

    @abstractmethod
    def merge(self, a: pa.Table, b: pa.Table, learned: Again | None) -> pa.Table:
        """The state of the rows of both."""

    @abstractmethod
    def finish(self, state: pa.Table, learned: Again | None) -> Decision | Again:
        """The decision, or a request for one more pass."""

    @abstractmethod
    def decide(self, batch: pa.RecordBatch, decision: Decision) -> pa.RecordBatch:
        """For each row: `keep` (bool), `copies` (int32), `reason` (string, null where kept),
        `value` (string, what decided)."""
