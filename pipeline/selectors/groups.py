"""The group of each record, or its groups: values of a column as names, null being a group of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.verbs import OnNull
from .order import Bools

SEPARATOR: Final = "/"  # between the values of several columns
_ESCAPES: Final = (("\\", "\\\\"), ("/", "\\/"))


class NullScoreError(ValueError):
    """A record has no score, and the step says `on_null: fail`."""


def group_names(batch: pa.RecordBatch, within: str | Sequence[str] | None) -> pa.Array:
    """string (n,): the values of the column `within`, which holds strings, integers or booleans.

    None: one group, null. Of several columns the values joined as `joined_name` does, null where one is null.
    Raises ValueError for a column of another type.
    """
    if within is None:
        return pa.nulls(len(batch), pa.string())
    if isinstance(within, str):
        return _names(batch.column(within), within)
    escaped = [_names(batch.column(name), name) for name in within]
    for plain, other in _ESCAPES:
        escaped = [pc.replace_substring(names, plain, other) for names in escaped]
    return pc.binary_join_element_wise(*escaped, SEPARATOR)


def joined_name(values: Sequence[str]) -> str:
    """The name of the group of records with these values in several columns."""
    for plain, other in _ESCAPES:
        values = [value.replace(plain, other) for value in values]
    return SEPARATOR.join(values)


def _names(column: pa.Array, within: str) -> pa.Array:
    dtype = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean)
    if not any(test(dtype) for test in (*tests, pa.types.is_null)):
        raise ValueError(f"within: column {within} holds {dtype}; group by strings, integers or booleans")
    return column.cast(pa.string())


@dataclass(frozen=True)
class Memberships:
    """The records of a batch in each of their groups, one row for each record and group, in their order."""

    record: npt.NDArray[np.int64]  # row of the batch
    place: npt.NDArray[np.int32]  # in the record's list
    names: pa.Array  # string, of the group
    scores: pa.Array
    uneven: Bools  # for each row of the batch, whether its lists differ in length: it is in no group then


def memberships(batch: pa.RecordBatch, within: str, by: str) -> Memberships:
    """The groups in the lists of column `within`, with the scores in those of column `by`, or its values.

    A record is in no group where either is null. Raises ValueError as `group_names` does.
    """
    lists, scores = batch.column(within), batch.column(by)
    counts = _lengths(lists)
    there = counts >= 0
    uneven = np.zeros(len(batch), np.bool_)
    if is_list(scores.type):
        score_counts = _lengths(scores)
        uneven = there & (score_counts >= 0) & (counts != score_counts)
        there &= counts == score_counts
    rows = np.flatnonzero(there)
    chosen, counts = pa.array(rows), counts[rows]
    record = np.repeat(rows, counts)
    first = np.cumsum(counts) - counts
    place = (np.arange(len(record)) - np.repeat(first, counts)).astype(np.int32)
    flat = pc.list_flatten(scores.take(chosen)) if is_list(scores.type) else scores.take(pa.array(record))
    return Memberships(record, place, _names(pc.list_flatten(lists.take(chosen)), within), flat, uneven)


def is_list(dtype: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype)
    )


def _lengths(lists: pa.Array) -> npt.NDArray[np.int64]:
    """int64 (n,): the lengths of lists, -1 where there is none. Raises ValueError for what is no list."""
    if not is_list(lists.type):
        raise ValueError(f"within: a column of {lists.type} where others hold lists")
    return np.asarray(pc.fill_null(pc.list_value_length(lists), -1).to_numpy(zero_copy_only=False), np.int64)


def check_scores(batch: pa.RecordBatch, ranked: Bools, by: str, step: str, on_null: OnNull) -> None:
    """Raises NullScoreError where a record has no score and `on_null` is fail. `ranked`: which have one."""
    if on_null == "fail" and not ranked.all():
        missing = batch.column("id")[int(ranked.argmin())].as_py()
        raise NullScoreError(f"step {step}: record {missing} has no {by}, and on_null is fail")
