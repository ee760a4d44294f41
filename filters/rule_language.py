"""What may stand in a rule: the functions of the language, and the reader that refuses everything else."""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from ..schemas.rules import Parameter
from . import arrow_operations as op

MAX_DEPTH: Final = 100  # parentheses, signs and operators within each other


class ExpressionError(ValueError):
    """An expression that cannot be read, or does not fit the columns; `column_offset` counts characters."""

    def __init__(self, message: str, column_offset: int = 0) -> None:
        super().__init__(message)
        self.column_offset = column_offset


@dataclass(frozen=True)
class Function:
    """A function of the language: how many arguments it takes, what it gives, and whether the last one is a
    text that must be written out (a pattern), not computed."""

    least: int
    most: int
    gives: Literal["number", "text", "condition"]
    literal: bool
    apply: Callable[..., op.Value]


FUNCTIONS: Final[Mapping[str, Function]] = {
    "abs": Function(1, 1, "number", False, lambda a: pc.abs(op.as_number(a))),
    "min": Function(2, 16, "number", False, op.smallest),
    "max": Function(2, 16, "number", False, op.largest),
    "log": Function(1, 1, "number", False, op.logarithm),
    "length": Function(1, 1, "number", False, op.length),
    "lower": Function(1, 1, "text", False, lambda a: pc.utf8_lower(op.as_text(a))),
    "matches": Function(2, 2, "condition", True, op.matches),
    "starts_with": Function(2, 2, "condition", True, lambda a, b: pc.starts_with(op.as_text(a), pattern=b)),
    "ends_with": Function(2, 2, "condition", True, lambda a, b: pc.ends_with(op.as_text(a), pattern=b)),
    "contains": Function(2, 2, "condition", True, lambda a, b: pc.match_substring(op.as_text(a), pattern=b)),
}
_CONSTANTS: Final[Mapping[str, Any]] = {"true": True, "false": False, "null": None}
Kind = Literal["number", "text", "condition", "list", "unknown"]


def _constant(value: Any, place: ast.AST) -> ast.Constant:
    """A constant where `place` was; lists of choices are tuples, which Python's own trees do not hold."""
    return ast.copy_location(ast.Constant(value), place)


def _held(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


class Reader(ast.NodeTransformer):
    """Refuses all that the language does not have, and puts constants in the place of parameters."""

    def __init__(self, text: str, shift: int, parameters: Mapping[str, Parameter]) -> None:
        self.text, self.shift, self.parameters = text, shift, parameters
        self.columns: set[str] = set()
        self.depth = 0

    def visit(self, node: ast.AST) -> Any:
        """The node with parameters filled in. Raises ExpressionError for what is not in the language."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.refuse(node, "is nested too deeply")
        read = super().visit(node)
        self.depth -= 1
        return read

    def refuse(self, node: ast.AST, message: str) -> NoReturn:
        """Raises ExpressionError with the text of `node` before the message."""
        source = (ast.get_source_segment(self.text, node) or self.text)[:60]
        before = self.text.encode()[: getattr(node, "col_offset", 0)].decode(errors="ignore")
        raise ExpressionError(f"`{source}` {message}", self.shift + len(before))

    def generic_visit(self, node: ast.AST) -> NoReturn:
        """Raises ExpressionError: what has no method of its own here is not in the language."""
        self.refuse(node, "is not part of the language of rules")

    def kind(self, node: ast.expr) -> Kind:
        """What an expression that has been read gives, as far as that is known without the columns."""
        match node:
            case ast.Constant(value=bool()) | ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                return "condition"
            case ast.Constant(value=str()):
                return "text"
            case ast.Constant() if isinstance(_held(node), tuple):
                return "list"
            case ast.Constant(value=int() | float()) | ast.BinOp() | ast.UnaryOp():
                return "number"
            case ast.Call(func=ast.Name(id=name)):
                return FUNCTIONS[name].gives
            case ast.IfExp(body=body, orelse=other) if self.kind(body) == self.kind(other):
                return self.kind(body)
        return "unknown"

    def expect(self, node: ast.expr, kind: Kind, where: str) -> None:
        """Raises ExpressionError if `node` is known to be of another kind."""
        found = self.kind(node)
        if found not in (kind, "unknown"):
            self.refuse(node, f"is a {found}; {where} takes a {kind}")

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        value = node.value
        if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                self.refuse(node, "is too large; integers have 64 bits")
            if isinstance(value, float) and not math.isfinite(value):
                self.refuse(node, "is too large for a number")
            return node
        hint = {"True": "write true", "False": "write false", "None": "write `is null` or `is not null`"}
        return self.refuse(node, hint.get(str(value), "is not a number or a string"))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self.parameters:
            return _constant(self.parameters[node.id], node)
        if node.id == "null":
            self.refuse(node, "has no value; write `is null` or `is not null`")
        if node.id in _CONSTANTS:
            return _constant(_CONSTANTS[node.id], node)
        self.columns.add(node.id)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        node.values = [self.visit(value) for value in node.values]
        for value in node.values:
            self.expect(value, "condition", "`and`, `or`")
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        if isinstance(node.op, ast.Invert):
            self.refuse(node, "is not part of the language of rules; write `not`")
        node.operand = self.visit(node.operand)
        wanted: Kind = "condition" if isinstance(node.op, ast.Not) else "number"
        self.expect(node.operand, wanted, "`not`" if wanted == "condition" else "a sign")
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        if type(node.op).__name__ not in op.ARITHMETIC:
            self.refuse(node, "is not part of the language of rules; arithmetic is + - * / %")
        node.left, node.right = self.visit(node.left), self.visit(node.right)
        for side in (node.left, node.right):
            self.expect(side, "number", "arithmetic")
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        node.test = self.visit(node.test)
        self.expect(node.test, "condition", "`if`")
        if isinstance(node.test, ast.Constant):  # of a parameter: only one side is ever read
            return self.visit(node.body if node.test.value else node.orelse)  # type: ignore[no-any-return]
        node.body, node.orelse = self.visit(node.body), self.visit(node.orelse)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        node.left = self.visit(node.left)
        for i, (operator, right) in enumerate(zip(node.ops, node.comparators, strict=True)):
            if isinstance(operator, ast.In | ast.NotIn):
                node.comparators[i] = self._choices(right)
            elif isinstance(operator, ast.Is | ast.IsNot):
                if not (isinstance(right, ast.Name) and right.id == "null"):
                    self.refuse(node, "compares with `is`; that is for `is null` and `is not null`")
                node.comparators[i] = _constant(None, right)
            else:
                node.comparators[i] = self.visit(right)
        for side in (node.left, *node.comparators[:-1]):
            if self.kind(side) == "list":
                self.refuse(side, "is a list; it can only stand after `in`")
        return node

    def _choices(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Name) and isinstance(self.parameters.get(node.id), tuple):
            return self.visit_Name(node)
        if not isinstance(node, ast.List | ast.Tuple):
            self.refuse(node, 'is not a list; write `in ["a", "b"]`')
        items = [self.visit(item) for item in node.elts]
        for item in items:
            if not isinstance(item, ast.Constant) or isinstance(_held(item), bool | tuple):
                self.refuse(item, "is not a number or a string")
        values = tuple(item.value for item in items)
        if len({isinstance(value, str) for value in values}) > 1:
            self.refuse(node, "mixes numbers and strings")
        return _constant(values, node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if not isinstance(node.func, ast.Name):
            self.refuse(node.func, "is not a function")
        name = node.func.id
        if name not in FUNCTIONS:
            near = difflib.get_close_matches(name, FUNCTIONS, 1, 0.0)
            self.refuse(node.func, f"is not a function; the nearest is {near[0]} (of {', '.join(FUNCTIONS)})")
        function = FUNCTIONS[name]
        if node.keywords or not function.least <= len(node.args) <= function.most:
            count = f"{function.least}" if function.least == function.most else f"{function.least} or more"
            self.refuse(node, f"has the wrong arguments; {name} takes {count}, without names")
        node.args = [self.visit(argument) for argument in node.args]
        for argument in node.args:
            if self.kind(argument) in ("list", "condition"):
                self.refuse(argument, f"is a {self.kind(argument)}, which {name} does not take")
        if function.literal:
            self._literal(node, function)
        return node

    def _literal(self, node: ast.Call, function: Function) -> None:
        pattern = node.args[-1]
        if not isinstance(pattern, ast.Constant) or not isinstance(pattern.value, str):
            self.refuse(pattern, "must be a string in quotation marks, or a parameter that is one")
        try:
            function.apply(pa.array([""]), pattern.value)
        except pa.ArrowInvalid as error:
            self.refuse(pattern, f"is not a regular expression (RE2): {error}")
