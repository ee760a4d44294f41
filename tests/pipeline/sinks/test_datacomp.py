"""The file of a DataComp subset, as NumPy and DataComp's own tools read it."""

from __future__ import annotations

import io
import string
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from thresher.pipeline.sinks.datacomp import UIDS, SubsetFile, subset_header, uid_halves

ALMOST_HEX = st.text(string.hexdigits + "g-é ", min_size=31, max_size=33)


@given(st.lists(st.text(string.hexdigits, min_size=32, max_size=32) | ALMOST_HEX, max_size=8))
def test_the_halves_of_a_uid_are_those_of_the_number_that_python_reads(ids: list[str]) -> None:
    upper, lower, wrong = uid_halves(pa.array(ids, pa.string()))
    for row, id_ in enumerate(ids):
        is_uid = len(id_) == 32 and set(id_) <= set(string.hexdigits)
        assert bool(wrong[row]) == (not is_uid)
        # divmod by 2**64 is how DataComp's resharder takes them apart.
        assert (int(upper[row]), int(lower[row])) == (divmod(int(id_, 16), 2**64) if is_uid else (0, 0))


def test_ids_that_are_a_slice_are_told_apart_too() -> None:
    ids = pa.array(["x", "0" * 31 + "a", "y", "f" * 32]).slice(1)
    upper, lower, wrong = uid_halves(ids)
    assert lower.tolist() == [10, 0, 2**64 - 1]
    assert upper.tolist() == [0, 0, 2**64 - 1]
    assert wrong.tolist() == [False, True, False]


@pytest.mark.parametrize("uids", [0, 1, 10, 12_800_000_000])
def test_the_header_is_the_one_that_numpy_writes(uids: int) -> None:
    expected = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        expected, {"descr": [("f0", "<u8"), ("f1", "<u8")], "fortran_order": False, "shape": (uids,)}
    )
    assert subset_header(uids) == expected.getvalue()
    if uids == 10:
        saved = io.BytesIO()
        np.save(saved, np.zeros(10, "u8,u8"))
        assert saved.getvalue() == subset_header(10) + bytes(160)


def test_single_uids_are_found_in_the_file(tmp_path: Path) -> None:
    numbers = sorted(int(value) << 60 for value in np.random.default_rng(3).integers(0, 2**60, 50))
    array = np.array([divmod(number, 2**64) for number in numbers], UIDS)
    np.save(tmp_path / "subset.npy", array)
    with (tmp_path / "subset.npy").open("rb") as file:
        subset = SubsetFile(file)
        assert [subset[row] for row in range(len(subset))] == [f"{number:032x}" for number in numbers]
        for row in (0, 17, 49):
            assert list(subset.find(f"{numbers[row]:032X}")) == [row]
        assert not subset.find(f"{numbers[17] + 1:032x}")
        assert not subset.find("f" * 32)
        assert not subset.find("0" * 32)


def test_a_file_of_other_numbers_is_no_subset(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    with (tmp_path / "a.npy").open("rb") as file, pytest.raises(ValueError, match="holds float64"):
        SubsetFile(file)
    with pytest.raises(ValueError, match="magic string"):
        SubsetFile(io.BytesIO(b"no array at all, this"))
