"""Rules: named expressions over columns, and the tables that published pipelines make of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Parameter = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True, init=False)
class Rule:
    """A condition that a record must meet; one that breaks it is dropped with `reason`.

    `expression` compares columns with parameters; `parameters` are their defaults; `source` names the
    place (section, table, line of a repository) that the rule and its constants come from.
    """

    reason: str
    expression: str
    parameters: Mapping[str, Parameter]
    source: str

    def __init__(self, reason: str, expression: str, *, source: str = "", **parameters: Parameter) -> None:
        object.__setattr__(self, "reason", reason)
        object.__setattr__(self, "expression", expression)
        object.__setattr__(self, "parameters", dict(parameters))
        object.__setattr__(self, "source", source)


@dataclass(frozen=True, init=False)
class RuleSet:
    """Rules in the order in which they are asked: the first that fails names the reason.

    Parameter names are unique in a set, so that a job can override each by its name alone.
    Raises ValueError where they, or the reasons, are not unique.
    """

    name: str
    source: str
    rules: tuple[Rule, ...]

    def __init__(self, name: str, *, source: str, rules: Iterable[Rule]) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "rules", tuple(rules))
        reasons = [rule.reason for rule in self.rules]
        names = [parameter for rule in self.rules for parameter in rule.parameters]
        for kind, values in (("reason", reasons), ("parameter", names)):
            repeated = sorted({value for value in values if values.count(value) > 1})
            if repeated:
                raise ValueError(f"rule set {name}: {kind} used twice: {', '.join(repeated)}")

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Every parameter of the set with its default."""
        return {name: value for rule in self.rules for name, value in rule.parameters.items()}
