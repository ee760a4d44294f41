"""Embeddings that were computed before, joined to records by a key."""

from __future__ import annotations

import functools
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from ..filters.embeddings.matrix import EMBEDDING, column_of
from ..schemas.contracts import AssetError, Assets, Scorer
from .embedding_store import STORED_KEYS, Layout, Rows, arrays_of
from .key_index import KeyIndex

_OPEN_FILES: Final = 8


class StoredEmbeddingScorer(Scorer):
    """The embedding of each record as files have it: `embedding`, lists of float16.

    `layout`: `datacomp`, NAME.npz beside NAME.parquet; `clip-retrieval`, the folders ARRAY_emb and metadata;
    `parquet`, a file or folder with columns of lists. `array`: which of the arrays or columns. `key`: the
    column of the records that they are found by, and `stored_key` what it is called there; by default uid for
    datacomp, and id. Of several rows with the same key the first counts, in the order of the files' names.
    Null where there is no row, or where it holds a number that is not finite as float16.

    Opening reads the keys of all files, unless this machine has an index of them: see KeyIndex. Embeddings
    are read as they are asked for: neighbours in the files are best neighbours in the input too.

    Raises AssetError where files, arrays or columns are missing, or have not as many rows as their keys.
    """

    version = 1

    def __init__(
        self,
        path: str,
        array: str,
        layout: Literal["datacomp", "clip-retrieval", "parquet"] = "parquet",
        key: str = "id",
        stored_key: str | None = None,
    ) -> None:
        if layout not in STORED_KEYS:
            raise ValueError(f"layout {layout!r} is none of {', '.join(STORED_KEYS)}")
        self._path, self._array, self._key = path, array, key
        self._layout: Layout = layout
        self._stored_key = STORED_KEYS[layout] if stored_key is None else stored_key
        self.inputs = (key,)
        self.assets = self.listed = (path,)

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {"embedding": EMBEDDING}

    def open(self, assets: Assets) -> None:
        path = assets.locate(self._path)
        self._arrays = arrays_of(path, self._layout, self._array, self._stored_key)
        self._index = KeyIndex.of(self._arrays, self._stored_key)
        self._opened = functools.lru_cache(_OPEN_FILES)(self._open_array)

    def _open_array(self, number: int) -> Rows:
        return self._arrays[number].open()

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        files, rows = self._index.find(batch.column(self._key))
        matrix: np.ndarray[Any, np.dtype[np.float16]] | None = None
        is_there = files >= 0
        for number in np.unique(files[is_there]).tolist():
            mine = np.flatnonzero(files == number)
            wanted, places = np.unique(rows[mine], return_inverse=True)
            with np.errstate(over="ignore"):
                found = self._opened(number).rows(wanted).astype(np.float16)
            if not found.shape[1]:  # written where nobody had an embedding
                is_there[mine] = False
                continue
            if matrix is None:
                matrix = np.zeros((len(batch), found.shape[1]), np.float16)
            if found.shape[1] != matrix.shape[1]:
                told = f"{found.shape[1]} numbers where others have {matrix.shape[1]}"
                raise AssetError(f"{self._arrays[number].path}: an embedding has {told}")
            matrix[mine] = found[places]
            is_there[mine] &= np.isfinite(matrix[mine]).all(axis=1)
        if matrix is None:
            return {"embedding": pa.nulls(len(batch), EMBEDDING)}
        return {"embedding": column_of(matrix[is_there], is_there)}
