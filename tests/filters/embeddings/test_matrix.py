"""Embeddings as a column of lists and as a matrix: there and back, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.embeddings.matrix import EMBEDDING, column_of, is_embedding, matrix_of, normalised

halves = st.floats(-1000, 1000, width=16)
lists = st.integers(0, 4).flatmap(
    lambda size: st.lists(st.none() | st.lists(halves, min_size=size, max_size=size), min_size=1, max_size=8)
)


@given(values=lists, start=st.integers(0, 3))
def test_a_column_gives_its_rows_and_the_rows_give_the_column(values: list[Any], start: int) -> None:
    column = pa.array(values, EMBEDDING).slice(start)
    there = [value for value in values[start:] if value is not None]
    matrix, valid = matrix_of(column)
    assert valid.tolist() == [value is not None for value in values[start:]]
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    assert matrix.tolist() == there
    back = column_of(matrix, valid)
    assert back.type == EMBEDDING
    assert back.to_pylist() == values[start:]
    assert column_of(matrix).to_pylist() == there


@pytest.mark.parametrize(
    "kind",
    [
        EMBEDDING,
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float32(), 2),
        pa.list_(pa.float16(), 2),
    ],
    ids=str,
)
def test_lists_of_any_floating_point_numbers_are_embeddings(kind: pa.DataType) -> None:
    column = pa.array([[1.0, 2.0], None, [0.5, -4.0]], kind)
    assert is_embedding(kind)
    matrix, valid = matrix_of(column)
    assert matrix.tolist() == [[1, 2], [0.5, -4]]
    assert valid.tolist() == [True, False, True]
    assert matrix_of(column.slice(1))[0].tolist() == [[0.5, -4]]


def test_parquet_gives_a_column_back_that_is_an_embedding() -> None:
    file = io.BytesIO()
    written = pa.table({"vector": pa.array([None, [1.0, 2.5]], EMBEDDING)})
    pq.write_table(written, file, store_schema=True)
    read = pq.read_table(file)
    assert is_embedding(read.schema.field("vector").type)
    matrix, valid = matrix_of(read["vector"].combine_chunks())
    assert (matrix.tolist(), valid.tolist()) == ([[1, 2.5]], [False, True])


@pytest.mark.parametrize("kind", [pa.float32(), pa.string(), pa.list_(pa.int32()), pa.list_(pa.string())])
def test_other_columns_are_no_embeddings(kind: pa.DataType) -> None:
    assert not is_embedding(kind)


@pytest.mark.parametrize(
    ("values", "dimensions", "told"),
    [
        ([[1.0], [1.0, 2.0]], None, "an embedding has 2 numbers where others have 1"),
        ([[1.0]], 3, "an embedding has 1 numbers where others have 3"),
        ([[1.0, None]], None, "a number that is not finite"),
        ([[1.0, float("nan")]], None, "a number that is not finite"),
        ([[float("-inf")]], None, "a number that is not finite"),
    ],
)
def test_what_is_no_row_of_a_matrix_is_refused(values: list[Any], dimensions: int | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        matrix_of(pa.array(values, EMBEDDING), dimensions)


def test_rows_get_length_one_and_zeros_stay() -> None:
    found = normalised(np.array([[3, 4], [0, 0], [0, -0.5]], np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [0, -1]], rtol=1e-6)
    assert found.dtype == np.float32
