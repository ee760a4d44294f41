"""Labelled texts that an encoder learns from: what each head is to answer, and which are held out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from .heads import Doubles, Question, check_name

Numbers = npt.NDArray[np.int64]

CHECKED: Final = 0.1  # of the texts that are not held out: these decide when to stop


class LabelledTexts:
    """Texts with a value for each target, which may be missing. The order in which they come does not matter.

    A text is held out, or checked, by hash(seed, text), so that its copies are with it.
    """

    def __init__(self, targets: Sequence[str], seed: int, held_out: float) -> None:
        for name in targets:
            check_name(name)
        if len(set(targets)) != len(targets) or not targets:
            raise ValueError(f"targets are {list(targets)}; write different ones, at least one")
        self.skipped = 0  # records without a text or any target
        self._targets, self._seed, self._bar = tuple(targets), seed, int(held_out * 2**64)
        self._rows: list[tuple[int, int, str, tuple[Any, ...]]] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Adds the records of a batch with a column `text` and one for each target."""
        columns = [batch.column(name).to_pylist() for name in self._targets]
        for text, *values in zip(batch.column("text").to_pylist(), *columns, strict=True):
            there = tuple(map(_plain, values))
            if not (text or "").strip() or all(value is None for value in there):
                self.skipped += 1
                continue
            encoded = text.encode("utf-8", "replace")
            split, order = divmod(xxhash.xxh3_128_intdigest(encoded, self._seed), 2**64)
            self._rows.append((split, order, text, there))

    def divided(self, kinds: Mapping[str, str | None]) -> Division:
        """All of them, in the order of their hashes. `kinds`: regression or classification; where there is
        none, numbers are for a regression. Raises ValueError where a target teaches nothing."""
        self._rows.sort(key=lambda row: (row[1], row[2], repr(row[3])))
        held = np.array([row[0] < self._bar for row in self._rows], np.bool_)
        # The lower half of the hash has put them in order; its own lowest bits are chance still.
        checked = np.array([row[1] % 2**32 < CHECKED * 2**32 for row in self._rows], np.bool_) & ~held
        digest = hashlib.sha256()
        for is_held, (_, _, text, values) in zip(held, self._rows, strict=True):
            if not is_held:
                digest.update(f"{text}\0{values!r}\n".encode("utf-8", "replace"))
        division = Division(
            [row[2] for row in self._rows], held, checked, digest.hexdigest(), skipped=self.skipped
        )
        for number, name in enumerate(self._targets):
            column = [row[3][number] for row in self._rows]
            question, numbers = _taught(name, column, kinds.get(name))
            seen = numbers[~held & ~np.isnan(numbers)]
            wanted = max(2, len(question.classes))
            if len(np.unique(seen)) < wanted:
                what = (
                    f"a text of each of {', '.join(question.classes)}"
                    if len(question.classes) > 1
                    else "two different values"
                )
                raise ValueError(
                    f"{name}: {len(seen)} texts to learn from do not have {what}; give more data, or hold "
                    "less out"
                )
            division.questions[name], division.values[name] = question, numbers
        return division


@dataclass
class Division:
    """Texts, and of each target what it asks, and a number or that of a class for each text, NaN for none."""

    texts: list[str]
    held: npt.NDArray[np.bool_]
    checked: npt.NDArray[np.bool_]
    data_sha256: str  # of the texts that are learned from, with their targets
    skipped: int = 0
    questions: dict[str, Question] = field(default_factory=dict)
    values: dict[str, Doubles] = field(default_factory=dict)

    @property
    def learned(self) -> Numbers:
        """Those that are neither held out nor checked."""
        return np.flatnonzero(~self.held & ~self.checked)


def nothing() -> Division:
    """No texts."""
    none = np.zeros(0, np.bool_)
    return Division([], none, none, hashlib.sha256().hexdigest())


def labelled(data: Mapping[str, Iterable[pa.RecordBatch]], target: str) -> Iterable[pa.RecordBatch]:
    """Batches of `text` and the label under which they came."""
    for label, batches in data.items():
        for batch in batches:
            labels = pa.array([label] * len(batch), pa.string())
            yield pa.RecordBatch.from_pydict({"text": batch.column("text"), target: labels})


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _taught(name: str, column: list[Any], kind: str | None) -> tuple[Question, Doubles]:
    there = [value for value in column if value is not None]
    strange = next((value for value in there if not isinstance(value, str | int | float)), None)
    if strange is not None:
        raise ValueError(f"{name}: {strange!r} is no target; targets are numbers, text, or true and false")
    are_numbers = not any(isinstance(value, str) for value in there)
    kind = kind or ("regression" if are_numbers else "classification")
    if kind == "regression":
        if not are_numbers:
            text = next(value for value in there if isinstance(value, str))
            raise ValueError(f"{name}: {text!r} is no number; a regression learns numbers")
        return Question("regression"), np.array([math.nan if v is None else float(v) for v in column])
    names = [None if value is None else _label(value) for value in column]
    classes = sorted({label for label in names if label is not None}, key=_place)
    numbers = {label: float(number) for number, label in enumerate(classes)}
    values = np.array([math.nan if label is None else numbers[label] for label in names])
    return Question("classification", tuple(classes)), values


def _label(value: str | int | float) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _place(label: str) -> tuple[float, str]:
    """Numbers in their order, then words in theirs."""
    try:
        return float(label), label
    except ValueError:
        return math.inf, label
