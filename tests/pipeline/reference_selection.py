"""What select, bucket and mix keep, and how often: sorted lists and exact fractions."""

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

    def rank(self, record: Record) -> Any:
        """What the largest is taken by: the value, or the value with Gumbel noise."""
        value = self.value(record)
        if self.options.get("sample") != "gumbel":
            return value
        uniform = Fraction(2 * (drawn(record, self.name, self.seed) >> 12) + 1, 2**53)
        return value / self.options.get("temperature", 1) - math.log(-math.log(uniform))

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
        members = sorted(members, key=lambda one: (-self.rank(one), one["id"], one["position"]))
        shown = (lambda one: ...) if self.options.get("sample") == "gumbel" else self.value
        for record in members:
            room -= self.size(record)
            if room < 0:
                room = -math.inf
                self.lose(record, reason, shown(record))

    def copy(
        self,
        members: list[Record],
        room: float,
        reason: str,
        column: str,
        most: int,
        weight: Callable[[Record], Any] = lambda record: 1,
    ) -> None:
        """Up to `most` copies of each member; copy j comes at (j + 1 - draw) / weight, until the next would
        exceed."""
        copies = []
        for record in members:
            share = Fraction(drawn(record, self.name, self.seed) >> 11, 2**53)
            record[column] = 0
            if weight(record) > 0:
                at = [(j + 1 - share) / Fraction(weight(record)) for j in range(most)]
                copies += [(one, record["id"], record["position"], record) for one in at]
        for *_, record in sorted(copies, key=lambda copy: copy[:3]):
            room -= self.size(record)
            if room < 0:
                break
            record[column] += 1
        for record in members:
            if not record[column]:
                why = reason if weight(record) > 0 else "no_weight"
                self.lose(record, why, self.value(record))


def by_select(choice: Choice, column: str) -> Lost:
    options = choice.options
    for members in choice.groups(options.get("within")).values():
        room = options.get("budget") or options.get("cap")
        if "top" in options:
            room = math.floor(Fraction(str(options["top"])) * sum(map(choice.size, members)))
        ranked = choice.ranked(members, lambda value: value)
        if options.get("sample") == "replacement":
            for record in members:
                record[column] = 1
            choice.copy(ranked, room, "below_cut", column, options.get("max_copies", 5), choice.value)
            continue
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


def named(*values: Any) -> str | None:
    """The name of a group of two columns; null where one is."""
    return (
        None if None in values else "/".join(str(v).replace("\\", "\\\\").replace("/", "\\/") for v in values)
    )


def evenly(sizes: dict[Any, int], budget: int, epochs: Fraction) -> dict[Any, int]:
    """What UniMax gives each group."""
    given: dict[Any, Fraction] = {}
    left = Fraction(budget)
    waiting = sorted(sizes, key=lambda group: (sizes[group], group is not None, str(group)))
    while waiting:
        each = left / len(waiting)
        group = waiting.pop(0)
        given[group] = min(each, sizes[group] * epochs)
        left -= given[group]
    return {group: math.floor(part) for group, part in given.items()}


def by_mix(choice: Choice, column: str) -> Lost:
    options = choice.options
    within = options.get("within", "input")
    groups = choice.groups(within) if isinstance(within, str) else {}
    for record in choice.records if isinstance(within, list) else ():
        both = named(*(choice.value_of(name, record) for name in within))
        groups.setdefault(both, []).append(record)
    if "caps" in options:
        for group, members in groups.items():
            choice.fill(members, options["caps"].get(group, math.inf), "over_cap")
        return choice.lost
    has = {group: sum(map(choice.size, members)) for group, members in groups.items()}
    epochs = Fraction(str(options.get("unimax", options).get("epochs", 1)))
    if "unimax" in options:
        rooms = evenly(has, options["budget"], epochs)
    else:
        weights = {group: Fraction(str(weight)) for group, weight in options.get("weights", {}).items()}
        if "alpha" in options:
            weights = {group: Fraction(repr(size ** options["alpha"])) for group, size in has.items() if size}
        if "budget" in options:
            each = Fraction(options["budget"]) / (sum(weights.values()) or 1)
        elif choice.records and not all(groups.get(group) for group in weights):
            raise NoProportion(choice.name)
        else:
            each = min((epochs * has.get(group, 0) / weight for group, weight in weights.items()), default=0)
        rooms = dict.fromkeys(groups, 0) if "alpha" in options else {}
        for group, weight in weights.items():
            rooms[group] = min(math.floor(each * weight), math.floor(epochs * has.get(group, 0)))
    for group, members in groups.items():
        if group not in rooms:
            for record in members:
                choice.lose(record, "not_in_mix", choice.value(record))
        elif epochs > 1:
            choice.copy(members, rooms[group], "over_weight", column, math.ceil(epochs))
        else:
            choice.fill(members, rooms[group], "over_weight")
    return choice.lost
