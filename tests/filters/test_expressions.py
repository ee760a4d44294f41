"""The rule language against Python's own evaluation with nulls worked out by hand."""

from __future__ import annotations

import ast
import contextlib
import math
import string
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.filters.expressions import ExpressionError, evaluate_rules, parse
from thresher.schemas.rules import Parameter

COLUMNS = {
    "n": pa.array([0, 3, 50, None, -7], pa.int64()),
    "x": pa.array([0.0, 0.25, 1.5, None, -2.0]),
    "lang": pa.array(["en", "de", None, "Zh", ""]),
    "ok": pa.array([True, False, None, True, False]),
    "tags": pa.array([["a"], [], None, ["a", "b"], ["c"]]),
    "nothing": pa.nulls(5),
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("n >= 3", [False, True, True, None, False]),
        ("n > x", [False, True, True, None, False]),
        ("0 <= n < 50", [True, True, False, None, False]),
        ("n == 3 or x == 0", [True, True, False, None, False]),
        ("n / x > 100 or n == 0", [True, False, False, None, False]),
        ("n % 4 == 1", [False, False, False, None, True]),
        ("-n + 2 * (x - 1) < -50", [False, False, False, None, False]),
        ("not ok", [False, True, None, False, True]),
        ("ok and n > 0", [False, False, None, None, False]),
        ("ok or n > 0", [True, True, True, True, False]),
        ("ok == true", [True, False, None, True, False]),
        ('lang in ["en", "de"]', [True, True, None, False, False]),
        ('lang not in ["en", "de"]', [False, False, None, True, True]),
        ("n in [3, 50.0]", [False, True, True, None, False]),
        ("n in []", [False, False, False, None, False]),
        ("lang is null", [False, False, True, False, False]),
        ("lang is not null and n is not null", [True, True, False, False, True]),
        ('lower(lang) == "zh"', [False, False, None, True, False]),
        ("length(lang) == 2", [True, True, None, True, False]),
        ("length(tags) < 1", [False, True, None, False, False]),
        (r'matches(lang, "^[a-z]+$")', [True, True, None, False, False]),
        (r'matches(lang, "\w")', [True, True, None, True, False]),
        ('starts_with(lang, "e")', [True, False, None, False, False]),
        ('ends_with(lang, "h") or contains(lang, "e")', [True, True, None, True, False]),
        ("min(n, x, 10) < 0", [False, False, False, None, True]),
        ("max(abs(n), 5) > 6", [False, False, True, None, True]),
        ("(n if ok else x) > 0.2", [False, True, None, None, False]),
        ("nothing > 3", [None] * 5),
        ('nothing == "a" or true', [True] * 5),
        ("true", [True] * 5),
        ("1 < 2", [True] * 5),
        ("lang < 'en'", [False, True, None, True, True]),
    ],
)
def test_conditions_have_the_expected_values(expression: str, expected: list[bool | None]) -> None:
    assert parse(expression).evaluate(COLUMNS).to_pylist() == expected


def test_parameters_stand_for_their_values() -> None:
    parameters: dict[str, Parameter] = {"least": 3, "languages": ("en", "de"), "strict": False, "prefix": "d"}
    condition = parse(
        "n >= least and lang in languages and starts_with(lang, prefix) or strict and missing > 1", parameters
    )
    assert condition.columns == {"n", "lang", "missing"}
    chosen = parse("(missing if strict else n) >= least", parameters)
    assert chosen.columns == {"n"}
    assert chosen.evaluate(COLUMNS).to_pylist() == [False, True, True, None, False]


@pytest.mark.parametrize(
    ("expression", "offset", "part"),
    [
        ("n >", 3, "not an expression"),
        ("", 0, "not an expression"),
        ("n = 3", 0, "not an expression"),
        ("n +", 3, "not an expression"),
        ("n + 1", 0, "is a number; a rule is a condition"),
        ('"text"', 0, "is a text"),
        ("  lenght(lang) > 3", 2, "the nearest is length"),
        ("n > 3 and startswith(lang, 'e')", 10, "the nearest is starts_with"),
        ("n ** 9 > 3", 0, "arithmetic is"),
        ("~n", 0, "write `not`"),
        ("n == None", 5, "is null"),
        ("ok == True", 6, "write true"),
        ("n == null", 5, "is null"),
        ("n is 3", 0, "is for `is null`"),
        ("lang in 'en'", 8, "is not a list"),
        ("lang in ['en', 3]", 8, "mixes"),
        ("lang in [n]", 9, "is not a number or a string"),
        ("matches(lang, '(')", 14, "regular expression"),
        ("matches(lang, lang)", 14, "must be a string in quotation marks"),
        ("length(lang, 2) > 1", 0, "takes 1"),
        ("length(text=lang) > 1", 0, "without names"),
        ("abs(n > 1) > 1", 4, "condition"),
        ("n + 'a' > 1", 4, "arithmetic takes a number"),
        ("not (n + 1)", 5, "`not` takes a condition"),
        ("n and ok or 3", 12, "takes a condition"),
        ("n > 99999999999999999999", 4, "too large"),
        ("n > 1e999", 4, "too large"),
        ("n > 1j", 4, "is not a number"),
        ("n > b'a'", 4, "is not a number"),
        ("lang.upper() == 'EN'", 0, "is not a function"),
        ("lang.upper == 'EN'", 0, "not part of the language"),
        ("__import__('os').system('true')", 0, "is not a function"),
        ("(lambda: 1)() > 0", 1, "is not a function"),
        ("[n for n in [1]] == 1", 0, "not part of the language"),
        ("(y := 3) > 2", 1, "not part of the language"),
        ("lang[0] == 'e'", 0, "not part of the language"),
        ("f'{n}' == '3'", 0, "not part of the language"),
        ("n > 3; n < 5", 5, "not an expression"),
        ("'é' == lang and foo(n) > 1", 16, "is not a function"),
        ("n > 3\0", 0, "not an expression"),
        ("(" * 5000 + "n" + ")" * 4000, 0, "not an expression"),
        ("n > 3 or " * 2000 + "ok", 0, "at most 10000"),
        ("not " * 2000 + "ok", 400, "nested too deeply"),
    ],
)
def test_what_is_not_in_the_language_is_refused_with_its_place(
    expression: str, offset: int, part: str
) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(expression)
    assert part in str(caught.value)
    assert caught.value.column_offset == offset or "not an expression" in part


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("missing > 3", "no column missing"),
        ("lang > 3", "lang: string"),
        ("n", "n: int64"),
        ("ok > 1", "cannot be compared"),
        ("length(n) > 1", "int64 is not text"),
        ("n in ['a']", "cannot be in this list"),
        ("tags == 'a'", "cannot be compared"),
    ],
)
def test_columns_that_do_not_fit_are_named(expression: str, part: str) -> None:
    with pytest.raises(ExpressionError, match=part.replace("(", r"\(")):
        parse(expression).evaluate(COLUMNS)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from(string.printable + "é我\0"), max_size=40))
def test_any_text_is_an_expression_or_an_expression_error(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        assert parse(text).text == text


NUMBERS = st.one_of(st.none(), st.integers(-9, 9), st.sampled_from([0.5, -0.25, 1e6]))
LEAVES = st.sampled_from(["a", "b", "3", "0", "2.5", "-1"])
ARITHMETIC = st.recursive(
    LEAVES,
    lambda inner: st.tuples(inner, st.sampled_from("+-*/%"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=5,
)
COMPARISONS = st.tuples(ARITHMETIC, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), ARITHMETIC).map(
    " ".join
)
CONDITIONS = st.recursive(
    st.one_of(COMPARISONS, st.sampled_from(["a is null", "b is not null", "a in [1, 3]"])),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda condition: f"not ({condition})"),
    ),
    max_leaves=5,
)


class Maybe:
    """A number, a truth or nothing, with SQL's arithmetic: an independent reading of the language."""

    def __init__(self, value: Any) -> None:
        self.value = value

    @classmethod
    def read(cls, text: str, names: dict[str, Any]) -> Any:
        text = text.replace(" is not null", ".exists()").replace(" is null", ".exists().negated()")
        text = text.replace("a in [1, 3]", "a.among(1, 3)")
        return cls.walk(ast.parse(text, mode="eval").body, names)

    @classmethod
    def walk(cls, node: Any, names: dict[str, Any]) -> Any:
        kind = type(node).__name__
        if kind == "Constant":
            return node.value
        if kind == "Name":
            return names[node.id]
        if kind == "Call":
            value = cls.walk(node.func.value, names)
            if node.func.attr == "exists":
                return value is not None
            if node.func.attr == "negated":
                return not value
            return None if value is None else value in [argument.value for argument in node.args]
        if kind == "UnaryOp":
            value = cls.walk(node.operand, names)
            if value is None:
                return None
            return not value if type(node.op).__name__ == "Not" else -value
        if kind == "BoolOp":
            values = [cls.walk(value, names) for value in node.values]
            decisive = type(node.op).__name__ == "Or"
            return decisive if decisive in values else None if None in values else not decisive
        operator = node.op if kind == "BinOp" else node.ops[0]
        left = cls.walk(node.left, names)
        right = cls.walk(node.right if kind == "BinOp" else node.comparators[0], names)
        if left is None or right is None:
            return None
        left, right = float(left), float(right)
        match type(operator).__name__:
            case "Div":
                return left / right if right else None
            case "Mod":
                return left - right * math.floor(left / right) if right else None
            case "Add":
                return left + right
            case "Sub":
                return left - right
            case "Mult":
                return left * right
        return {
            "Lt": left < right,
            "LtE": left <= right,
            "Gt": left > right,
            "GtE": left >= right,
            "Eq": left == right,
            "NotEq": left != right,
        }[type(operator).__name__]


@settings(max_examples=400, deadline=None)
@given(CONDITIONS, NUMBERS, NUMBERS)
def test_conditions_equal_an_independent_reading(condition: str, a: float | None, b: float | None) -> None:
    columns = {"a": pa.array([a], pa.float64()), "b": pa.array([b], pa.float64())}
    expected = Maybe.read(condition, {"a": a, "b": b})
    assert parse(condition).evaluate(columns).to_pylist() == [expected]
    decided = parse(condition).deciding(columns).to_pylist()
    assert expected is not True or decided == [None]


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("n >= 3", ["0", None, None, "null", "-7"]),
        ("3 <= n", ["0", None, None, "null", "-7"]),
        ("x >= 0.3 and n >= 3", ["0.0", "0.25", None, "null", "-2.0"]),
        ("n >= 3 and x >= 0.3", ["0", "0.25", None, "null", "-7"]),
        ("n > 100 or x > 100", ["0", "3", "50", "null", "-7"]),
        ("not (n < 3)", ["0", None, None, "null", "-7"]),
        ("0 < n < 10", ["0", None, "50", "null", "-7"]),
        ("lang in ['en']", [None, "de", "null", "Zh", ""]),
        ("ok", [None, "false", "null", None, "false"]),
        ("n / 2 > 10", ["0.0", "1.5", None, "null", "-3.5"]),
        ("starts_with(lang, 'e')", [None, "de", "null", "Zh", ""]),
        ("lang is null", ["en", "de", None, "Zh", ""]),
    ],
)
def test_the_value_that_decided_is_the_first_operand_of_the_first_failure(
    expression: str, values: list[str | None]
) -> None:
    assert parse(expression).deciding(COLUMNS).to_pylist() == values


@pytest.mark.parametrize(
    ("condition", "a", "b", "decided"),
    [
        ("a > 5 and b > 3", None, 1.0, "1.0"),
        ("a > 5 and b > 3", None, 9.0, "null"),
        ("a > 5 or b > 3", 1.0, None, "null"),
        ("a > 5 or b > 3", 1.0, 2.0, "1.0"),
        ("3 < a < b", None, 1.0, "null"),
        ("a < b < 0", None, 1.0, "1.0"),
        ("not (a > 5 and b > 3)", None, 9.0, "null"),
    ],
)
def test_a_null_decides_only_where_no_value_does(
    condition: str, a: float | None, b: float | None, decided: str
) -> None:
    columns = {"a": pa.array([a], pa.float64()), "b": pa.array([b], pa.float64())}
    _, values = evaluate_rules([("it", parse(condition))], columns, "drop")
    assert values.to_pylist() == [decided]


def test_values_are_written_with_the_digits_of_their_precision() -> None:
    columns = {"score": pa.array([0.1, 0.65], pa.float32()), "long": pa.array(["y" * 999, "n"])}
    assert parse("score > 5").deciding(columns).to_pylist() == ["0.1", "0.65"]
    assert parse("contains(long, 'z')").deciding(columns).to_pylist() == ["y" * 200, "n"]
    assert parse("score > 0.65").evaluate(columns).to_pylist() == [False, False]


def test_chunked_large_and_sliced_columns_are_read_alike() -> None:
    chunked = pa.chunked_array([["en"], ["de", None]])
    large = pa.array(["x", "en", "de", None], pa.large_string()).slice(1)
    for column in (chunked, large):
        assert parse("lang == 'en'").evaluate({"lang": column}).to_pylist() == [True, False, None]
        assert parse("lang in ['en']").evaluate({"lang": column}).to_pylist() == [True, False, None]


def test_rows_get_the_reason_of_the_first_rule_they_break() -> None:
    rules = [
        ("short", parse("n >= 1")),
        ("other_language", parse("lang in ['en', 'de']")),
        ("big", parse("n < 3")),
    ]
    reasons, values = evaluate_rules(rules, COLUMNS, "drop")
    assert reasons.to_pylist() == ["short", "big", "other_language", "short", "short"]
    assert values.to_pylist() == ["0", "3", "null", "null", "-7"]
    reasons, values = evaluate_rules(rules, COLUMNS, "keep")
    assert reasons.to_pylist() == ["short", "big", "big", "other_language", "short"]
    assert values.to_pylist() == ["0", "3", "50", "Zh", "-7"]


def test_a_null_that_must_not_be_names_rule_and_row() -> None:
    with pytest.raises(ValueError, match=r"rule short \(n >= 1\): row 3"):
        evaluate_rules([("short", parse("n >= 1"))], COLUMNS, "fail")
    with pytest.raises(ValueError, match="row 2"):  # rows that an earlier rule dropped are not asked
        evaluate_rules(
            [("first", parse("n is not null and n > 0")), ("en", parse("lang == 'en'"))], COLUMNS, "fail"
        )
    with pytest.raises(ValueError, match="on_null"):
        evaluate_rules([], COLUMNS, "ignore")  # type: ignore[arg-type]


def test_rules_that_read_no_column_decide_all_rows_alike() -> None:
    reasons, values = evaluate_rules([("never", parse("1 > 2"))], COLUMNS, "drop")
    assert reasons.to_pylist() == ["never"] * 5
    assert values.to_pylist() == [None] * 5
    assert parse("3 < 3 or n > 100").deciding(COLUMNS).to_pylist() == ["0", "3", "50", "null", "-7"]


def test_no_rows_are_no_problem() -> None:
    empty = {"n": pa.array([], pa.int64())}
    assert parse("n > 3").evaluate(empty).to_pylist() == []
    assert [len(column) for column in evaluate_rules([("r", parse("n > 3"))], empty, "drop")] == [0, 0]
