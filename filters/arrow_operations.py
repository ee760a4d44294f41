"""The operations of the rule language on Arrow values (arrays and scalars): null in, null out.

Numbers are computed as float64, which holds integers exactly up to 2**53. Nothing here raises for a value;
operands of types that do not go together raise TypeError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

Value = Any  # a pa.Array or a pa.Scalar

_FLOAT: Final = pa.float64()


def as_number(value: Value) -> Value:
    """The value as float64."""
    if not is_number(value):
        raise TypeError(f"{value.type} is not a number")
    return value.cast(_FLOAT, safe=False)


def as_text(value: Value) -> Value:
    """The value, if it is text."""
    if pa.types.is_null(value.type):
        return value.cast(pa.string())
    if not is_text(value):
        raise TypeError(f"{value.type} is not text")
    return value


def as_condition(value: Value) -> Value:
    """The value, if it is true, false or null."""
    if pa.types.is_null(value.type):
        return value.cast(pa.bool_())
    if not pa.types.is_boolean(value.type):
        raise TypeError(f"{value.type} is not a condition")
    return value


def is_number(value: Value) -> bool:
    """Whether the value is of a numeric type (or of no type, as a column of nulls is)."""
    kind = value.type
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    )


def is_text(value: Value) -> bool:
    """Whether the value is of type string or large_string."""
    return bool(pa.types.is_string(value.type) or pa.types.is_large_string(value.type))


def divide(a: Value, b: Value) -> Value:
    """a / b; null where b is 0."""
    a, b = as_number(a), as_number(b)
    return pc.divide(a, pc.if_else(pc.equal(b, 0.0), pa.scalar(None, _FLOAT), b))


def remainder(a: Value, b: Value) -> Value:
    """a - b * floor(a / b), so of b's sign; null where b is 0."""
    return pc.subtract(as_number(a), pc.multiply(as_number(b), pc.floor(divide(a, b))))


def logarithm(value: Value) -> Value:
    """The natural logarithm; null where the number is not above 0."""
    number = as_number(value)
    return pc.ln(pc.if_else(pc.greater(number, 0.0), number, pa.scalar(None, _FLOAT)))


def _arithmetic(function: Callable[[Value, Value], Value]) -> Callable[[Value, Value], Value]:
    return lambda a, b: function(as_number(a), as_number(b))


ARITHMETIC: Final[Mapping[str, Callable[[Value, Value], Value]]] = {
    "Add": _arithmetic(pc.add),
    "Sub": _arithmetic(pc.subtract),
    "Mult": _arithmetic(pc.multiply),
    "Div": divide,
    "Mod": remainder,
}

_COMPARISONS: Final[Mapping[str, Callable[[Value, Value], Value]]] = {
    "Eq": pc.equal,
    "NotEq": pc.not_equal,
    "Lt": pc.less,
    "LtE": pc.less_equal,
    "Gt": pc.greater,
    "GtE": pc.greater_equal,
}


def compare(operator: str, a: Value, b: Value) -> Value:
    """Two numbers, two texts or two conditions, by the name of an `ast` operator."""
    compared = _COMPARISONS[operator]
    if pa.types.is_integer(a.type) and a.type == b.type:
        return compared(a, b)
    if is_number(a) and is_number(b):
        return compared(as_number(a), as_number(b))
    if pa.types.is_null(a.type) or pa.types.is_null(b.type):
        return pc.and_(pc.is_valid(a), pa.scalar(None, pa.bool_()))
    if pa.types.is_boolean(a.type) and pa.types.is_boolean(b.type):
        return compared(a, b)
    if is_text(a) and is_text(b):
        return compared(a.cast(pa.large_string()), b.cast(pa.large_string()))
    raise TypeError(f"{a.type} and {b.type} cannot be compared")


def is_in(value: Value, choices: tuple[Any, ...]) -> Value:
    """Whether the value is one of `choices`, all text or all numbers; null for null."""
    if pa.types.is_null(value.type):
        return pc.and_(pc.is_valid(value), pa.scalar(None, pa.bool_()))
    texts = [choice for choice in choices if isinstance(choice, str)]
    if texts and len(texts) < len(choices):
        raise TypeError("a list of text and numbers")
    if is_text(value) and len(texts) == len(choices):
        found = pc.is_in(value, value_set=pa.array(texts, value.type))
    elif is_number(value) and not texts:
        found = pc.is_in(as_number(value), value_set=pa.array([float(choice) for choice in choices], _FLOAT))
    else:
        raise TypeError(f"{value.type} cannot be in this list")
    return pc.if_else(pc.is_valid(value), found, pa.scalar(None, pa.bool_()))


def length(value: Value) -> Value:
    """Characters of a text, or elements of a list, as int64."""
    if pa.types.is_list(value.type) or pa.types.is_large_list(value.type):
        return pc.list_value_length(value).cast(pa.int64())
    return pc.utf8_length(as_text(value)).cast(pa.int64())


def smallest(*values: Value) -> Value:
    """The smallest of the numbers; null if one is null."""
    return pc.min_element_wise(*map(as_number, values), skip_nulls=False)


def largest(*values: Value) -> Value:
    """The largest of the numbers; null if one is null."""
    return pc.max_element_wise(*map(as_number, values), skip_nulls=False)


def matches(value: Value, pattern: str) -> Value:
    """Whether an RE2 regular expression matches anywhere in the text, in time linear in its length."""
    return pc.match_substring_regex(as_text(value), pattern=pattern)


def choose(condition: Value, then: Value, otherwise: Value) -> Value:
    """`then` where the condition holds, `otherwise` where it does not, null where it is null."""
    if is_number(then) and is_number(otherwise) and then.type != otherwise.type:
        then, otherwise = as_number(then), as_number(otherwise)
    return pc.if_else(as_condition(condition), then, otherwise)
