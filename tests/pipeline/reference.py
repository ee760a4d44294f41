"""What a text job means: each step, one after the other, over the records that survived the last.

Slow and plain on purpose; shares no code with the product. It knows every verb but `extract`, `language` and
`url`; of their options those that `generated_jobs` draws.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reference_decontamination import Item, by_decontaminate
from reference_dedup import PAGES, Lost, Record, by_clusters, by_pieces
from reference_selection import Choice, NoProportion, NoValue, by_bucket, by_mix, by_select, drawn
from reference_texts import EDITS, signal, variety, words_of

__all__ = ["COPIES", "MARKS", "PAGES", "Fate", "NoProportion", "NoValue", "Record", "World", "interpret"]

COPIES = "copies_"  # what the columns that say how often a record is written begin with
Step = dict[str, Any]
Fate = tuple[str, str, str, Any]  # step, verdict, reason, value that decided (...: left open)

# A scorer as a person would write it beside a job; `variety` of reference_texts is the same by other means.
MARKS = '''\
import pyarrow as pa
from thresher.scorers import Scorer


class Variety(Scorer):
    """Different words per word; null where there is none, NaN where the text begins with a digit."""

    version = 1
    inputs = ("text",)

    @property
    def outputs(self):
        return {"variety": pa.float64()}

    def score(self, batch):
        scores = []
        for text in batch.column("text").to_pylist():
            words = text.split()
            value = None if not words else len(set(words)) / len(words)
            scores.append(float("nan") if text[:1].isdigit() else value)
        return {"variety": pa.array(scores, pa.float64(), from_pandas=False)}
'''


@dataclass(frozen=True)
class World:
    """What a job's steps refer to beside its input, by what they call it."""

    older: Mapping[str, list[Record]] = field(default_factory=dict)  # input of the runs that `against` names
    sets: Mapping[str, list[Item]] = field(default_factory=dict)  # evaluation sets


def value_of(name: str, record: Record, options: Mapping[str, Any] | None = None) -> Any:
    return record[name] if name in record else signal(name, record["text"], options)


COMPARE = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


def judge(expression: str, record: Record) -> tuple[bool | None, Any]:
    """Whether a condition holds (None: null), and the value of the first comparison that makes it so."""
    either = " or " in expression
    results: list[tuple[bool | None, Any]] = []
    for clause in re.split(" or | and ", expression):
        left, sign, right = clause.split()
        value = record[left[7:-1]] if left.startswith("length(") else value_of(left, record)
        if left.startswith("length(") and value is not None:
            value = len(value)
        results.append((None if value is None else COMPARE[sign](value, float(right)), value))
    truths = [truth for truth, _ in results]
    holds: bool | None
    if either:
        holds = True if True in truths else None if None in truths else False
    else:
        holds = False if False in truths else None if None in truths else True
    return holds, next((value for truth, value in results if truth is holds), None)


def by_rule(records: list[Record], expression: str, reason: str, on_null: str) -> Lost:
    lost: Lost = {}
    for record in records:
        holds, value = judge(expression, record)
        if holds is None and on_null == "fail":
            raise NoValue(record["id"])
        if holds is False or (holds is None and on_null == "drop"):
            lost[record["position"]] = (
                "dropped",
                reason,
                "null" if holds is None or value is None else value,
            )
    return lost


def by_gopher_quality(records: list[Record], given: Mapping[str, Any]) -> Lost:
    rules = [
        ("too_few_words", "word_count", operator.ge, given.get("min_words", 50)),
        ("too_many_words", "word_count", operator.le, 100_000),
        ("words_too_short", "mean_word_length", operator.ge, 3.0),
        ("words_too_long", "mean_word_length", operator.le, 10.0),
        ("too_many_hashes", "hash_word_ratio", operator.le, 0.1),
        ("too_many_ellipses", "ellipsis_word_ratio", operator.le, 0.1),
        ("too_many_bullet_lines", "bullet_line_fraction", operator.le, 0.9),
        ("too_many_ellipsis_lines", "ellipsis_line_fraction", operator.le, 0.3),
        ("too_few_alphabetic_words", "alphabetic_word_fraction", operator.ge, 0.8),
        ("too_few_stop_words", "stop_word_count", operator.ge, given.get("min_stop_words", 2)),
    ]
    lost: Lost = {}
    for record in records:
        for reason, name, compare, bound in rules:
            value = signal(name, record["text"], given)
            if not compare(value, bound):
                lost[record["position"]] = ("dropped", reason, value)
                break
    return lost


def by_sample(records: list[Record], fraction: float, seed: int, step: str) -> Lost:
    gone = [record for record in records if drawn(record, step, seed) >= int(fraction * 2**64)]
    return {record["position"]: ("dropped", "not_sampled", None) for record in gone}


def by_score(records: list[Record], column: str, on_null: str) -> Lost:
    lost: Lost = {}
    for record in records:
        record[column] = variety(record["text"])
        if record[column] is None and on_null == "fail":
            raise NoValue(record["id"])
        if record[column] is None and on_null == "drop":
            lost[record["position"]] = ("dropped", "null_score", None)
    return lost


def by_signals(records: list[Record], given: Mapping[str, Any]) -> Lost:
    for record in records:
        for name in given["names"]:
            record[f"signal_{name}"] = signal(name, record["text"], given.get("options"))
    return {}


def by_edit(records: list[Record], given: Mapping[str, Any]) -> Lost:
    ((name, arguments),) = given.items()
    arguments = dict(arguments)
    most = arguments.pop("max_removed", None)
    lost: Lost = {}
    for record in records:
        before, after = record["text"], EDITS[name](record["text"], **arguments)
        if after == before:
            continue
        record["text"] = after
        words, left = len(words_of(before)), len(words_of(after))
        share = (words - left) / max(words, 1)
        if not after.strip():
            lost[record["position"]] = ("dropped", "empty_after_edit", None)
        elif most is not None and share > most:
            lost[record["position"]] = ("dropped", "too_much_removed", float(f"{share:.6g}"))
    return lost


def by_dedup(records: list[Record], options: Mapping[str, Any], world: World) -> Lost:
    ((method, how),) = options.items()
    if method in ("lines", "paragraphs"):
        return by_pieces(records, method, how, value_of)
    older: list[Record] = []
    if "against" in how:
        earlier = {key: value for key, value in how.items() if key != "against"}
        step = {"name": "earlier", "dedup": {method: earlier}}
        older, _ = interpret([world.older[how["against"]]], [], [step])
    return by_clusters(records, method, how, older, value_of)


def one_step(records: list[Record], step: Step, seed: int, world: World) -> Lost:
    """What one step takes from the records that reach it; it may change them."""
    name, on_null = step["name"], step.get("on_null", "drop")
    verb = next(key for key in step if key not in ("name", "on_null", "as"))
    options = step[verb]
    if verb == "select" and "min" in options:
        return by_rule(records, f"{options['by']} >= {options['min']}", "below_min", on_null)

    def choice() -> Choice:
        return Choice(records, step, verb, seed, value_of)

    lost: dict[str, Any] = {
        "filter": lambda: by_gopher_quality(records, options["gopher_quality"]),
        "rule": lambda: by_rule(records, options, name, on_null),
        "score": lambda: by_score(records, step["as"], on_null),
        "sample": lambda: by_sample(records, options, seed, name),
        "limit": lambda: {r["position"]: ("dropped", "beyond_limit", ...) for r in records[options:]},
        "signals": lambda: by_signals(records, options),
        "edit": lambda: by_edit(records, options),
        "dedup": lambda: by_dedup(records, options, world),
        "select": lambda: by_select(choice(), step.get("as", "")),
        "bucket": lambda: by_bucket(choice(), step["as"]),
        "mix": lambda: by_mix(choice(), step.get("as", "")),
        "decontaminate": lambda: by_decontaminate(
            records, options, step.get("as", ""), {options["against"]: world.sets[options["against"]]}
        ),
    }
    made: Lost = lost[verb]()
    return made


def interpret(
    inputs: Sequence[list[Record]],
    own: Sequence[list[Step]],
    steps: list[Step],
    seed: int = 0,
    world: World | None = None,
) -> tuple[list[Record], dict[int, Fate]]:
    """The records that come through, in the order of the inputs, and what became of each of the others, by
    its place among all.

    A record has `id`, `url`, `text`, `input`, and where it cannot be read an `error`. `own` are the steps of
    each input alone, or nothing. Every step has a `name`. Raises NoValue and NoProportion.
    """
    world = world or World()
    ledger: dict[int, Fate] = {}
    alive: list[Record] = []
    place = 0

    def walk(records: list[Record], its: list[Step]) -> list[Record]:
        for step in its:
            lost = one_step(records, step, seed, world)
            ledger.update({at: (step["name"], *why) for at, why in lost.items()})
            records = [record for record in records if record["position"] not in lost]
        return records

    for number, documents in enumerate(inputs):
        records = [{**document, "position": place + at} for at, document in enumerate(documents)]
        place += len(records)
        reading = f"input:{documents[0]['input']}" if any(own) and documents else "input"
        for record in records:
            if record.get("error"):
                ledger[record["position"]] = (reading, "error", record["error"], ...)
        records = [record for record in records if not record.get("error")]
        alive += walk(records, own[number] if any(own) else [])
    kept = walk(alive, steps)
    return [record for record in kept for _ in range(times(record))], ledger


def times(record: Record) -> int:
    """How often a record is written."""
    return math.prod(count for column, count in record.items() if column.startswith(COPIES))
