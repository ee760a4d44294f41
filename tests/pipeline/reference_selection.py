"""What select, bucket and mix keep: sorted lists and exact fractions."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import xxhash
from reference_dedup import Lost, Record
from reference_texts import words_of


class NoProportion(Exception):
    """A group that a weight names has nothing, so that no other can be kept in proportion."""


class NoValue(Exception):
    """A value is null where the step says `on_null: fail`."""


def tokens_of(text: str) -> int:
    """The tokens of the tokenizer that these jobs have: words between white space."""
    return len(words_of(text))


UNITS: dict[str, Callable[[Record], int]] = {
    "records": lambda record: 1,
    "characters": lambda record: len(record["text"]),
    "bytes": lambda record: len(record["text"].encode()),
    "tokens": lambda record: tokens_of(record["text"]),
}


def drawn(record: Record, step: str, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(f"{seed}\0{step}\0{record['id']}".encode())


class Choice:
    """One step over some records."""

    def __init__(
        self,
        records: list[Record],
        step: Mapping[str, Any],
        verb: str,
        seed: int,
        value_of: Callable[[str, Record], Any],
    ) -> None:
        self.records, self.name, self.seed, self.value_of = records, step["name"], seed, value_of
        self.options, self.on_null = step[verb], step.get("on_null", "drop")
        self.by = self.options.get("by")
        self.size = UNITS[self.options.get("unit", "records")]
        self.lost: Lost = {}

    def value(self, record: Record) -> Any:
        return drawn(record, self.name, self.seed) if self.by is None else self.value_of(self.by, record)

    def lose(self, record: Record, reason: str, value: Any) -> None:
        self.lost[record["position"]] = ("dropped", reason, value)

    def groups(self, column: str | None) -> dict[Any, list[Record]]:
        groups: dict[Any, list[Record]] = defaultdict(list)
        for record in self.records:
            groups[None if column is None else self.value_of(column, record)].append(record)
        return groups

    def ranked(self, members: list[Record], shown: Callable[[Any], Any]) -> list[Record]:
        """The members that have a value; the others are lost, if they are to be."""
        ranked = []
        for record in members:
            value = self.value(record)
            if value is not None and not math.isnan(value):
                ranked.append(record)
            elif self.on_null == "fail":
                raise NoValue(record["id"])
            elif self.on_null == "drop":
                self.lose(record, "null_score", shown(value))
        return ranked

    def fill(self, members: list[Record], room: float, reason: str) -> None:
        """Members are taken in descending order until the next would exceed."""
        members = sorted(members, key=lambda one: (-self.value(one), one["id"], one["position"]))
        for record in members:
            room -= self.size(record)
            if room < 0:
                room = -math.inf
                self.lose(record, reason, self.value(record))


def by_select(choice: Choice) -> Lost:
    options = choice.options
    for members in choice.groups(options.get("within")).values():
        room = options.get("budget") or options.get("cap")
        if "top" in options:
            room = math.floor(Fraction(str(options["top"])) * sum(map(choice.size, members)))
        ranked = choice.ranked(members, lambda value: value)
        choice.fill(ranked, room, "over_cap" if "cap" in options else "below_cut")
    return choice.lost


def by_bucket(choice: Choice, column: str) -> Lost:
    options = choice.options
    for members in choice.groups(options.get("within")).values():
        for record in members:
            record[column] = None
        ranked = choice.ranked(members, lambda value: None)
        values = sorted(map(choice.value, ranked))
        shares = [math.ceil(Fraction(str(cut)) * len(values)) for cut in options["cuts"]]
        for record in ranked:
            above = sum(not share or choice.value(record) > values[share - 1] for share in shares)
            record[column] = options["names"][above]
            if record[column] not in options.get("keep", options["names"]):
                choice.lose(record, "other_bucket", record[column])
    return choice.lost


def by_mix(choice: Choice) -> Lost:
    options = choice.options
    groups = choice.groups(options.get("within", "input"))
    if "caps" in options:
        for group, members in groups.items():
            choice.fill(members, options["caps"].get(group, math.inf), "over_cap")
        return choice.lost
    weights = {group: Fraction(str(weight)) for group, weight in options["weights"].items()}
    has = {group: sum(map(choice.size, groups.get(group, []))) for group in weights}
    if "budget" in options:
        each = Fraction(options["budget"]) / sum(weights.values())
    elif choice.records and not all(groups.get(group) for group in weights):
        raise NoProportion(choice.name)
    else:
        each = min(has[group] / weight for group, weight in weights.items())
    for group, members in groups.items():
        if group in weights:
            choice.fill(members, math.floor(each * weights[group]), "over_weight")
        else:
            for record in members:
                choice.lose(record, "not_in_mix", choice.value(record))
    return choice.lost
