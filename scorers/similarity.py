"""How near a record's embedding is to a reference set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final, Literal, get_args

import numpy as np
import pyarrow as pa

from ..filters.expressions import ExpressionError, parse
from ..schemas.contracts import AssetError, Assets, Scorer
from .embedded import directed

if TYPE_CHECKING:
    from ..filters.embeddings.reference import Reference
    from ..filters.embeddings.search import Index

Search = Literal["exact", "ivf"]
_OUTPUTS: Final = {"similarity": pa.float32(), "nearest": pa.string()}


class SimilarityScorer(Scorer):
    """Largest cosine of a record's embedding and the embeddings of a reference set.

    `embedding` names the column. `reference` is a .npy, an .npz or a Parquet file, of which `array` names the
    array or column; `where` is a condition on a Parquet file's other columns, as in `split == "test"`, and
    only rows for which it holds count. Returns as `outputs` say `similarity` (float32, the mean of the `k`
    largest cosines) and `nearest` (string, the column `id` of the nearest row, or its number in the file);
    null where the record has no embedding or one of zeros.

    `index`: exact compares each record with each row; ivf compares it with the rows of the `probes` nearest
    of `lists` lists, for reference sets of millions. `lists` is 4 times the square root of the rows where
    left out, the least that faiss' documentation recommends; with fewer than 39 rows for each, the search is
    exact.
    Raises AssetError where the file holds no such embeddings.
    """

    version: ClassVar[int] = 1
    kernels: ClassVar[tuple[str, ...]] = ("thresher.filters.embeddings.search",)

    def __init__(
        self,
        embedding: str,
        reference: str,
        array: str | None = None,
        k: int = 1,
        outputs: Sequence[str] = ("similarity",),
        index: Search = "exact",
        lists: int | None = None,
        probes: int = 16,
        where: str | None = None,
        seed: int = 0,
    ) -> None:
        if index not in get_args(Search):
            raise ValueError(f"index is {index!r}; write exact or ivf")
        if index == "exact" and lists is not None:
            raise ValueError("lists go with index: ivf")
        for name, value in (("k", k), ("probes", probes), ("lists", lists)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it is at least 1")
        unknown = sorted(set(outputs) - set(_OUTPUTS))
        if unknown or not outputs:
            raise ValueError(f"outputs is {list(outputs)}; write some of {', '.join(_OUTPUTS)}")
        self.inputs = (embedding,)
        self.assets = (reference,)
        self._array, self._k, self._names = array, k, tuple(dict.fromkeys(outputs))
        self._kind, self._lists, self._probes, self._seed = index, lists, probes, seed
        self._where = None if where is None else parse(where)
        self._index: Index | None = None
        self._ids: pa.Array | None = None

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {name: _OUTPUTS[name] for name in self._names}

    def open(self, assets: Assets) -> None:
        from ..filters.embeddings.reference import read_reference

        path = assets.locate(self.assets[0])
        columns = sorted(self._where.columns) if self._where else []
        reference = read_reference(path, self._array, columns=columns)
        matrix, ids = reference.matrix, reference.ids
        if self._where is not None:
            chosen = np.flatnonzero(self._mask(reference, str(path)))
            matrix, ids = matrix[chosen], ids.take(pa.array(chosen))
        if not len(matrix):
            which = f" for which {self._where.text}" if self._where else ""
            raise AssetError(f"{path}: has no embedding{which}")
        self._index, self._ids = self._indexed(matrix), ids

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        assert self._index is not None, "open comes before score"
        assert self._ids is not None
        matrix, rows = directed(batch, self.inputs[0], self._index.dimensions, self.assets[0])
        found = self._index.search(matrix, min(self._k, len(self._index)))
        similarity = np.full(len(batch), np.nan, np.float32)
        similarity[rows] = np.clip(found.values.mean(axis=1, dtype=np.float64), -1, 1)
        nearest = np.full(len(batch), -1, np.int64)
        nearest[rows] = found.rows[:, 0]
        scores = {
            "similarity": pa.array(similarity, from_pandas=True),
            "nearest": self._ids.take(pa.array(nearest, mask=nearest < 0)),
        }
        return {name: scores[name] for name in self._names}

    def _indexed(self, matrix: np.ndarray) -> Index:
        from ..filters.embeddings.search import Index

        lists = None if self._kind == "exact" else self._lists or round(4 * math.sqrt(len(matrix)))
        return Index(matrix, lists=lists, probes=self._probes, seed=self._seed)

    def _mask(self, reference: Reference, path: str) -> np.ndarray:
        assert self._where is not None
        if not reference.columns or not len(reference.matrix):
            return np.ones(len(reference.matrix), np.bool_)
        try:
            held = self._where.evaluate(reference.columns)
        except ExpressionError as error:
            raise AssetError(f"{path}: where: {error}") from error
        return np.asarray(held.fill_null(False).to_numpy(zero_copy_only=False), np.bool_)
