"""Embeddings as NumPy files that go with a shard, row for row, in DataComp's or clip-retrieval's layout."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..scratch import scratch
from ..stage import StreamRef
from .metadata_table import Layout, MetadataTable
from .shard_file import ShardFile

Halves = npt.NDArray[np.float16]

# Streams of a shard are the layout's name and what its files are told apart by.
_TABLE: Final = "parquet"
_ARCHIVE: Final = "npz"
_STREAM: Final = re.compile(r"(datacomp|clip-retrieval)\.(?:([A-Za-z0-9_]+)\.)?(parquet|npz|npy)")
# The files of all shards, in an output. Names sort as shards do: who reads a folder of arrays and one of
# metadata takes them pairwise in the order of their names (github.com/rom1504/embedding-reader).
EMBEDDING_FILE: Final = re.compile(
    r"metadata/(shard-\d{5,}\.(parquet|npz)|metadata_\d{5,}\.parquet)"
    r"|[A-Za-z0-9_]{1,40}_emb/[A-Za-z0-9_]{1,40}_emb_\d{5,}\.npy"
)
EMBEDDING_FOLDERS: Final = ("metadata", "*_emb")

_IN_MEMORY: Final = 8 << 20
_BLOCK: Final = 1 << 20
_NO_TIME: Final = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip archive can say
_UNIX: Final = 3


def path_of(stream: str, number: int) -> str | None:
    """The path in an output of what the stream of a shard holds; None where it holds no embeddings."""
    told = _STREAM.fullmatch(stream)
    if told is None:
        return None
    layout, name, kind = told.groups()
    if layout == "datacomp":
        return f"metadata/shard-{number:05d}.{kind}"
    if kind == _TABLE:
        return f"metadata/metadata_{number:05d}.parquet"
    return f"{name}_emb/{name}_emb_{number:05d}.npy"


@dataclass(frozen=True)
class EmbeddingInfo:
    """What was written: the files by stream, and for each array its dimensions and the rows without one."""

    files: Mapping[str, StreamRef]
    dimensions: Mapping[str, int]  # 0 where no row has an embedding
    missing: Mapping[str, int]


class EmbeddingFiles:
    """Writes one float16 array (rows, dimensions) for each name, and the table of whose rows they are.

    `arrays`: the column of each. `new_file` gives the path of a file by its stream. A record without an
    embedding, or with one that float16 cannot hold, is a row of NaN: readers that add up or compare notice,
    as they would not with zeros. Raises ValueError where the embeddings of a column differ in length.
    """

    def __init__(
        self,
        layout: Layout,
        arrays: Mapping[str, str],
        schema: pa.Schema,
        new_file: Callable[[str], Path],
        keyed: bool,
    ) -> None:
        self._layout, self._new_file = layout, new_file
        table = new_file(f"{layout}.{_TABLE}")
        self._table = MetadataTable(layout, schema, table, keyed, frozenset(arrays.values()))
        self._arrays = {name: _Rows(column) for name, column in arrays.items()}

    def add(self, batch: pa.RecordBatch, embeddings: pa.RecordBatch) -> None:
        """Appends a row for each record of `batch`; `embeddings` has the columns of the arrays."""
        self._table.add(batch)
        for rows in self._arrays.values():
            rows.add(embeddings.column(rows.column))

    def close(self) -> EmbeddingInfo:
        """Writes the files and forces them to disk."""
        files = {f"{self._layout}.{_TABLE}": self._table.close()}
        blocks = {name: rows.finished() for name, rows in self._arrays.items()}
        if self._layout == "datacomp":
            stream = f"{self._layout}.{_ARCHIVE}"
            files[stream] = write_npz(self._new_file(stream), blocks)
        else:
            for name, array in blocks.items():
                stream = f"{self._layout}.{name}.npy"
                files[stream] = write_npy(self._new_file(stream), array)
        return EmbeddingInfo(
            files,
            {name: rows.dimensions for name, rows in self._arrays.items()},
            {name: rows.missing for name, rows in self._arrays.items()},
        )


@dataclass(frozen=True)
class Blocks:
    """The rows of a float16 array, read piece by piece."""

    rows: int
    dimensions: int
    pieces: Iterable[bytes]

    @property
    def header(self) -> bytes:
        """What comes before them in a file of NumPy's format, version 1.0."""
        header = io.BytesIO()
        described = {"descr": "<f2", "fortran_order": False, "shape": (self.rows, self.dimensions)}
        np.lib.format.write_array_header_1_0(header, described)
        return header.getvalue()


@dataclass
class _Rows:
    """The rows of one array, in the scratch folder until their number, which their file begins with, is
    known."""

    column: str
    rows: int = 0
    dimensions: int = 0
    missing: int = 0
    _file: tempfile.SpooledTemporaryFile[bytes] = field(
        default_factory=lambda: tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(scratch()))  # noqa: SIM115
    )

    def add(self, column: pa.Array) -> None:
        lengths = pc.list_value_length(column.drop_null()).to_numpy(zero_copy_only=False)
        if len(lengths) and not self.dimensions:
            self.dimensions = int(lengths[0])
            self._put_missing(self.rows)
        if (lengths != self.dimensions).any():
            wrong = int(lengths[lengths != self.dimensions][0])
            raise ValueError(
                f"{self.column}: an embedding has {wrong} numbers where others have {self.dimensions}"
            )
        matrix = np.full((len(column), self.dimensions), np.nan, "<f2")
        is_there = column.is_valid().to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            matrix[is_there] = _values(column).reshape(len(lengths), self.dimensions)
        is_there &= np.isfinite(matrix).all(axis=1)
        matrix[~is_there] = np.nan
        self.rows += len(column)
        self.missing += int((~is_there).sum())
        self._file.write(matrix.tobytes())

    def _put_missing(self, rows: int) -> None:
        """Rows that came before anything told how long they are."""
        for piece in _nans(rows, self.dimensions):
            self._file.write(piece)

    def finished(self) -> Blocks:
        """All rows, once."""
        self._file.seek(0)
        return Blocks(self.rows, self.dimensions, self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        with self._file:
            yield from iter(lambda: self._file.read(_BLOCK), b"")


def _values(column: pa.Array) -> npt.NDArray[np.floating]:
    values: npt.NDArray[np.floating] = column.drop_null().flatten().to_numpy(zero_copy_only=False)
    return values


def _nans(rows: int, dimensions: int) -> Iterator[bytes]:
    block = max(1, _BLOCK // max(1, 2 * dimensions))
    for start in range(0, rows, block):
        yield np.full((min(block, rows - start), dimensions), np.nan, "<f2").tobytes()


def write_npy(path: Path, array: Blocks) -> StreamRef:
    """Writes an array into a file of its own."""
    file = ShardFile(path)
    file.write(array.header)
    for piece in array.pieces:
        file.write(piece)
    return StreamRef(str(path), array.rows, *file.commit())


def write_npz(path: Path, arrays: Mapping[str, Blocks]) -> StreamRef:
    """Writes arrays into one archive, not compressed, so that a reader can map them into memory."""
    with path.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                member = zipfile.ZipInfo(f"{name}.npy", _NO_TIME)
                member.create_system = _UNIX
                with archive.open(member, "w", force_zip64=True) as stream:
                    stream.write(array.header)
                    for piece in array.pieces:
                        stream.write(piece)
        file.flush()
        os.fsync(file.fileno())
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    rows = max(array.rows for array in arrays.values())
    return StreamRef(str(path), rows, path.stat().st_size, digest)


def with_dimensions(stream: str, path: Path, dimensions: Mapping[str, int]) -> StreamRef:
    """The file of a stream once more, in the scratch folder: the arrays that have no dimensions, as no row
    of the shard has an embedding, get those of the other shards. Holds the arrays of an archive.
    """
    target = scratch() / f"{uuid.uuid4().hex}-{stream}"
    if stream.endswith(f".{_ARCHIVE}"):
        with np.load(path) as archive:
            return write_npz(target, {name: _widened(archive[name], dimensions[name]) for name in archive})
    (name,) = (told for told in stream.split(".") if told in dimensions)
    return write_npy(target, _widened(np.load(path, mmap_mode="r"), dimensions[name]))


def _widened(array: Halves, dimensions: int) -> Blocks:
    rows, width = array.shape
    if not width:
        return Blocks(rows, dimensions, _nans(rows, dimensions))
    step = max(1, _BLOCK // (2 * width))
    return Blocks(rows, width, (array[row : row + step].tobytes() for row in range(0, rows, step)))
