"""Files of embeddings in the layouts that others write: which there are, their keys, their rows."""

from __future__ import annotations

import functools
import struct
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..filters.embeddings.matrix import is_embedding
from ..schemas.contracts import AssetError

Layout = Literal["datacomp", "clip-retrieval", "parquet"]
Matrix = npt.NDArray[np.floating]
Int64s = npt.NDArray[np.int64]

# The column of the keys, where nothing else is said.
STORED_KEYS: Final[dict[str, str]] = {"datacomp": "uid", "clip-retrieval": "id", "parquet": "id"}

_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")  # signature … bytes of the name, bytes of what is extra
_ROWS: Final = 1 << 16
_OPEN_GROUPS: Final = 2


class Rows(ABC):
    """The rows of a file that is open."""

    @abstractmethod
    def rows(self, wanted: Int64s) -> Matrix:
        """Some rows, whose numbers ascend; NaN in those that have no embedding."""


class StoredArray(ABC):
    """One file of embeddings, and the Parquet file that has their keys, row for row."""

    def __init__(self, path: Path, keys: Path) -> None:
        self.path, self.keys_path = path, keys

    def keys(self, column: str) -> Iterator[pa.Array]:
        """The keys of all rows, in their order. Raises AssetError where these are not as many."""
        rows = 0
        with pq.ParquetFile(self.keys_path) as file:
            for batch in file.iter_batches(_ROWS, columns=[column]):
                rows += len(batch)
                yield batch.column(0)
        if rows != self.count():
            raise AssetError(f"{self.path} has {self.count()} rows, and {self.keys_path} keys for {rows}")

    @abstractmethod
    def count(self) -> int:
        """How many rows the file has. Raises AssetError where it holds no matrix."""

    @abstractmethod
    def open(self) -> Rows:
        """Opens the file. Raises AssetError where it holds no matrix."""


class _MatrixRows(Rows):
    """Those of a matrix, held or mapped."""

    def __init__(self, matrix: Matrix, path: Path) -> None:
        _check_shape(matrix.shape, matrix.dtype, path)
        self._matrix = matrix

    def rows(self, wanted: Int64s) -> Matrix:
        return np.asarray(self._matrix[wanted])


class NumpyFile(StoredArray):
    """A .npy, read through a map of it."""

    def count(self) -> int:
        return len(self._mapped())

    def open(self) -> Rows:
        return _MatrixRows(self._mapped(), self.path)

    def _mapped(self) -> Matrix:
        try:
            mapped: Matrix = np.load(self.path, mmap_mode="r")
        except ValueError as error:
            raise AssetError(f"{self.path}: {error}") from error
        _check_shape(mapped.shape, mapped.dtype, self.path)
        return mapped


class ArchivedArray(StoredArray):
    """An array of an .npz: read through a map where the archive is not compressed, else held."""

    def __init__(self, path: Path, keys: Path, array: str) -> None:
        super().__init__(path, keys)
        self._array = array

    def count(self) -> int:
        with self._member() as (_, stream):
            return int(self._header(stream)[0][0])

    def open(self) -> Rows:
        with self._member() as (member, stream):
            shape, is_fortran, dtype = self._header(stream)
            if member.compress_type != zipfile.ZIP_STORED:
                stream.seek(0)
                return _MatrixRows(np.lib.format.read_array(stream, allow_pickle=False), self.path)
            start = self._start(member) + stream.tell()
            if not all(shape):  # of which nothing can be mapped
                return _MatrixRows(np.zeros(shape, dtype), self.path)
            order: Literal["C", "F"] = "F" if is_fortran else "C"
            return _MatrixRows(np.memmap(self.path, dtype, "r", start, shape, order), self.path)

    @contextmanager
    def _member(self) -> Iterator[tuple[zipfile.ZipInfo, Any]]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
                if self._array not in names:
                    raise AssetError(f"{self.path} has no array {self._array!r}; it has {', '.join(names)}")
                member = archive.getinfo(f"{self._array}.npy")
                with archive.open(member) as stream:
                    yield member, stream
        except (ValueError, zipfile.BadZipFile) as error:
            raise AssetError(f"{self.path}: {error}") from error

    def _header(self, stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read(stream)
        _check_shape(shape, dtype, self.path)
        return shape, is_fortran, dtype

    def _start(self, member: zipfile.ZipInfo) -> int:
        """Where in the archive the content of a member begins that is not compressed."""
        with self.path.open("rb") as file:
            file.seek(member.header_offset)
            _, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        return int(member.header_offset + _LOCAL_HEADER.size + name + extra)


class ParquetColumn(StoredArray):
    """A column of lists, read by row groups."""

    def __init__(self, path: Path, column: str) -> None:
        super().__init__(path, path)
        self._column = column

    def count(self) -> int:
        return int(pq.read_metadata(self.path).num_rows)

    def open(self) -> Rows:
        return _GroupedRows(self.path, self._column)


class _GroupedRows(Rows):
    """Those of a column, of which the row groups that were read last are held."""

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column = path, column
        metadata = pq.read_metadata(path)
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._ends = np.cumsum([0, *counts])
        self._group = functools.lru_cache(_OPEN_GROUPS)(self._read)

    def rows(self, wanted: Int64s) -> Matrix:
        groups = np.searchsorted(self._ends, wanted, "right") - 1
        pieces = [
            self._group(int(group))[wanted[groups == group] - self._ends[group]]
            for group in np.unique(groups)
        ]
        widest = max(piece.shape[1] for piece in pieces)
        # A group in which no row has an embedding does not tell how long they are.
        return np.concatenate(
            [piece if piece.shape[1] else np.full((len(piece), widest), np.nan) for piece in pieces]
        )

    def _read(self, group: int) -> Matrix:
        with pq.ParquetFile(self._path) as file:
            column = file.read_row_group(group, columns=[self._column]).column(0).combine_chunks()
        found = column.drop_null()
        lengths = found.value_lengths().to_numpy() if len(found) else np.zeros(0, np.int64)
        dimensions = int(lengths[0]) if len(lengths) else 0
        if (lengths != dimensions).any():
            raise AssetError(f"{self._path}: the lists of {self._column} differ in length")
        values = found.flatten().to_numpy(zero_copy_only=False)
        matrix = np.full((len(column), dimensions), np.nan, values.dtype)
        matrix[column.is_valid().to_numpy(zero_copy_only=False)] = values.reshape(len(found), dimensions)
        return matrix


def arrays_of(path: Path, layout: Layout, array: str, key: str) -> list[StoredArray]:
    """The files of a layout in the order of their names. Raises AssetError where there is none."""
    try:
        if layout == "datacomp":
            found: list[StoredArray] = [
                ArchivedArray(table.with_suffix(".npz"), table, array)
                for table in sorted(path.glob("*.parquet"))
                if table.with_suffix(".npz").is_file()
            ]
            looked = "a .parquet with a .npz of its name beside it"
        elif layout == "clip-retrieval":
            found = _paired(path, array)
            looked = f"{array}_emb/*.npy with metadata/*.parquet"
        else:
            files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
            schemas = {file: pq.read_schema(file) for file in files}
            found = [
                ParquetColumn(file, array)
                for file, schema in schemas.items()
                if array in schema.names and key in schema.names and is_embedding(schema.field(array).type)
            ]
            looked = f"a .parquet with the columns {key} and {array}, lists of numbers"
        if not found:
            raise AssetError(f"{path}: looked for {looked}, and there is none")
        for stored in found:
            names = pq.read_schema(stored.keys_path).names
            if key not in names:
                raise AssetError(f"{stored.keys_path} has no column {key!r}; it has {', '.join(names)}")
    except (OSError, pa.ArrowInvalid) as error:
        raise AssetError(f"{path}: cannot be read ({error})") from error
    return found


def _paired(path: Path, array: str) -> list[StoredArray]:
    matrices, tables = sorted(path.glob(f"{array}_emb/*.npy")), sorted(path.glob("metadata/*.parquet"))
    if len(matrices) != len(tables):
        told = f"{len(matrices)} files of {array}_emb, and {len(tables)} of metadata"
        raise AssetError(f"{path}: there are {told}")
    return [NumpyFile(matrix, table) for matrix, table in zip(matrices, tables, strict=True)]


def _check_shape(shape: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> None:
    if len(shape) != 2 or not np.issubdtype(dtype, np.floating):
        raise AssetError(f"{path}: {dtype} of shape {shape} is no matrix of embeddings")
