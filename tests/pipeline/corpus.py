"""A small corpus with known copies, for tests of whole jobs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

WORDS = [
    "the",
    "be",
    "to",
    "of",
    "and",
    "that",
    "have",
    "with",
    "data",
    "model",
    "training",
    "page",
    "river",
    "mountain",
    "window",
    "garden",
    "science",
    "history",
    "music",
    "number",
    "letter",
    "system",
    "people",
    "world",
    "water",
    "light",
    "color",
    "paper",
    "stone",
    "forest",
    "bridge",
    "engine",
    "winter",
    "summer",
]


def document(seed: int, words: int = 120) -> str:
    """Prose that the Gopher rules accept: sentences of random words on a few lines."""
    random_ = random.Random(seed)
    sentences = []
    while sum(len(s.split()) for s in sentences) < words:
        body = " ".join(
            random_.choice(WORDS) + (str(random_.randrange(99)) if random_.random() < 0.3 else "")
            for _ in range(random_.randrange(8, 16))
        )
        sentences.append(f"The {body} and that is number {random_.randrange(10**6)}.")
    return "\n".join(sentences)


def edited(text: str, seed: int, changes: int) -> str:
    """The text with some words replaced."""
    random_ = random.Random(seed)
    words = text.split(" ")
    for place in random_.sample(range(len(words)), changes):
        words[place] = f"edit{random_.randrange(10**6)}"
    return " ".join(words)


def rows(count: int = 300) -> list[dict[str, Any]]:
    """Documents, of which every tenth has an exact and every seventh a near copy; some break rules."""
    made: list[dict[str, Any]] = []
    for number in range(count):
        text = document(number)
        made.append(
            {"id": f"d{number:05d}", "text": text, "url": f"https://example.org/{number}", "n": number}
        )
        if number % 10 == 0:
            made.append({"id": f"e{number:05d}", "text": text, "url": f"https://copy.example/{number}"})
        if number % 7 == 0:
            made.append({"id": f"n{number:05d}", "text": edited(text, number, 1), "url": None})
        if number % 25 == 0:
            made.append({"id": f"s{number:05d}", "text": "too short", "url": None})
    random.Random(1).shuffle(made)
    return made


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    """The records as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return path


def job(source: str, out: Path, **run: Any) -> dict[str, Any]:
    """A job like the one in the README."""
    return {
        "name": "test",
        "input": [{"path": source}],
        "steps": [
            {"filter": "gopher_repetition"},
            {"filter": {"gopher_quality": {"min_words": 20}}},
            {"dedup": "exact"},
            {"dedup": {"minhash": {"bands": 14, "rows": 8, "ngram": 5, "keep": "longest"}}},
            {"select": {"top": "50%", "by": "word_count", "unit": "characters"}},
        ],
        "output": {"path": str(out), "shard": "20KB", "shuffle": "parts"},
        "run": {"workers": 2, "part": "40KB", "work": str(out.parent / f"{out.name}-work"), **run},
    }
