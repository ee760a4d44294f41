"""Reference sets of embeddings: what is read of each kind of file, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from thresher.filters.embeddings.reference import read_reference
from thresher.schemas.contracts import AssetError

ROWS = np.array([[3, 4], [0, -2], [0, 0], [1, 0]], np.float32)
UNIT = [[0.6, 0.8], [0, -1], [0, 0], [1, 0]]


def test_rows_of_numpy_files_get_length_one_and_their_numbers_as_ids(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", ROWS.astype(np.float16))
    np.savez(tmp_path / "set.npz", b32_img=ROWS, l14_img=np.ones((4, 3)))
    for found in (read_reference(tmp_path / "set.npy"), read_reference(tmp_path / "set.npz", "b32_img")):
        assert found.matrix.dtype == np.float32
        assert np.allclose(found.matrix, UNIT)
        assert found.ids.to_pylist() == ["0", "1", "2", "3"]


def test_of_a_parquet_column_rows_without_an_embedding_are_left_out_and_others_keep_their_ids(
    tmp_path: Path,
) -> None:
    embeddings = [[3.0, 4.0], None, [0.0, -2.0]]
    for kind in (pa.list_(pa.float16()), pa.list_(pa.float32()), pa.large_list(pa.float64())):
        column = pa.array(
            [row and [np.float16(x) for x in row] for row in embeddings], pa.list_(pa.float16())
        )
        table = pa.table({"id": ["a", "b", "c"], "split": ["x", "y", "z"], "clip": column.cast(kind)})
        pq.write_table(table, tmp_path / "set.parquet")
        found = read_reference(tmp_path / "set.parquet", columns=["split"])
        assert np.allclose(found.matrix, UNIT[:2])
        assert found.ids.to_pylist() == ["a", "c"]
        assert found.columns["split"].to_pylist() == ["x", "z"]
        pq.write_table(table.drop_columns(["id"]), tmp_path / "set.parquet")
        assert read_reference(tmp_path / "set.parquet", "clip").ids.to_pylist() == ["0", "2"]


def test_a_parquet_file_of_several_row_groups_is_read_whole(tmp_path: Path) -> None:
    column = pa.array([[float(row), 1.0] if row % 3 else None for row in range(10)])
    pq.write_table(pa.table({"clip": column}), tmp_path / "set.parquet", row_group_size=1)
    found = read_reference(tmp_path / "set.parquet")
    assert found.ids.to_pylist() == ["1", "2", "4", "5", "7", "8"]
    assert np.allclose(found.matrix[:, 0] / found.matrix[:, 1], [1, 2, 4, 5, 7, 8])


def test_an_error_names_the_file_and_what_is_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", one=ROWS, two=ROWS)
    with pytest.raises(AssetError, match=r"set\.npz: which array\? it has one, two"):
        read_reference(tmp_path / "set.npz")
    with pytest.raises(AssetError, match="has no array 'three'; it has one, two"):
        read_reference(tmp_path / "set.npz", "three")
    pq.write_table(pa.table({"id": ["a"], "clip": [[1.0]]}), tmp_path / "set.parquet")
    with pytest.raises(AssetError, match="no column of embeddings 'id'; it has clip"):
        read_reference(tmp_path / "set.parquet", "id")
    with pytest.raises(AssetError, match="has no column split; it has id, clip"):
        read_reference(tmp_path / "set.parquet", columns=["split"])


def test_what_is_no_matrix_of_finite_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npy"
    np.save(path, np.arange(4.0))
    with pytest.raises(AssetError, match=r"shape \(4,\)"):
        read_reference(path)
    np.save(path, np.array([[1.0, 2.0], [1.0, np.nan]]))
    with pytest.raises(AssetError, match="row 1 has a number that is not finite"):
        read_reference(path)
    np.save(path, np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    with pytest.raises(AssetError, match=r"set\.npy: cannot be read"):
        read_reference(path)
    path.write_bytes(b"not numpy")
    with pytest.raises(AssetError, match=r"set\.npy: cannot be read"):
        read_reference(path)
    ragged = pa.table({"clip": [[1.0, 2.0], [1.0]]})
    pq.write_table(ragged, tmp_path / "set.parquet")
    with pytest.raises(AssetError, match="1 numbers where others have 2"):
        read_reference(tmp_path / "set.parquet")
    with pytest.raises(AssetError, match=r"not from \.csv"):
        read_reference(tmp_path / "set.csv")
