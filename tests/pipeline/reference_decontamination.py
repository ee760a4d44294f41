"""What decontaminate finds and leaves: tuples of words in a dict."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Any

from reference_dedup import Lost, Record

Word = tuple[str, int, int]  # as it is compared; where it stands in the text
Item = Mapping[str, str]  # question, text

PRESETS: dict[str, dict[str, Any]] = {
    "ngram": {"action": "drop", "ngram": 13, "words": "unicode", "max_records": 0, "query_ngrams": True},
    "gpt3": {"action": "remove", "ngram": 13, "words": "whitespace", "max_records": 10, "query_ngrams": True},
}


def normal_words(text: str, kind: str) -> list[Word]:
    found = re.finditer(r"\S+" if kind == "whitespace" else r"[一-鿿]|[a-zA-Z0-9_]+", text)
    words = []
    for match in found:
        letters = [c for c in match[0].lower() if unicodedata.category(c)[0] != "P"]
        if word := "".join(c for c in letters if c not in string.punctuation):
            words.append((word, match.start(), match.end()))
    return words


def by_decontaminate(
    records: list[Record], given: Mapping[str, Any], prefix: str, sets: Mapping[str, list[Item]]
) -> Lost:
    """`sets`: by the names that the ledger has for them, in the order of their files. Changes the records."""
    options = {"min_matches": 1, "min_share": 0.0, "window": 200, "min_piece": 200, "max_pieces": 10}
    options |= PRESETS[given.get("method", "ngram")] | given
    size = options["ngram"]
    origin: dict[tuple[str, ...], str] = {}
    for name, items in sets.items():
        for number, item in enumerate(items, 1):
            query = [word for word, _, _ in normal_words(item["question"], options["words"])]
            words = query + [word for word, _, _ in normal_words(item["text"], options["words"])]
            for start in range(len(words) - size + 1):
                if options["query_ngrams"] or start + size > len(query):
                    origin.setdefault(tuple(words[start : start + size]), f"{name}:{number}")
    found = {record["position"]: normal_words(record["text"], options["words"]) for record in records}
    ngrams = {
        place: [tuple(word for word, _, _ in words[at : at + size]) for at in range(len(words) - size + 1)]
        for place, words in found.items()
    }
    having = Counter(ngram for some in ngrams.values() for ngram in set(some))
    wanted = {n for n in origin if not options["max_records"] or having[n] <= options["max_records"]}
    lost: Lost = {}
    for record in records:
        words, mine = found[record["position"]], ngrams[record["position"]]
        places = [at for at, ngram in enumerate(mine) if ngram in wanted]
        covered = {word for at in places for word in range(at, at + size)}
        spans = [(words[at][1], words[at + size - 1][2]) for at in places]
        hit = len(places) >= options["min_matches"] and len(covered) / len(words) >= options["min_share"]
        value = f"{origin[mine[places[0]]]} {quoted(record['text'], spans)}" if hit else None
        if options["action"] == "report":
            record[f"{prefix}_ngrams"], record[f"{prefix}_by"] = len(places), value
        elif hit and options["action"] == "drop":
            lost[record["position"]] = ("dropped", "contaminated", value)
        elif hit:
            all_pieces = beyond(record["text"], spans, options["window"])
            kept = [piece for piece in all_pieces if len(piece) >= options["min_piece"]]
            record["text"] = "\n\n".join(kept)
            if len(all_pieces) > options["max_pieces"]:
                lost[record["position"]] = ("dropped", "too_many_pieces", value)
            elif not kept:
                lost[record["position"]] = ("dropped", "no_piece_left", value)
    return lost


def quoted(text: str, spans: list[tuple[int, int]]) -> str:
    """The first span with all that touch it or each other, on one line."""
    start, stop = spans[0]
    for low, high in spans[1:]:
        if low > stop:
            break
        stop = max(stop, high)
    whole = " ".join(text[start:stop][:201].split())
    return whole[:200] + ("…" if stop - start > 200 else "")


def beyond(text: str, spans: list[tuple[int, int]], window: int) -> list[str]:
    """The pieces of a text that are farther than `window` characters from every span."""
    gone = {at for low, high in spans for at in range(low - window, high + window)}
    marked = "".join("\0" if at in gone else character for at, character in enumerate(text))
    return [piece for piece in marked.split("\0") if piece]
