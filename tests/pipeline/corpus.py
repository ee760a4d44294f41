"""A small corpus with known copies, for tests of whole jobs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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
            {"filter": {"gopher_quality": {"min_words": 75}}},
            {"dedup": "exact"},
            {"dedup": {"minhash": {"bands": 14, "rows": 8, "ngram": 5, "keep": "longest"}}},
            {"select": {"top": "50%", "by": "word_count", "unit": "characters"}},
        ],
        "output": {"path": str(out), "shard": "20KB", "shuffle": "parts"},
        "run": {"workers": 2, "part": "40KB", "work": str(out.parent / f"{out.name}-work"), **run},
    }


MENU = ["Log in", "Home | About | Contact", "This site uses cookies to serve you better.", "12 likes"]


def pages(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Documents of a few hosts with menus, addresses, copies and near copies."""
    random_ = random.Random(seed)
    made: list[dict[str, Any]] = []
    for number in range(count):
        own = number % (count - count // 8)  # the last ones are copies, and every sixth is in any pages
        lines = document(own if own % 6 == 0 else own + 1000 * seed, words=60).split("\n")
        lines.insert(0, MENU[own % 4])
        lines.append(f"Write to someone{own % 9}@example.com and have an answer of 93.184.216.{own % 5}.")
        lines += ["too few"] * (number % 40 == 7)
        if number % 5 == 0:
            lines.insert(2, edited(lines[2], number, 2))
        url = f"https://{'abcd'[random_.randrange(4)]}.example/{number}"
        made.append({"id": f"p{seed}-{number:04d}", "text": "\n".join(lines), "url": url})
    return made


def full_job(folder: Path, **run: Any) -> dict[str, Any]:
    """A job of two inputs with steps of their own, and every kind of step over the whole corpus."""
    crawl, wiki = pages(180, 1), pages(60, 2)
    for number in range(6):
        write(folder / "in" / "crawl" / f"{number}.jsonl", crawl[number * 30 : number * 30 + 30])
    write_parquet(folder / "in" / "wiki" / "0.parquet", wiki)
    near = {"bands": 14, "rows": 4, "ngram": 3}
    return {
        "name": "full",
        "input": [
            {
                "name": "crawl",
                "path": str(folder / "in" / "crawl" / "*"),
                "steps": [{"edit": {"refinedweb_lines": {"max_removed": "50%"}}}, {"dedup": "exact"}],
            },
            {"name": "wiki", "path": str(folder / "in" / "wiki" / "*"), "steps": [{"sample": "80%"}]},
        ],
        "steps": [
            {"signals": ["char_count"]},
            {"filter": {"gopher_quality": {"min_words": 75}}},
            {"edit": "pii"},
            {"dedup": {"minhash": {**near, "cluster_memory": 1}}},
            {"dedup": {"lines": {"keep": "first", "min_chars": 330}}},
            {"rule": "word_count > 63", "name": "long"},
            {"bucket": {"by": "word_count", "keep": ["head", "middle"]}},
            {"select": {"cap": 9000, "unit": "characters", "within": "bucket", "by": "mean_word_length"}},
            {"mix": {"weights": {"crawl": 2, "wiki": 1}, "unit": "bytes"}},
        ],
        "output": {"path": str(folder / "out"), "shard": "4KB", "shuffle": "parts", "card": False},
        "run": {"workers": 2, "part": "8KB", "work": str(folder / "work"), **run},
    }


def write_parquet(path: Path, records: list[dict[str, Any]]) -> Path:
    """The records as Parquet, in row groups of twenty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), path, row_group_size=20)
    return path
