"""Labelling functions: rules that each vote for a class, or abstain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from ...filters.expressions import Expression, parse
from ...schemas.contracts import Scorer
from .labels import checked_classes, checked_names

ABSTAINS: Final = "abstain"  # what stands in a job where a function gives no vote

_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "rule": frozenset({"name", "rule", "label", "otherwise"}),
    "vote": frozenset({"name", "vote"}),
}


class VotesScorer(Scorer):
    """The votes of labelling functions (data programming: Ratner et al. 2016, arXiv:1605.07723).

    `classes` names what there is to vote for, at least two. Each of `functions` has a name, and either a
    `rule`, a condition on columns, with `label`, the class that it votes for where the condition holds, and
    `otherwise`, a class or `abstain`, for where it does not; or a `vote`, an expression that gives the name
    of a class, or `abstain`, as text. Where an expression is null, the function abstains.

    Reads the columns that the expressions name. Returns a column for each function by its name: int8, the
    number of the class, counted from 0, or null where the function abstains. Raises ValueError for functions
    that cannot be, and where a `vote` gives a text that is no class.
    """

    version: ClassVar[int] = 1

    def __init__(self, classes: Sequence[str], functions: Sequence[Mapping[str, Any]]) -> None:
        self._classes = checked_classes(classes)
        if ABSTAINS in self._classes:
            raise ValueError(f"a class cannot be called {ABSTAINS}")
        checked_names([str(one.get("name", "")) for one in functions], "functions", 1)
        self._functions = [_read(function, self._classes) for function in functions]
        columns = {name for function in self._functions for name in function.expression.columns}
        self.inputs = tuple(sorted(columns))

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        """A column for each function."""
        return {function.name: pa.int8() for function in self._functions}

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Asks each function about each record."""
        columns = {name: batch.column(name) for name in self.inputs}
        return {function.name: function.votes(columns) for function in self._functions}


@dataclass(frozen=True)
class _Function:
    """A labelling function with its expression read."""

    name: str
    kind: Literal["rule", "vote"]
    expression: Expression
    classes: tuple[str, ...]
    label: int | None = None
    otherwise: int | None = None

    def votes(self, columns: Mapping[str, pa.Array]) -> pa.Array:
        """Its vote on each record."""
        if self.kind == "rule":
            held = self.expression.evaluate(columns)
            yes, no = pa.scalar(self.label, pa.int8()), pa.scalar(self.otherwise, pa.int8())
            return pc.if_else(held, yes, no)
        found = self.expression.values(columns)
        if pa.types.is_null(found.type):
            return pa.nulls(len(found), pa.int8())
        if not (pa.types.is_string(found.type) or pa.types.is_large_string(found.type)):
            raise ValueError(f"function {self.name}: gives {found.type}; a vote is the name of a class")
        numbers = pc.index_in(found, pa.array(self.classes, found.type), skip_nulls=True)
        unknown = pc.and_(numbers.is_null(), pc.fill_null(pc.not_equal(found, ABSTAINS), False))
        if pc.any(unknown).as_py():
            text = found.filter(unknown)[0].as_py()
            raise ValueError(f"function {self.name}: votes for {text!r}, none of {', '.join(self.classes)}")
        return numbers.cast(pa.int8())


def _read(function: Mapping[str, Any], classes: tuple[str, ...]) -> _Function:
    name = str(function["name"])
    kind: Literal["rule", "vote"] = "vote" if "vote" in function else "rule"
    unknown = sorted(set(function) - _KEYS[kind])
    if unknown:
        raise ValueError(f"function {name}: {unknown[0]} does not go with {', '.join(sorted(_KEYS[kind]))}")
    if kind not in function:
        raise ValueError(f"function {name}: write its rule, or a vote")
    try:
        expression = parse(str(function[kind]), gives="text" if kind == "vote" else "condition")
    except ValueError as error:
        raise ValueError(f"function {name}: {error}") from error
    if not expression.columns:
        raise ValueError(f"function {name}: `{expression.text}` reads no column")
    if kind == "vote":
        return _Function(name, kind, expression, classes)
    label = _class(function.get("label", ABSTAINS), name, classes)
    otherwise = _class(function.get("otherwise", ABSTAINS), name, classes)
    if label is None and otherwise is None:
        raise ValueError(f"function {name}: always abstains; give it a label of {', '.join(classes)}")
    return _Function(name, kind, expression, classes, label, otherwise)


def _class(label: Any, name: str, classes: tuple[str, ...]) -> int | None:
    if label == ABSTAINS:
        return None
    if label not in classes:
        raise ValueError(f"function {name}: {label!r} is none of {', '.join((*classes, ABSTAINS))}")
    return classes.index(label)
