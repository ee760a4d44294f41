"""Arithmetic over columns as a score."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from ..filters.expressions import Expression, ExpressionError, parse
from ..schemas.contracts import Scorer

Kind = Literal["float", "int", "bool", "text"]

_TYPES: Final[dict[str, pa.DataType]] = {
    "float": pa.float64(),
    "int": pa.int64(),
    "bool": pa.bool_(),
    "text": pa.string(),
}
_GIVES: Final[dict[str, Literal["number", "condition", "text"]]] = {
    "float": "number",
    "int": "number",
    "bool": "condition",
    "text": "text",
}
_LARGEST: Final = 2.0**63  # the first float64 that no int64 is


class ExpressionScorer(Scorer):
    """What an expression of the language of rules gives: `{value: "prior - conditional"}`.

    Reads the columns that `value` names. Returns `value`: float64, or as `type` says `int` (int64, rounded to
    the nearest, halves to the even one), `bool` or `text`. Null where the expression is null, which a column
    that is null makes it, and where a number is not finite, or is too large for an integer; so is what is
    divided by zero.

    Raises ValueError for what is no expression, reads no column, or is known to give something else.
    """

    version: ClassVar[int] = 1

    def __init__(self, value: str, type: Kind = "float") -> None:
        if type not in _TYPES:
            raise ValueError(f"type: {type!r} is not one of {', '.join(get_args(Kind))}")
        self._expression: Expression = parse(value, gives=_GIVES[type])
        if not self._expression.columns:
            raise ValueError(f"`{value}` reads no column, so it is the same for all records")
        self.inputs = tuple(sorted(self._expression.columns))
        self._type = type

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        """One column."""
        return {"value": _TYPES[self._type]}

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Computes the expression."""
        found = self._expression.values({name: batch.column(name) for name in self.inputs})
        wanted = _TYPES[self._type]
        if pa.types.is_large_string(found.type):
            found = found.cast(pa.string())
        if found.type != (pa.float64() if self._type == "int" else wanted):
            raise ExpressionError(f"`{self._expression.text}` gives {found.type}, and type is {self._type}")
        if self._type in ("float", "int"):
            # A difference or product of large numbers can be infinite, which is no score.
            bound = _LARGEST if self._type == "int" else float("inf")
            found = pc.if_else(pc.less(pc.abs(found), bound), found, pa.scalar(None, pa.float64()))
            found = pc.round(found) if self._type == "int" else found
        return {"value": found.cast(wanted)}
