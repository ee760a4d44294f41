"""The group of each record: the value of a column as a name, null being a group of its own."""

from __future__ import annotations

import pyarrow as pa

from ...schemas.verbs import OnNull
from .order import Bools


class NullScoreError(ValueError):
    """A record has no score, and the step says `on_null: fail`."""


def group_names(batch: pa.RecordBatch, within: str | None) -> pa.Array:
    """string (n,): the values of the column `within`, which holds strings, integers or booleans.

    None: one group, null. Raises ValueError for a column of another type.
    """
    if within is None:
        return pa.nulls(len(batch), pa.string())
    column = batch.column(within)
    dtype = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean)
    if not any(test(dtype) for test in (*tests, pa.types.is_null)):
        raise ValueError(f"within: column {within} holds {dtype}; group by strings, integers or booleans")
    return column.cast(pa.string())


def check_scores(batch: pa.RecordBatch, ranked: Bools, by: str, step: str, on_null: OnNull) -> None:
    """Raises NullScoreError where a record has no score and `on_null` is fail. `ranked`: which have one."""
    if on_null == "fail" and not ranked.all():
        missing = batch.column("id")[int(ranked.argmin())].as_py()
        raise NullScoreError(f"step {step}: record {missing} has no {by}, and on_null is fail")
