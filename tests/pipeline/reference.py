"""What a text job means: each step, one after the other, over the records that survived the last.

Slow and plain on purpose; shares no code with the product. Of the steps it knows `filter: gopher_quality`,
`rule` (comparisons with numbers, joined by `and` or by `or`), `score` (`marks:Variety`), `sample`, `limit`,
`dedup` (MinHash with datasketch's hash) and `select`.
"""

from __future__ import annotations

import math
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from fractions import Fraction
from typing import Any

import xxhash
from datasketch import MinHash

Record = dict[str, Any]
Fate = tuple[str, str, str, Any]  # step, verdict, reason, value that decided (...: left open)
Lost = dict[int, tuple[str, str, Any]]  # position: verdict, reason, value

PAGES: dict[str | None, str | None] = {
    "https://e.org/a": "a",
    "HTTPS://E.org:443/a#top": "a",
    "https://e.org/b/../a?utm_source=x": "a",
    "http://e.org/a": "a, not encrypted",
    "https://e.org/b?y=1&x=2": "b",
    "https://e.org/b?x=2&y=1": "b",
    "no address": None,
    "": None,
    None: None,
}

# A scorer as a person would write it beside a job; `variety` below is the same by other means.
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


class NoValue(Exception):
    """A value is null where the step says `on_null: fail`."""


def words_of(text: str, kind: str = "whitespace") -> list[str]:
    return text.split() if kind == "whitespace" else re.findall(r"[一-鿿]|[a-zA-Z0-9_]+", text)


def signal(name: str, text: str, kind: str = "whitespace") -> float:
    words = words_of(text, kind)
    lines = [line for line in re.split("\r\n|\r|\n", text) if line.strip()]
    count = max(len(words), 1)
    stop = {"the", "be", "to", "of", "and", "that", "have", "with"}
    signals: dict[str, Callable[[], float]] = {
        "byte_count": lambda: len(text.encode()),
        "char_count": lambda: len(text),
        "word_count": lambda: len(words),
        "line_count": lambda: len(lines),
        "max_word_length": lambda: max(map(len, words), default=0),
        "mean_word_length": lambda: sum(map(len, words)) / count,
        "hash_word_ratio": lambda: text.count("#") / count,
        "ellipsis_word_ratio": lambda: (text.count("...") + text.count("…")) / count,
        "bullet_line_fraction": lambda: sum(s.strip()[0] in "•*-" for s in lines) / max(len(lines), 1),
        "ellipsis_line_fraction": lambda: (
            sum(s.rstrip().endswith(("...", "…")) for s in lines) / max(len(lines), 1)
        ),
        "alphabetic_word_fraction": lambda: sum(any(map(str.isalpha, w)) for w in words) / count,
        "stop_word_count": lambda: len(stop & set(words)),
    }
    return signals[name]()


def variety(text: str) -> float | None:
    if text and text[0].isdigit():
        return math.nan
    seen, total = set(), 0
    for word in text.split():
        seen.add(word)
        total += 1
    return len(seen) / total if total else None


def value_of(name: str, record: Record, kind: str = "whitespace") -> Any:
    return record[name] if name in record else signal(name, record["text"], kind)


COMPARE = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


def judge(expression: str, record: Record) -> tuple[bool | None, Any]:
    """Whether a condition holds (None: null), and the value of the first comparison that does not."""
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
    return holds, next((value for truth, value in results if truth is not True), None)


def by_rule(records: list[Record], expression: str, reason: str, on_null: str) -> Lost:
    lost: Lost = {}
    for record in records:
        holds, value = judge(expression, record)
        if holds is None and on_null == "fail":
            raise NoValue(record["id"])
        if holds is False or (holds is None and on_null == "drop"):
            lost[record["position"]] = ("dropped", reason, "null" if holds is None else value)
    return lost


def by_gopher_quality(records: list[Record], given: Mapping[str, Any]) -> Lost:
    kind = given.get("words", "whitespace")
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
            value = signal(name, record["text"], kind)
            if not compare(value, bound):
                lost[record["position"]] = ("dropped", reason, value)
                break
    return lost


def by_sample(records: list[Record], fraction: float, seed: int, step: str) -> Lost:
    def drawn(record: Record) -> int:
        return xxhash.xxh3_64_intdigest(f"{seed}\0{step}\0{record['id']}".encode())

    gone = [record for record in records if drawn(record) >= int(fraction * 2**64)]
    return {record["position"]: ("dropped", "not_sampled", None) for record in gone}


def by_dedup(records: list[Record], options: Mapping[str, Any]) -> Lost:
    ((method, how),) = options.items()
    clusters = exact_clusters(records, how) if method == "exact" else near_clusters(records, how)
    lost: Lost = {}
    for cluster in clusters:
        best = min(cluster, key=lambda record: rank(record, how.get("keep", "longest")))
        for record in cluster:
            if record is not best:
                lost[record["position"]] = ("duplicate", "duplicate", best["id"])
    return lost


def rank(record: Record, keep: Any) -> tuple[Any, ...]:
    content = xxhash.xxh3_64_intdigest(record["text"].encode())
    ties = (record["id"], content, record["position"])
    if keep == "first":
        return (record["position"],)
    if keep == "longest":
        return (-len(record["text"]), *ties)
    value = value_of(keep["best"], record)
    place = (2, 0.0) if value is None else (1, 0.0) if math.isnan(value) else (0, -value)
    return (*place, *ties)


def exact_clusters(records: list[Record], how: Mapping[str, Any]) -> Iterable[list[Record]]:
    def key(record: Record) -> Hashable:
        if how.get("on") == "url":
            return PAGES.get(record["url"], record["url"])
        text = str(record["text"])
        if how.get("normalize", "whitespace") == "none":
            return text
        text = " ".join(text.split())
        return text.lower() if how.get("normalize") == "lower" else text

    groups = defaultdict(list)
    for record in records:
        if key(record) is not None:
            groups[key(record)].append(record)
    return groups.values()


def near_clusters(records: list[Record], how: Mapping[str, Any]) -> Iterable[list[Record]]:
    bands, rows = how["bands"], how["rows"]
    met = defaultdict(set)
    for place, record in enumerate(records):
        if elements := shingles(record["text"], how):
            sketch = MinHash(num_perm=bands * rows, seed=1)
            sketch.update_batch(elements)
            for band in range(bands):
                met[band, tuple(sketch.hashvalues[band * rows : (band + 1) * rows])].add(place)
    near: dict[int, set[int]] = defaultdict(set)
    for places in met.values():
        for place in places:
            near[place] |= places
    while near:
        found, open_ = [], [next(iter(near))]
        while open_:
            place = open_.pop()
            if place in near:
                open_.extend(near.pop(place))
                found.append(records[place])
        yield found


def shingles(text: str, how: Mapping[str, Any]) -> list[bytes]:
    text = text.lower() if how.get("lowercase") else text
    if how.get("unit") == "characters":
        units, joint = list(text) if text.strip() else [], ""
    else:
        units, joint = words_of(text, how.get("words", "unicode")), " "
    n = how["ngram"]
    starts = range(max(len(units) - n + 1, 1 if units else 0))
    return [joint.join(units[start : start + n]).encode() for start in starts]


def by_select(records: list[Record], options: Mapping[str, Any], on_null: str) -> Lost:
    by, unit = options["by"], options.get("unit", "records")
    if "min" in options:
        return by_rule(records, f"{by} >= {options['min']}", "below_min", on_null)
    groups = defaultdict(list)
    for record in records:
        groups[value_of(options["within"], record) if "within" in options else None].append(record)
    lost: Lost = {}
    for members in groups.values():
        sizes = {
            record["position"]: 1 if unit == "records" else int(signal(f"{unit[:4]}_count", record["text"]))
            for record in members
        }
        budget = options.get("budget")
        left = math.floor(Fraction(str(options["top"])) * sum(sizes.values())) if budget is None else budget
        ranked = []
        for record in members:
            value = value_of(by, record)
            if value is not None and not math.isnan(value):
                ranked.append(record)
            elif on_null == "fail":
                raise NoValue(record["id"])
            elif on_null == "drop":
                lost[record["position"]] = ("dropped", "null_score", value)
        ranked.sort(key=lambda record: (-value_of(by, record), record["id"], record["position"]))
        for record in ranked:
            left -= sizes[record["position"]]
            if left < 0:
                left = -math.inf
                lost[record["position"]] = ("dropped", "below_cut", value_of(by, record))
    return lost


def by_score(records: list[Record], column: str, on_null: str) -> Lost:
    lost: Lost = {}
    for record in records:
        record[column] = variety(record["text"])
        if record[column] is None and on_null == "fail":
            raise NoValue(record["id"])
        if record[column] is None and on_null == "drop":
            lost[record["position"]] = ("dropped", "null_score", None)
    return lost


def interpret(
    documents: list[Record], steps: list[dict[str, Any]], seed: int = 0
) -> tuple[list[Record], dict[int, Fate]]:
    """The records that come through, in the order of the input, and what became of each of the others, by its
    place in the input. Every step has a `name`. Raises NoValue."""
    alive = [{**document, "position": place} for place, document in enumerate(documents)]
    ledger: dict[int, Fate] = {}

    def lose(step: str, lost: Lost) -> None:
        ledger.update({place: (step, *why) for place, why in lost.items()})
        alive[:] = [record for record in alive if record["position"] not in lost]

    readable = {record["position"]: ("error", "missing_text", ...) for record in alive}
    lose("input", {place: why for place, why in readable.items() if documents[place]["text"] is None})
    for step in steps:
        name, on_null = step["name"], step.get("on_null", "drop")
        verb = next(key for key in step if key not in ("name", "on_null", "as"))
        options = step[verb]
        if verb == "filter":
            lose(name, by_gopher_quality(alive, options["gopher_quality"]))
        elif verb == "rule":
            lose(name, by_rule(alive, options, name, on_null))
        elif verb == "score":
            lose(name, by_score(alive, step["as"], on_null))
        elif verb == "sample":
            lose(name, by_sample(alive, options, seed, name))
        elif verb == "limit":
            gone = alive[options:]
            lose(name, {record["position"]: ("dropped", "beyond_limit", ...) for record in gone})
        elif verb == "dedup":
            lose(name, by_dedup(alive, options))
        else:
            lose(name, by_select(alive, options, on_null))
    return alive, ledger
