"""How a job file writes amounts: fractions (`10%`, `0.1`), byte sizes (`256MB`) and counts (`5e9`)."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

# Decimal prefixes are powers of 1000, binary ones powers of 1024 (IEC 80000-13).
_UNITS: Final = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
_SIZE: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE | re.ASCII)
_PERCENTAGE: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", re.ASCII)
_LARGEST: Final = 2**63 - 1


def shown(value: Any) -> str:
    """A value as an error message quotes it: on one line, at most 60 characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return f'"{text[:57] + "..." if len(text) > 60 else text}"'


def parse_size(value: Any) -> int:
    """Bytes of a size: a whole number, or a number with B, KB, MB, GB, TB (decimal) or KiB ... TiB (binary).

    Raises PydanticCustomError for anything else, for sizes below one byte and above 2**63 - 1.
    """
    size: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and len(value) <= 40 and (match := _SIZE.fullmatch(value)):
        size = round(float(match[1]) * _UNITS[(match[2] or "").lower()])
    if size is None or not 1 <= size <= _LARGEST:
        raise PydanticCustomError("size", f"{shown(value)} is not a size in bytes; write 256MB or 1GiB")
    return size


def parse_fraction(value: Any) -> float:
    """A share in [0, 1], written as a number or as a percentage.

    The whole number 1 is refused because it may mean 1 % as well as all.
    Raises PydanticCustomError for anything else.
    """
    if isinstance(value, str) and len(value) <= 40 and (match := _PERCENTAGE.fullmatch(value)):
        fraction = float(match[1]) / 100
        if fraction <= 1:
            return fraction
    elif isinstance(value, float) and 0 <= value <= 1:
        return value
    elif isinstance(value, int) and not isinstance(value, bool):
        if value == 0:
            return 0.0
        if value == 1:
            raise PydanticCustomError("fraction", '"1" may be 1 % or all; write 1% or 1.0')
        if 1 < value <= 100:
            raise PydanticCustomError(
                "fraction",
                f'"{value}" is a fraction or a percentage; write {value}% or {value / 100:g}',
            )
    raise PydanticCustomError(
        "fraction", f"{shown(value)} is not a fraction between 0 and 1; write 10% or 0.1"
    )


def parse_count(value: Any) -> int:
    """A whole number of at least 1, also in scientific notation (`5e9`). Raises PydanticCustomError."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST:
        raise PydanticCustomError("count", f"{shown(value)} is not a whole number of at least 1")
    return value


def _keep_float(value: float) -> float:
    # 1.0 must stay a float in the resolved job: the whole number 1 would be refused on the way back.
    return float(value)


Fraction = Annotated[
    float,
    BeforeValidator(parse_fraction),
    PlainSerializer(_keep_float),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$"},
            ],
            "examples": ["10%", 0.1],
        }
    ),
]

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]i?)?[bB]?\s*$"},
            ],
            "examples": ["256MB", "1GiB"],
        }
    ),
]

Count = Annotated[int, BeforeValidator(parse_count), WithJsonSchema({"type": "number", "minimum": 1})]

PositiveInt = Annotated[int, Field(strict=True, ge=1)]
