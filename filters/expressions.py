"""The language of rules: conditions on the columns of a record, such as `word_count >= min_words`.

Comparisons (`< <= > >= == !=`, also in chains), `in ["a", "b"]` and `not in`, `is null` and `is not null`,
`and`, `or`, `not`, `+ - * / %`, `a if condition else b`, parentheses, numbers, strings, `true`, `false`,
names of columns and parameters, and the functions of FUNCTIONS. An expression is data: it is checked against
this list when it is parsed, and nothing in it can run code.

Nulls are three-valued, as in SQL: `null < 3` is null, `false and null` is false. Numbers are computed as
float64; division by zero is null. A float32 column is compared at its own precision's exact value.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..schemas.rules import Parameter
from . import arrow_operations as op
from .rule_language import FUNCTIONS, ExpressionError, Reader

__all__ = ["FUNCTIONS", "Expression", "ExpressionError", "evaluate_rules", "parse"]

Columns = Mapping[str, pa.Array]
OnNull = Literal["drop", "keep", "fail"]

MAX_LENGTH: Final = 10_000  # characters of an expression
SHOWN: Final = 200  # characters of a text that the ledger keeps as the value that decided
_WANTED: Final = {
    "condition": "a rule is a condition, such as word_count > 50",
    "number": "a number is wanted here, such as word_count / 2",
    "text": "a text is wanted here, such as lower(lang)",
}


@dataclass(frozen=True)
class Expression:
    """What has been parsed: text, columns that it reads, and tree with parameters filled in."""

    text: str
    columns: frozenset[str]
    tree: ast.expr

    def evaluate(self, columns: Columns) -> pa.BooleanArray:
        """For each row true, false or null.

        `columns` are arrays of one length; an expression that names none is as long as any of them. Raises
        ExpressionError if a column is missing or of a type that the expression cannot use.
        """
        return _evaluate(self.tree, columns)

    def values(self, columns: Columns) -> pa.Array:
        """What the expression is for each row: numbers as float64, text, or true and false; null as it comes.

        Raises ExpressionError as `evaluate` does.
        """
        with _fitting(self.tree, columns):
            value = _value(self.tree, columns)
            value = op.as_number(value) if op.is_number(value) else value
        return _for_each_row(value, columns)

    def deciding(self, columns: Columns) -> pa.StringArray:
        """For each row where the condition does not hold, the value that decided; null where it holds.

        That is the first operand that reads a column, in the first comparison with one that fails. Numbers
        have the digits that tell them apart at their precision, text is cut to SHOWN characters, null is
        "null".
        """
        values: list[str | None] = [None] * _rows(columns)
        broken = ~_is(self.evaluate(columns), True)
        _blame(self.tree, True, broken, columns, values)
        return pa.array(values, pa.string())


def parse(
    expression: str,
    parameters: Mapping[str, Parameter] | None = None,
    gives: Literal["condition", "number", "text"] = "condition",
) -> Expression:
    """Reads an expression; names in `parameters` stand for their values, all others are columns.

    `gives`: what it must give, as far as that can be told without the columns; a rule is a condition. Raises
    ExpressionError, which says where and names the nearest valid name.
    """
    if len(expression) > MAX_LENGTH:
        raise ExpressionError(
            f"an expression of {len(expression)} characters; at most {MAX_LENGTH} can be read"
        )
    flat = expression.replace("\n", " ").replace("\r", " ").replace("\t", " ")
    shift = len(flat) - len(flat.lstrip(" "))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a pattern is meant as it is written
            tree = ast.parse(flat.strip(" "), mode="eval").body
        checked = Reader(flat.strip(" "), shift, parameters or {})
        tree = checked.visit(tree)
        if checked.kind(tree) not in (gives, "unknown"):
            checked.refuse(tree, f"is a {checked.kind(tree)}; {_WANTED[gives]}")
    except SyntaxError as error:
        offset = shift + max((error.offset or 1) - 1, 0)
        raise ExpressionError(f"not an expression: {error.msg}", offset) from None
    except (ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, ExpressionError):
            raise
        raise ExpressionError(f"not an expression: {str(error) or 'nested too deeply'}", shift) from None
    return Expression(expression, frozenset(checked.columns), tree)


def evaluate_rules(
    rules: Sequence[tuple[str, Expression]], columns: Columns, on_null: OnNull
) -> tuple[pa.StringArray, pa.StringArray]:
    """For each row the reason of the first rule that it breaks, and the value that decided; null if none.

    `rules` are pairs of reason and condition, in the order in which they are asked. Where a condition is
    null, on_null says whether the row is dropped (its value is then "null"), kept, or an error.

    Raises ValueError, naming rule and row, under on_null "fail"; ExpressionError as Expression.evaluate does.
    """
    if on_null not in ("drop", "keep", "fail"):
        raise ValueError(f"on_null: {on_null!r} is not one of drop, keep, fail")
    rows = _rows(columns)
    reasons: list[str | None] = [None] * rows
    values: list[str | None] = [None] * rows
    open_rows = np.ones(rows, np.bool_)
    for reason, expression in rules:
        held = expression.evaluate(columns)
        unknown = open_rows & held.is_null().to_numpy(zero_copy_only=False)
        if on_null == "fail" and unknown.any():
            row = int(np.flatnonzero(unknown)[0])
            raise ValueError(f"rule {reason} ({expression.text}): row {row} has no value to decide by")
        if on_null == "drop":
            for row in np.flatnonzero(unknown).tolist():
                reasons[row], values[row] = reason, "null"
            open_rows &= ~unknown
        broken = np.flatnonzero(open_rows & _is(held, False))
        if broken.size:
            few = {name: _array(columns[name]).take(pa.array(broken)) for name in expression.columns}
            decided = expression.deciding(few).to_pylist() if few else [None] * broken.size
            for row, value in zip(broken.tolist(), decided, strict=True):
                reasons[row], values[row] = reason, value
            open_rows[broken] = False
    return pa.array(reasons, pa.string()), pa.array(values, pa.string())


def _rows(columns: Columns) -> int:
    return max(map(len, columns.values()), default=0)


def _array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _is(conditions: pa.BooleanArray, value: bool) -> npt.NDArray[np.bool_]:
    """Where a condition is that value, and not null."""
    mask: npt.NDArray[np.bool_] = pc.equal(conditions, value).fill_null(False).to_numpy(zero_copy_only=False)
    return mask


def _evaluate(tree: ast.expr, columns: Columns) -> pa.BooleanArray:
    """A condition for each row."""
    with _fitting(tree, columns):
        value = op.as_condition(_value(tree, columns))
    return _for_each_row(value, columns)


@contextmanager
def _fitting(tree: ast.expr, columns: Columns) -> Iterator[None]:
    """Raises ExpressionError where an expression cannot compute with the types of the columns."""
    try:
        yield
    except (TypeError, pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        types = ", ".join(f"{name}: {columns[name].type}" for name in sorted(_names(tree) & columns.keys()))
        raise ExpressionError(f"`{ast.unparse(tree)}` does not fit the columns ({types}): {error}") from None


def _for_each_row(value: op.Value, columns: Columns) -> pa.Array:
    return pa.array([value.as_py()] * _rows(columns), value.type) if isinstance(value, pa.Scalar) else value


def _value(node: ast.expr, columns: Columns) -> op.Value:
    """What an expression is for each row: an array, or a scalar where it reads no column."""
    match node:
        case ast.Constant(value=value):
            return pa.scalar(value)
        case ast.Name(id=name):
            if name not in columns:
                raise ExpressionError(f"there is no column {name}", node.col_offset)
            return _array(columns[name])
        case ast.BoolOp(op=operator, values=operands):
            combine = pc.and_kleene if isinstance(operator, ast.And) else pc.or_kleene
            value = op.as_condition(_value(operands[0], columns))
            for operand in operands[1:]:
                value = combine(value, op.as_condition(_value(operand, columns)))
            return value
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return pc.invert(op.as_condition(_value(operand, columns)))
        case ast.UnaryOp(op=sign, operand=operand):
            number = op.as_number(_value(operand, columns))
            return pc.negate(number) if isinstance(sign, ast.USub) else number
        case ast.BinOp(left=left, op=operator, right=right):
            return op.ARITHMETIC[type(operator).__name__](_value(left, columns), _value(right, columns))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return op.choose(_value(test, columns), _value(body, columns), _value(orelse, columns))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            function = FUNCTIONS[name]
            if function.literal:
                return function.apply(_value(arguments[0], columns), _constant(arguments[1]))
            return function.apply(*(_value(argument, columns) for argument in arguments))
        case ast.Compare():
            links = [_link(link, columns) for link in _links(node)]
            value = links[0]
            for link in links[1:]:
                value = pc.and_kleene(value, link)
            return value
    raise AssertionError(f"the reader let {type(node).__name__} pass")


def _constant(node: ast.expr) -> Any:
    assert isinstance(node, ast.Constant)
    return node.value


Link = tuple[ast.expr, ast.cmpop, ast.expr]


def _links(node: ast.Compare) -> Iterator[Link]:
    """The comparisons of a chain: `a < b < c` is a < b and b < c."""
    yield from zip([node.left, *node.comparators[:-1]], node.ops, node.comparators, strict=True)


def _link(link: Link, columns: Columns) -> op.Value:
    left, operator, right = link
    value = _value(left, columns)
    match operator:
        case ast.Is():
            return pc.is_null(value)
        case ast.IsNot():
            return pc.is_valid(value)
        case ast.In():
            return op.is_in(value, _constant(right))
        case ast.NotIn():
            return pc.invert(op.is_in(value, _constant(right)))
    return op.compare(type(operator).__name__, value, _value(right, columns))


def _names(node: ast.AST) -> set[str]:
    """The columns that an expression reads."""
    functions = {id(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and id(name) not in functions}


def _blame(
    node: ast.expr, expected: bool, rows: npt.NDArray[np.bool_], columns: Columns, values: list[str | None]
) -> None:
    """Writes, for each of `rows`, the value for which the condition `node` is not as expected."""
    if not rows.any() or not _names(node):
        return
    match node:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _blame(operand, not expected, rows, columns, values)
        case ast.BoolOp(values=operands):
            decided = _is(_evaluate(node, columns), not expected)
            for operand in [operand for operand in operands if _names(operand)]:
                guilty = rows & _decides(_evaluate(operand, columns), expected, decided)
                _blame(operand, expected, guilty, columns, values)
                rows = rows & ~guilty
        case ast.IfExp(test=test, body=body, orelse=orelse):
            holds = _is(_evaluate(test, columns), True)
            _blame(body, expected, rows & holds, columns, values)
            _blame(orelse, expected, rows & ~holds, columns, values)
        case ast.Compare():
            links = list(_links(node))
            decided = _is(_evaluate(node, columns), not expected)
            for link in links:
                held = _link(link, columns)
                if isinstance(held, pa.Scalar):
                    held = pa.array([held.as_py()] * len(rows), pa.bool_())
                guilty = rows & _decides(held, expected, decided)
                _show(link[0] if _names(link[0]) else link[2], guilty, columns, values)
                rows = rows & ~guilty
        case ast.Call(args=arguments):
            _show(arguments[0], rows, columns, values)
        case _:
            _show(node, rows, columns, values)


def _decides(value: pa.Array, expected: bool, decided: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where an operand makes the whole what it is: by a value where that is `decided`, else by a null."""
    against: npt.NDArray[np.bool_] = _is(value, not expected)
    return np.where(decided, against, ~against & ~_is(value, expected))


def _show(node: ast.expr, rows: npt.NDArray[np.bool_], columns: Columns, values: list[str | None]) -> None:
    value = _value(node, columns)
    for row in np.flatnonzero(rows).tolist():
        values[row] = _written(value if isinstance(value, pa.Scalar) else value[row])


def _written(value: pa.Scalar) -> str:
    """A value as the ledger shows it: as few digits as tell a number of its precision from all others."""
    if not value.is_valid:
        return "null"
    plain = value.as_py()
    if isinstance(plain, bool):
        return str(plain).lower()
    if pa.types.is_float32(value.type):
        return str(np.float32(plain))
    return plain[:SHOWN] if isinstance(plain, str) else str(plain)
