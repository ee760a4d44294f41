"""Perplexity under a KenLM model of SentencePiece pieces, as CCNet computes it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..schemas.contracts import Assets, Scorer
from . import kenlm_model
from .kenlm_model import LINES, NORMALIZATIONS, Lines, Normalization, PieceLanguageModel

_LARGEST = float(np.finfo(np.float32).max)


class KenLMScorer(Scorer):
    """How surprised a language model is by the text: low where it reads like what the model learned.

    Reads `text`. Returns `perplexity`: float32, 10 ** (-log10 p / words), rounded to `decimals` (1 as in
    CCNet; null: not rounded), null where the text is null or nothing is left of it to score. With `details`
    also `log_score`, the sum of log10 p (float32), and `words` (int32): pieces, and one for the end of each
    line. Columns are then named with `as` before them.

    `model`: a KenLM file, `.bin` or `.arpa`. `tokenizer`: the SentencePiece file that it was trained with.
    `normalize`: ccnet, or none. `lines`: joined scores the document as one line, which is what CCNet's
    pipeline does (its normal form holds no ends of lines; cc_net/mine.py); separate scores each line by
    itself and adds up, as its class DocLM does where lines are left. `max_chars`: where scoring ends, because
    pieces take some twenty times the memory of their text; no page of CCNet's is longer than the default, for
    Common Crawl then cut pages at 1 MiB.

    Raises AssetError if a file is not what it should be, or a package is missing.
    """

    version: ClassVar[int] = 1
    obtain = "`thresher train sentencepiece` makes the tokenizer, `thresher train kenlm` the model"
    inputs = ("text",)

    def __init__(
        self,
        model: str,
        tokenizer: str,
        normalize: Normalization = "ccnet",
        lines: Lines = "joined",
        decimals: int | None = 1,
        details: bool = False,
        max_chars: int = 2**20,
    ) -> None:
        if normalize not in NORMALIZATIONS:
            raise ValueError(f"normalize is {normalize!r}; write {' or '.join(NORMALIZATIONS)}")
        if lines not in LINES:
            raise ValueError(f"lines is {lines!r}; write {' or '.join(LINES)}")
        if max_chars < 1:
            raise ValueError(f"max_chars is {max_chars}; it is at least 1")
        self.assets = (model, tokenizer)
        self._normalize, self._lines = normalize, lines
        self._decimals, self._details, self._max_chars = decimals, details, max_chars
        self._model: PieceLanguageModel | None = None

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        details = {"log_score": pa.float32(), "words": pa.int32()} if self._details else {}
        return {"perplexity": pa.float32(), **details}

    def open(self, assets: Assets) -> None:
        model, tokenizer = self.assets
        self._model = kenlm_model.load(assets.locate(model), assets.locate(tokenizer))

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        assert self._model is not None, "open comes before score"
        texts = batch.column("text")
        if (pc.max(pc.binary_length(texts)).as_py() or 0) > self._max_chars:
            texts = pc.utf8_slice_codeunits(texts, 0, self._max_chars)
        owners: npt.NDArray[np.int64] = np.arange(len(texts))
        if self._lines == "separate":
            lists = pc.split_pattern(texts, "\n")
            owners = pc.list_parent_indices(lists).to_numpy().astype(np.int64)
            texts = lists.flatten()
        lines = kenlm_model.prepare(texts, self._normalize)
        scores, words = self._model.score(line.as_py() or "" for line in lines)
        total = np.bincount(owners, scores, len(batch)).astype(np.float64)
        length = np.bincount(owners, words, len(batch)).astype(np.int64)
        ends = np.bincount(owners, minlength=len(batch))
        return self._columns(total, np.where(length > ends, length, 0))

    def _columns(self, total: npt.NDArray[np.float64], length: npt.NDArray[np.int64]) -> dict[str, pa.Array]:
        # Plain Python's power and rounding, which are CCNet's to the last bit.
        found = [
            None if not words else min(10.0 ** (-score / words), _LARGEST)
            for score, words in zip(total.tolist(), length.tolist(), strict=True)
        ]
        if self._decimals is not None:
            found = [None if value is None else round(value, self._decimals) for value in found]
        columns = {"perplexity": pa.array(found, pa.float32())}
        if self._details:
            missing = length == 0
            columns["log_score"] = pa.array(total.astype(np.float32), mask=missing)
            columns["words"] = pa.array(length.astype(np.int32), mask=missing)
        return columns
