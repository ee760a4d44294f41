"""How likely an image is inappropriate, by two prompts that were learned (Q16)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa

from ...schemas.contracts import Assets, Scorer
from ..embedded import directed
from ..heads.file import Prompts, read_prompts


class Q16Scorer(Scorer):
    """Probability that an image is inappropriate, from its CLIP embedding and two learned vectors.

    Schramowski et al. 2022, arXiv:2202.06675; github.com/ml-research/Q16 (main/models/clip.py): the softmax
    of 100 times the cosines with both vectors, of which the second stands for what is inappropriate. Its
    authors list images from a probability of .9 on.

    `embedding` names the column, made by the model that the `prompts` were trained for; `prompts` is a file
    that `thresher train q16` writes. Returns `inappropriate`: float32, null where there is no embedding or
    one of zeros. Raises AssetError where the file holds no prompts.
    """

    version: ClassVar[int] = 1
    obtain = "`thresher train q16` makes it"
    kernels: ClassVar[tuple[str, ...]] = ("thresher.filters.embeddings.products",)

    def __init__(self, embedding: str, prompts: str) -> None:
        self.inputs = (embedding,)
        self.assets = (prompts,)
        self._prompts: Prompts | None = None

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {"inappropriate": pa.float32()}

    def open(self, assets: Assets) -> None:
        self._prompts = read_prompts(assets.locate(self.assets[0]))

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        assert self._prompts is not None, "open comes before score"
        matrix, rows = directed(batch, self.inputs[0], self._prompts.vectors.shape[1], self.assets[0])
        scores = np.full(len(batch), np.nan, np.float32)
        scores[rows] = inappropriate(matrix, self._prompts)
        return {"inappropriate": pa.array(scores, from_pandas=True)}


def inappropriate(matrix: np.ndarray, prompts: Prompts) -> np.ndarray:
    """The probability of each row, of length one, that it is inappropriate."""
    from ...filters.embeddings.matrix import normalised
    from ...filters.embeddings.products import products, softmax

    logits = prompts.scale * products(matrix, normalised(prompts.vectors))
    return np.asarray(softmax(logits)[:, 1], np.float32)
