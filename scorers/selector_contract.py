"""What a selector's declarations, outcomes and choices must be, and what to write where they are not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ..schemas.contracts import Again, Decision, Selector
from ..schemas.selection import MAX_COPIES

DECIDED: Final = pa.schema(
    [
        pa.field("keep", pa.bool_()),
        pa.field("copies", pa.int32()),  # how often a record is chosen; 0 of what is not
        pa.field("reason", pa.string()),  # why it is not; null of what is chosen
        pa.field("value", pa.string()),  # what decided, for a person
    ]
)


def check_declared(selector: Selector) -> str:
    """What is wrong with what a selector says of itself, and what to write instead; "" where nothing is."""
    try:
        inputs: Any = selector.inputs
    except Exception as error:
        return f"inputs raises {type(error).__name__}: {error}; they are known when __init__ ends"
    if not isinstance(inputs, tuple) or not all(isinstance(name, str) for name in inputs):
        return f'inputs is {inputs!r}; write a tuple of column names, such as `inputs = ("lang",)`'
    if not inputs:
        return 'inputs is empty; name the columns that it reads, if only `("id",)`'
    version: Any = getattr(selector, "version", None)
    if type(version) is not int:
        return f"version is {version!r}; write `version = 1` in the class, and count it up later"
    most: Any = selector.max_copies
    if type(most) is not int or not 1 <= most <= MAX_COPIES:
        return f"max_copies is {most!r}; write a whole number from 1 to {MAX_COPIES}"
    return ""


def check_outcome(outcome: Any, learned: Again | None) -> str:
    """The same of what `finish` returns."""
    if not isinstance(outcome, Decision | Again):
        return f"finish returns {type(outcome).__name__}; return a Decision, or Again for another pass"
    kind = type(outcome).__name__
    values: Any = outcome.values
    if not isinstance(values, Mapping):
        return f"finish returns {kind} with values of {type(values).__name__}; they are a mapping"
    if key := _key_of_no_text(values):
        return (
            f"finish returns {kind} with the key {key[0]!r}, and the keys of JSON are texts; "
            f"write {str(key[0])!r}, and look for that in what comes back"
        )
    try:
        text = json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:
        return (
            f"finish returns {kind} with values that JSON cannot hold ({error}); write plain numbers, texts, "
            "lists and mappings, as `.as_py()` and `.to_pylist()` give them"
        )
    if isinstance(outcome, Again) and learned is not None and json.loads(text) == learned.values:
        return "finish asks for one more pass and has learned nothing in this one; it would never end"
    return ""


def check_decided(found: Any, rows: int, max_copies: int) -> str:
    """The same of what `decide` returns for `rows` records."""
    if not isinstance(found, pa.RecordBatch):
        return f"decide returns {type(found).__name__}; return a pa.RecordBatch"
    missing = [name for name in DECIDED.names if name not in found.schema.names]
    if missing:
        return f"decide returns no column {' and no '.join(missing)}; return {', '.join(DECIDED.names)}"
    if len(found) != rows:
        return f"decide returns a batch of length {len(found)} for {rows} records; return a row for each"
    columns = {}
    for field in DECIDED:
        try:
            columns[field.name] = found.column(field.name).cast(field.type)
        except pa.ArrowInvalid as error:
            return f"decide returns {field.name} that is no {field.type}: {error}"
        except pa.ArrowNotImplementedError:
            kind = found.schema.field(field.name).type
            return f"decide returns {field.name} as {kind}; make it {field.type}"
    keep, copies = columns["keep"], columns["copies"]
    if keep.null_count or copies.null_count:
        name = "keep" if keep.null_count else "copies"
        return f"decide leaves {name} null for some records; say of each, as with pc.fill_null"
    unsaid = pc.and_(pc.invert(keep), pc.is_null(columns["reason"]))
    if pc.any(unsaid).as_py():
        return "decide gives no reason for some records that it does not keep; the ledger needs one"
    wrong = pc.if_else(
        keep, pc.or_(pc.less(copies, 1), pc.greater(copies, max_copies)), pc.not_equal(copies, 0)
    )
    if pc.any(wrong).as_py():
        row = pc.index(wrong, True).as_py()
        said = "kept" if keep[row].as_py() else "not kept"
        return (
            f"decide says {copies[row].as_py()} copies of a record that is {said}; what is kept has from 1 "
            f"to max_copies, which is {max_copies}, and what is not has 0"
        )
    return ""


def _key_of_no_text(values: Any) -> Sequence[Any]:
    """The first key that is no text, alone; empty where there is none."""
    inner: Sequence[Any] = ()
    if isinstance(values, Mapping):
        wrong = [key for key in values if not isinstance(key, str)]
        if wrong:
            return wrong[:1]
        inner = list(values.values())
    elif isinstance(values, list | tuple):
        inner = values
    return next((found for value in inner if (found := _key_of_no_text(value))), ())
