"""Reference sets of embeddings: files of numpy, and columns of Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from ...schemas.contracts import AssetError
from .matrix import Matrix, is_embedding, matrix_of, normalised

if TYPE_CHECKING:
    import pyarrow.parquet as pq

SUFFIXES: Final = (".npy", ".npz", ".parquet")
_ROWS: Final = 1 << 16  # made float32 at a time


@dataclass(frozen=True)
class Reference:
    """A set of embeddings: `matrix` (float32), the id of each row, and other columns of
    the file, as long as the matrix."""

    matrix: Matrix
    ids: pa.Array  # string; the row's number in the file where it has no column `id`
    columns: dict[str, pa.Array]


def read_reference(
    path: Path, array: str | None = None, *, columns: Sequence[str] = (), unit: bool = True
) -> Reference:
    """Reads embeddings: a .npy of two dimensions, one array of an .npz, or one column of a Parquet file.

    `array` names the array or column, and may be left out where there is only one. `columns`: what else is
    read of a Parquet file. Rows without an embedding are left out; a row of zeros stays one. They are made of
    length one unless `unit` is false.

    Raises AssetError, which names the file and what is wrong with it.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise AssetError(f"{path}: embeddings are read from {', '.join(SUFFIXES)} files, not from {suffix}")
    if columns and suffix != ".parquet":
        raise AssetError(f"{path}: has no column {columns[0]}; only a Parquet file has columns besides")
    try:
        return (
            _of_parquet(path, array, columns, unit) if suffix == ".parquet" else _of_numpy(path, array, unit)
        )
    except (OSError, EOFError, ValueError, pa.ArrowException) as error:
        raise AssetError(f"{path}: cannot be read as embeddings ({error})") from error


def _of_numpy(path: Path, array: str | None, unit: bool) -> Reference:
    # Nothing is unpickled: numpy refuses arrays of objects unless told otherwise.
    if path.suffix.lower() == ".npy":
        stored: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        matrix = _matrix(path, stored, unit)
    else:
        with np.load(path, allow_pickle=False) as archive:
            matrix = _matrix(path, archive[_chosen(path, array, archive.files, "array")], unit)
    return Reference(matrix, _numbers(np.arange(len(matrix))), {})


def _matrix(path: Path, stored: Any, unit: bool) -> Matrix:
    if not isinstance(stored, np.ndarray) or stored.ndim != 2 or stored.dtype.kind != "f":
        shape = f"{stored.dtype} of shape {stored.shape}" if isinstance(stored, np.ndarray) else "no array"
        raise AssetError(f"{path}: is {shape}; embeddings are floating-point numbers, one row for each")
    matrix = np.empty(stored.shape, np.float32)
    for start in range(0, len(stored), _ROWS):
        part = np.asarray(stored[start : start + _ROWS], np.float32)
        if not np.isfinite(part).all():
            row = start + int(np.flatnonzero(~np.isfinite(part).all(axis=1))[0])
            raise AssetError(f"{path}: row {row} has a number that is not finite")
        matrix[start : start + _ROWS] = normalised(part) if unit else part
    return matrix


def _of_parquet(path: Path, array: str | None, columns: Sequence[str], unit: bool) -> Reference:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        embeddings = [field.name for field in file.schema_arrow if is_embedding(field.type)]
        column = _chosen(path, array, embeddings, "column of embeddings")
        for name in columns:
            if name not in names:
                raise AssetError(f"{path}: has no column {name}; it has {', '.join(names)}")
        beside = list(dict.fromkeys([*columns, *(["id"] if "id" in names else [])]))
        return _rows_of(file, column, beside, columns, unit)


def _rows_of(
    file: pq.ParquetFile, column: str, beside: list[str], columns: Sequence[str], unit: bool
) -> Reference:
    parts: list[Matrix] = []
    others: dict[str, list[pa.Array]] = {name: [] for name in beside}
    numbers: list[Any] = []
    read, dimensions = 0, None
    for batch in file.iter_batches(batch_size=_ROWS, columns=list(dict.fromkeys([column, *beside]))):
        matrix, valid = matrix_of(batch.column(column), dimensions)
        rows = np.flatnonzero(valid)
        dimensions = matrix.shape[1] if len(matrix) else dimensions
        if len(rows):
            parts.append(normalised(matrix) if unit else matrix)
            numbers.append(rows + read)
            for name, found in others.items():
                found.append(batch.column(name).take(pa.array(rows)))
        read += len(batch)
    if not parts:
        return Reference(np.empty((0, 0), np.float32), pa.array([], pa.string()), {})
    joined = {name: pa.concat_arrays(found) for name, found in others.items()}
    ids = joined["id"].cast(pa.string()) if "id" in joined else _numbers(np.concatenate(numbers))
    return Reference(np.concatenate(parts), ids, {name: joined[name] for name in columns})


def _chosen(path: Path, name: str | None, names: Sequence[str], noun: str) -> str:
    there = ", ".join(names) or "none"
    if name is None:
        if len(names) != 1:
            raise AssetError(f"{path}: which {noun}? it has {there}; name it with `array`")
        return names[0]
    if name not in names:
        raise AssetError(f"{path}: has no {noun} {name!r}; it has {there}")
    return name


def _numbers(rows: Any) -> pa.Array:
    return pa.array(rows).cast(pa.string())
