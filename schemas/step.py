"""What every step of a job has beside its verb, and how steps are named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field

from .verbs import ColumnName, Model, OnNull, Resources

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,79}$"
RESERVED: Final = ("as", "name", "on", "resources", "on_null")
COLUMN_VERBS: Final = (
    "score",
    "bucket",
    "decontaminate",
    "frequency",
    "cluster",
    "retrieve",
    "select",
    "mix",
)
NULL_VERBS: Final = (
    "filter",
    "rule",
    "score",
    "select",
    "bucket",
    "hierarchical_sample",
    "retrieve",
)


def short(key: str, shape: Any) -> BeforeValidator:
    """Lets a bare value stand for a mapping: `extract: trafilatura` for `extract: {with: trafilatura}`."""

    def expand(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return {key: value} if key else {value: {}}

    return BeforeValidator(expand, json_schema_input_type=shape)


class Step(Model):
    """What every step has beside its verb."""

    verb: ClassVar[str]

    name: Annotated[str, Field(pattern=NAME_PATTERN)] = Field(
        default="", description="The step's name in accounts and ledger; made from the verb where left out."
    )
    as_: ColumnName | None = Field(
        default=None, alias="as", description="The column that a score is written to."
    )
    on: Literal["local", "beam", "ray"] | None = Field(
        default=None, description="Engine of this step's stages."
    )
    resources: Resources | None = Field(default=None, description="What one task of the step needs.")
    on_null: OnNull = Field(default="drop", description="What happens to a record whose value is null.")

    @property
    def kind(self) -> str:
        """The verb."""
        return self.verb

    @property
    def options(self) -> Any:
        """What stands under the verb."""
        return getattr(self, self.verb)

    @property
    def default_name(self) -> str:
        """Verb and main argument; a job makes it unique."""
        return self.verb

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        if value.get("as") is not None and cls.verb not in COLUMN_VERBS:
            yield "as", f'"as" names the column that a step such as score makes; {cls.verb} makes none'
        if value.get("on_null", "drop") != "drop" and cls.verb not in NULL_VERBS:
            yield "on_null", f'"on_null" has no meaning for {cls.verb}'


_OPERATORS: Final = (
    ("<=", " le "),
    (">=", " ge "),
    ("==", " eq "),
    ("!=", " ne "),
    ("<", " lt "),
    (">", " gt "),
    ("+", " plus "),
    ("*", " times "),
    ("/", " by "),
    ("-", " minus "),
)


def word(text: str) -> str:
    """Letters, digits and underscores of a text, for the name of a step."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:60] or "unnamed"


def slug(text: str) -> str:
    """Letters, digits, dots and underscores that still tell one expression from another."""
    for operator, word in _OPERATORS:
        text = text.replace(operator, word)
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_.")[:60].rstrip("_.") or "unnamed"
