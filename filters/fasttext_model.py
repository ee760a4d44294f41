"""A fastText model file and its predictions in bulk, shared by language identification and classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..schemas.contracts import AssetError

# What fastText puts before a label unless it was trained with another `-label` (fastText documentation,
# "List of options").
LABEL_PREFIX: Final = "__label__"

# Every file that fastText writes begins with this number, little endian (`FASTTEXT_FILEFORMAT_MAGIC_INT32` in
# src/fasttext.cc). A file without it makes the library read nonsense sizes, so it is checked first.
_MAGIC: Final = (793712314).to_bytes(4, "little")

# Lines in one call: the library copies them all twice before it looks at the first, which caches should hold.
_LINES: Final = 64


class FastTextModel:
    """A supervised fastText model. Made by `load`; not safe to pickle: each worker loads its own."""

    def __init__(self, path: Path, native: Any, names: Sequence[str]) -> None:
        self.path = path
        self._native = native
        self._names = tuple(names)
        self.labels: tuple[str, ...] = tuple(sorted(_bare(name) for name in names))

    def predict_batch(self, lines: Sequence[str]) -> tuple[list[str | None], npt.NDArray[np.float32]]:
        """The most probable label of each line, without its `__label__`, and its probability.

        A newline counts as a space, since fastText reads one line at a time. Returns as many labels and
        float32 probabilities in [0, 1] as there are lines; None and NaN where the model has no feature of the
        line.
        """
        labels: list[str | None] = [None] * len(lines)
        scores = np.full(len(lines), np.nan, np.float32)
        found, probabilities = self._predict(lines, 1)
        for row, names in enumerate(found):
            if names:
                labels[row] = _bare(names[0])
                scores[row] = probabilities[row][0]
        return labels, np.clip(scores, 0.0, 1.0)

    def probability(self, lines: Sequence[str | bytes], label: str) -> npt.NDArray[np.float32]:
        """The probability of `label`, with or without `__label__`, for each line, a str or its UTF-8.

        Returns float32 in [0, 1], NaN where the model has no feature of the line. Raises AssetError if the
        model does not have that label.
        """
        bare = _bare(label)
        if bare not in self.labels:
            shown = ", ".join(self.labels[:20]) + (", …" if len(self.labels) > 20 else "")
            raise AssetError(f"{self.path}: the model has no label {bare!r}; it has {shown}")
        name = next(name for name in self._names if _bare(name) == bare)
        scores = np.full(len(lines), np.nan, np.float32)
        found, probabilities = self._predict(lines, len(self._names))
        for row, names in enumerate(found):
            if names:
                scores[row] = probabilities[row][names.index(name)]
        return np.clip(scores, 0.0, 1.0)

    def _predict(self, lines: Sequence[str | bytes], k: int) -> tuple[list[list[str]], list[Any]]:
        labels: list[list[str]] = []
        probabilities: list[Any] = []
        for start in range(0, len(lines), _LINES):
            ended = [_utf8(line).replace(b"\n", b" ") + b"\n" for line in lines[start : start + _LINES]]
            # A threshold below zero: none is pruned, so that every label is there to be found.
            found, shares = self._native.multilinePredict(ended, k, -1.0, "replace")
            labels += found
            probabilities += shares
        return labels, probabilities


def load(path: str | Path) -> FastTextModel:
    """Reads a `.bin` or `.ftz` file. Raises AssetError if it is missing or is no supervised fastText
    model."""
    path = Path(path)
    how = "train one with `thresher train fasttext`, or download one and give its path"
    if not path.is_file():
        raise AssetError(f"{path}: there is no fastText model here; {how}")
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            raise AssetError(f"{path}: not a fastText model (its first bytes are not fastText's); {how}")
    import fasttext

    try:
        native = fasttext.load_model(str(path)).f
        # fasttext-predict, the build without training, has no list of labels; predicting all of them is one.
        names, _ = native.multilinePredict(["\n"], -1, -1.0, "replace")
    except (ValueError, RuntimeError, MemoryError) as error:
        raise AssetError(f"{path}: fastText cannot use this file as a classifier ({error}); {how}") from error
    return FastTextModel(path, native, names[0])


def _bare(label: str) -> str:
    return label.removeprefix(LABEL_PREFIX)


def _utf8(line: str | bytes) -> bytes:
    """What fastText reads; halves of surrogate pairs, which UTF-8 does not have, become question marks."""
    return line if isinstance(line, bytes) else line.encode("utf-8", "replace")
