"""Scores from a fastText classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..schemas.contracts import AssetError, Assets, Scorer

if TYPE_CHECKING:
    from ..filters.fasttext_model import FastTextModel

# Anything but the separators of fastText (its documentation: ASCII white space and NUL) and Unicode's.
_NOT_SPACE: Final = r"[^\x00\t-\r \x{85}\p{Z}]"


class FastTextScorer(Scorer):
    """Probability of one label under a fastText classifier.

    Reads `column`; newlines become spaces, as fastText reads lines. Returns `score`: float32 in [0, 1], null
    where the text is null, empty or only white space, and where the model knows no word of it; the job names
    the column with `as`. fastText itself stops reading a text at a lone word `</s>`. `label` is written with
    or without `__label__`. Raises AssetError if the file is not a fastText model or lacks `label`.
    """

    version: ClassVar[int] = 1
    obtain = "`thresher train fasttext` makes one"

    def __init__(self, model: str, label: str, column: str = "text") -> None:
        self.inputs = (column,)
        self.assets = (model,)
        self._label = label
        self._model: FastTextModel | None = None

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {"score": pa.float32()}

    def open(self, assets: Assets) -> None:
        from ..filters.fasttext_model import load

        model = load(assets.locate(self.assets[0]))
        if self._label.removeprefix("__label__") not in model.labels:
            known = ", ".join(model.labels)
            raise AssetError(f"{model.path}: the model has no label {self._label!r}; it has {known}")
        self._model = model

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        assert self._model is not None, "open comes before score"
        texts = batch.column(self.inputs[0])
        has_words = pc.fill_null(pc.match_substring_regex(texts, _NOT_SPACE), False)
        rows = np.flatnonzero(has_words.to_numpy(zero_copy_only=False))
        scores = np.full(len(batch), np.nan, np.float32)
        with_words = texts if len(rows) == len(batch) else texts.take(pa.array(rows))
        utf8 = with_words.cast(pa.large_binary()).to_pylist()
        scores[rows] = self._model.probability(utf8, self._label)
        return {"score": pa.array(scores, from_pandas=True)}
