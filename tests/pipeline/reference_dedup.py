"""What dedup removes: clusters of every pair of records, and copies of lines one line at a time."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import combinations
from typing import Any

import xxhash
from datasketch import MinHash
from reference_texts import words_of

Record = dict[str, Any]
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
# What CCNet leaves out of lines (cc_net/text_normalizer.py, UNICODE_PUNCT).
LEFT_OUT = "，。、„”“«»」「《》´∶：？！（）；–—．～’…━〈〉【】％►"


def by_clusters(
    records: list[Record],
    method: str,
    how: Mapping[str, Any],
    older: list[Record],
    value_of: Callable[[str, Record], Any],
) -> Lost:
    """`older`: what earlier runs have kept, in their order."""
    lost: Lost = {}
    keys_of = exact_keys if method == "exact" else band_keys
    first: dict[Hashable, int] = {}
    for place, record in enumerate(older):
        for key in keys_of(record, how):
            first.setdefault(key, place)
    fresh = []
    for record in records:
        if places := [first[key] for key in keys_of(record, how) if key in first]:
            lost[record["position"]] = ("duplicate", "duplicate", older[min(places)]["id"])
        else:
            fresh.append(record)
    for cluster in clusters(fresh, keys_of, how):
        best = min(cluster, key=lambda record: rank(record, how.get("keep", "longest"), value_of))
        for record in cluster:
            if record is not best:
                lost[record["position"]] = ("duplicate", "duplicate", best["id"])
    return lost


def rank(record: Record, keep: Any, value_of: Callable[[str, Record], Any]) -> tuple[Any, ...]:
    content = xxhash.xxh3_64_intdigest(record["text"].encode())
    ties = (record["id"], content, record["position"])
    if keep == "first":
        return (record["position"],)
    if keep == "longest":
        return (-len(record["text"]), *ties)
    value = value_of(keep["best"], record)
    place = (2, 0.0) if value is None else (1, 0.0) if math.isnan(value) else (0, -value)
    return (*place, *ties)


def clusters(
    records: list[Record], keys_of: Callable[..., Iterable[Hashable]], how: Mapping[str, Any]
) -> Iterable[list[Record]]:
    met = defaultdict(set)
    for place, record in enumerate(records):
        for key in keys_of(record, how):
            met[key].add(place)
    near: dict[int, set[int]] = defaultdict(set)
    for places in met.values():
        for a, b in combinations(sorted(places), 2):
            if "verify" not in how or likeness(records[a], records[b], how) >= how["verify"]:
                near[a].add(b)
                near[b].add(a)
    while near:
        found, open_ = [], [next(iter(near))]
        while open_:
            place = open_.pop()
            if place in near:
                open_.extend(near.pop(place))
                found.append(records[place])
        yield found


def exact_keys(record: Record, how: Mapping[str, Any]) -> list[Hashable]:
    if how.get("on") == "url":
        page = PAGES.get(record["url"], record["url"])
        return [] if page is None else [page]
    text = str(record["text"])
    if how.get("normalize", "whitespace") != "none":
        text = " ".join(text.split())
    return [text.lower() if how.get("normalize") == "lower" else text]


def band_keys(record: Record, how: Mapping[str, Any]) -> list[Hashable]:
    bands, rows = how["bands"], how["rows"]
    elements = shingles(record["text"], how)
    if not elements:
        return []
    sketch = MinHash(num_perm=bands * rows, seed=1)
    sketch.update_batch(elements)
    return [(band, tuple(sketch.hashvalues[band * rows : (band + 1) * rows])) for band in range(bands)]


def shingles(text: str, how: Mapping[str, Any]) -> list[bytes]:
    text = text.lower() if how.get("lowercase") else text
    if how.get("unit") == "characters":
        units, joint = list(text) if text.strip() else [], ""
    else:
        units, joint = words_of(text, how.get("words", "unicode")), " "
    n = how["ngram"]
    starts = range(max(len(units) - n + 1, 1 if units else 0))
    return [joint.join(units[start : start + n]).encode() for start in starts]


def likeness(a: Record, b: Record, how: Mapping[str, Any]) -> float:
    mine, theirs = set(shingles(a["text"], how)), set(shingles(b["text"], how))
    return len(mine & theirs) / len(mine | theirs)


def pieces(text: str, unit: str, each: bool) -> list[tuple[str, str, str]]:
    """The lines or paragraphs of a text, all of it: blank lines before, what is compared, what ends it.

    `each`: a blank line is a line like others.
    """
    *lines, last = text.split("\n")
    rows = [*(line + "\n" for line in lines), last]
    if each:
        return [("", line, "\n") for line in lines] + [("", last, "")]
    made: list[list[str]] = [[]]
    for row in rows:
        filled = any(one.strip() for one in made[-1])
        opens = unit == "lines" or (bool(made[-1]) and not made[-1][-1].strip())
        if row.strip() and filled and opens:
            made.append([])
        made[-1].append(row)
    found = []
    for some in made:
        full = [at for at, row in enumerate(some) if row.strip()]
        if not full:
            found.append(("".join(some), "", ""))
            continue
        head, body = "".join(some[: full[0]]), "".join(some[full[0] : full[-1] + 1])
        content = body.removesuffix("\n")
        found.append((head, content, body[len(content) :] + "".join(some[full[-1] + 1 :])))
    return found


def plain(piece: str) -> str:
    piece = re.sub(r"\d", "0", piece.strip().lower())
    return "".join(c for c in piece if c not in LEFT_OUT and unicodedata.category(c) != "Cc")


def by_pieces(
    records: list[Record], unit: str, how: Mapping[str, Any], value_of: Callable[[str, Record], Any]
) -> Lost:
    """Changes the texts, and names the records of which too little is left."""
    least = how.get("min_length", 1)
    cut: list[list[tuple[str, str, str, Any]]] = []
    owners: dict[Any, list[int]] = defaultdict(list)
    for record in records:
        group = value_of(how["within"], record) if "within" in how else ""
        found = []
        for head, content, tail in pieces(record["text"], unit, unit == "lines" and least == 0):
            key = (group, plain(content)) if len(plain(content).encode()) >= least else None
            found.append((head, content, tail, key))
            owners[key].append(record["position"])
        cut.append(found)
    lost: Lost = {}
    for record, found in zip(records, cut, strict=True):
        text, end, seen = "", "", set()
        for head, content, tail, key in found:
            having = owners[key]
            mine = having[0] == record["position"] if how.get("keep") != "none" else len(set(having)) == 1
            kept = key is None or (mine and key not in seen)
            seen.add(key)
            if kept:
                text, end = text + end + head + content, tail
        text += end if kept else ""
        record["text"] = text
        if len(text) < how.get("min_chars", 1):
            reason = "too_short" if text else "emptied"
            lost[record["position"]] = ("dropped", reason, len(text))
    return lost
