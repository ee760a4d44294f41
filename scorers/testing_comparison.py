"""Whether two scores of the same records are the same, as far as a scorer promises."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..filters.embeddings.matrix import is_embedding
from ..schemas.contracts import Scorer

Columns = dict[str, pa.Array]
Bools = npt.NDArray[np.bool_]


def numbers_of(column: pa.Array) -> pa.Array:
    """The values of a column, those in its lists where it has lists."""
    while pa.types.is_nested(column.type) and not isinstance(column, pa.StructArray | pa.UnionArray):
        column = column.flatten()
    return column


def joined(parts: list[Columns]) -> Columns:
    """The scores of the pieces of a batch as those of the whole."""
    return {name: pa.concat_arrays([part[name] for part in parts]) for name in parts[0]}


def compare(scorer: Scorer, wanted: Columns, found: Mapping[str, pa.Array], how: str, hint: str) -> None:
    """Raises AssertionError for the first value of `found` that is further than the tolerance from the one
    of `wanted`, with `how` it was scored and a `hint`."""
    for name, column in wanted.items():
        rows = np.flatnonzero(_differ(column, found[name], scorer.tolerance))
        if len(rows):
            row = int(rows[0])
            one, other = (reprlib.repr(values[row].as_py()) for values in (column, found[name]))
            raise AssertionError(f"{name} of row {row} is {one}, and {other} when scored {how}; {hint}")


def _differ(column: pa.Array, other: pa.Array, tolerance: float) -> Bools:
    """Which values are not the same, or as near as the tolerance allows."""
    if tolerance == 0 or not pa.types.is_floating(numbers_of(column).type):
        pairs = zip(column.to_pylist(), other.to_pylist(), strict=True)
        return np.array([one != two for one, two in pairs], bool)
    if not is_embedding(column.type):
        return _apart(column, other, tolerance)
    lengths = [pc.fill_null(pc.list_value_length(lists), -1).to_numpy() for lists in (column, other)]
    differ: Bools = lengths[0] != lengths[1]
    alike = np.flatnonzero(~differ)
    values = [lists.take(pa.array(alike)).flatten() for lists in (column, other)]
    owner = np.repeat(alike, np.maximum(lengths[0][alike], 0))
    differ[owner[_apart(values[0], values[1], tolerance)]] = True
    return differ


def _apart(column: pa.Array, other: pa.Array, tolerance: float) -> Bools:
    difference = pc.subtract(column.cast(pa.float64()), other.cast(pa.float64()))
    apart = pc.fill_null(pc.greater(pc.abs(difference), tolerance), False)
    lone = pc.xor(pc.is_null(column), pc.is_null(other))
    return np.asarray(pc.or_(apart, lone).to_numpy(zero_copy_only=False), bool)
