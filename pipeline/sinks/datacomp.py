"""A subset as DataComp's tools read it: a NumPy file of the 128-bit uids of the records that were chosen."""

from __future__ import annotations

import io
from bisect import bisect_left
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Uint64s = npt.NDArray[np.uint64]

SUBSET: Final = "subset.npy"
# Two little-endian halves, the upper one first, sorted by both: github.com/mlfoundations/datacomp compares
# the dtype, and finds uids by binary search (resharder.py: load_subset, copy_worker).
UIDS: Final = np.dtype("u8,u8")

_DIGITS: Final = 32
_NO_DIGIT: Final = 255
_VALUES: Final = np.full(256, _NO_DIGIT, np.uint8)
for _digits in ("0123456789abcdef", "0123456789ABCDEF"):
    _VALUES[np.frombuffer(_digits.encode(), np.uint8)] = np.arange(16, dtype=np.uint8)


def uid_halves(ids: pa.Array) -> tuple[Uint64s, Uint64s, npt.NDArray[np.bool_]]:
    """The upper and the lower half of each id, and which ids are no uids: not 32 hexadecimal digits.

    The halves of those are 0.
    """
    lengths = pc.binary_length(ids).to_numpy(zero_copy_only=False)
    digits = np.zeros((len(ids), _DIGITS), np.uint8)
    long_enough = lengths == _DIGITS
    whole = ids.filter(pa.array(long_enough))
    if len(whole):
        content = "".join(whole.to_pylist()).encode("utf-8")
        digits[long_enough] = _VALUES[np.frombuffer(content, np.uint8).reshape(-1, _DIGITS)]
    wrong = ~long_enough | (digits == _NO_DIGIT).any(1)
    digits[wrong] = 0
    halves = (digits[:, 0::2] << 4 | digits[:, 1::2]).view(">u8").astype(np.uint64)
    return halves[:, 0], halves[:, 1], wrong


def subset_header(uids: int) -> bytes:
    """What comes before so many uids in a file of NumPy's format, version 1.0."""
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(UIDS), "fortran_order": False, "shape": (uids,)}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


class SubsetFile:
    """The uids of a subset in hexadecimal, read one by one, as those in question are few.

    Raises ValueError where the file is no subset.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("it is no NumPy file of version 1.0")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != UIDS or len(shape) != 1:
            raise ValueError(f"it holds {dtype}, and no uids")
        self._uids = int(shape[0])
        self._start = file.tell()

    def __len__(self) -> int:
        return self._uids

    def __getitem__(self, row: int) -> str:
        self._file.seek(self._start + row * UIDS.itemsize)
        upper, lower = np.frombuffer(self._file.read(UIDS.itemsize), np.uint64).tolist()
        return f"{upper:016x}{lower:016x}"

    def find(self, uid: str) -> range:
        """The rows of a uid: one, or none."""
        wanted = uid.lower()
        row = bisect_left(self, wanted)
        return range(row, row + (row < len(self) and self[row] == wanted))
