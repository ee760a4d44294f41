"""What functions vote for: the names of the classes, and the votes as numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

ABSTAIN: Final = -1  # what a null vote is in an array
MOST_CLASSES: Final = 127  # a vote is an int8

Votes = npt.NDArray[np.int8]  # records by functions; ABSTAIN where there is none

_NAME: Final = re.compile(r"[A-Za-z0-9_]+")


def checked_names(names: Sequence[str], what: str, least: int) -> tuple[str, ...]:
    """Names that can be parts of a column's name. Raises ValueError, which calls them `what`, otherwise."""
    found = tuple(map(str, names))
    for name in found:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{what} {name!r}: a name is letters, digits and _")
    if len(found) < least:
        raise ValueError(f"{what}: there are {len(found)}; at least {least} are needed")
    if len(set(found)) < len(found):
        raise ValueError(f"{what} {', '.join(found)}: a name is there twice")
    return found


def checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes. Raises ValueError where they are not 2 to 127 different names."""
    found = checked_names(classes, "classes", 2)
    if len(found) > MOST_CLASSES:
        raise ValueError(f"there are {len(found)} classes; {MOST_CLASSES} are the most")
    return found


def votes_of(batch: pa.RecordBatch, functions: Sequence[str], classes: int) -> Votes:
    """The votes in columns of a batch: integers, the number of a class, or truth values; null abstains.

    Raises ValueError, naming column and value, for what is no vote.
    """
    found = np.full((len(batch), len(functions)), ABSTAIN, np.int8)
    for number, name in enumerate(functions):
        found[:, number] = _numbers(batch.column(name), name, classes)
    return found


def _numbers(column: pa.Array, name: str, classes: int) -> Votes:
    if not (pa.types.is_integer(column.type) or pa.types.is_boolean(column.type) or _is_null(column)):
        raise ValueError(f"column {name} is {column.type}; a vote is an integer, the number of a class")
    numbers = pc.fill_null(column.cast(pa.int64()), ABSTAIN).to_numpy(zero_copy_only=False)
    there = column.is_valid().to_numpy(zero_copy_only=False)
    wrong = there & ((numbers < 0) | (numbers >= classes))
    if wrong.any():
        value = numbers[np.flatnonzero(wrong)[0]]
        raise ValueError(
            f"column {name} has a vote {value}; of {classes} classes a vote is 0 to {classes - 1}, "
            "or null to abstain"
        )
    found: Votes = numbers.astype(np.int8)
    return found


def _is_null(column: pa.Array) -> bool:
    return bool(pa.types.is_null(column.type))
