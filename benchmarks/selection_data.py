"""What is chosen from, and the target that it is chosen for: passages, split, without overlap."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from thresher.filters.text.language import LanguageIdentifier
from thresher.jobs.training import texts

SHORTEST = 600  # characters of a passage, so that most have the 100 words below which DSIR weighs nothing
OVERLAP = 13  # words in a row that nothing may share with the test, as GPT-3's authors count
BATCH = 1024
_PACKAGE = re.compile(r"https?://[^/]+/(.*?)/usr/share/|https?://[^/]+/usr/share/(man|doc)\b")
_WORD = re.compile(r"\w+")
_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("source", pa.string())])


@dataclass(frozen=True)
class Sizes:
    """How much of everything is taken."""

    characters: int  # of a document, from its beginning
    pool_bytes: int
    test_bytes: int


@dataclass(frozen=True)
class Data:
    """Three tables of id, text and source; no two of them share a passage."""

    pool: pa.Table
    target: pa.Table  # what methods learn from
    test: pa.Table  # what models are measured on
    overlapping: int  # passages that were left out of the other two because of the test


def of_corpus(corpus: Path, package: str, sizes: Sizes, in_pool: float) -> Data:
    """English documents of a corpus that corpus.py has built.

    The target is what packages have whose names begin with `package`; `in_pool`: the share of its documents
    that are part of the pool instead.
    """
    table = pq.read_table(corpus / "docs.parquet", columns=["text", "url"])
    names = [_package(url) for url in table["url"].to_pylist()]
    table = pa.table({"text": table["text"], "source": pa.array(names)})
    chosen = pc.starts_with(table["source"], package)
    pool, target = (_ordered(part) for part in (table.filter(pc.invert(chosen)), table.filter(chosen)))
    moved = int(in_pool * len(target))
    if moved:
        pool = _ordered(pa.concat_tables([pool, target.slice(0, moved)]))
    return split(_passages(pool, sizes, english=True), _passages(target.slice(moved), sizes), sizes)


def of_files(pool: Sequence[str], target: Sequence[str], sizes: Sizes) -> Data:
    """Texts of files as `thresher train` reads them; the source of each is what it was named by."""
    found = []
    for paths in (pool, target):
        parts = [
            pa.table(
                {"text": pa.chunked_array(columns, pa.string()), "source": [path] * sum(map(len, columns))}
            )
            for path in paths
            if (columns := [batch.column("text").cast(pa.string()) for batch in texts([path], {})])
        ]
        if not parts:
            raise SystemExit(f"{', '.join(paths)}: no text")
        found.append(_ordered(pa.concat_tables(parts)))
    return split(_passages(found[0], sizes), _passages(found[1], sizes), sizes)


def split(pool: pa.Table, target: pa.Table, sizes: Sizes) -> Data:
    """The first passages of the target are the test; what shares `OVERLAP` words with them goes."""
    count = len(_within(target, sizes.test_bytes))
    test, target = target.slice(0, count), target.slice(count)
    seen = {gram for text in test["text"].to_pylist() for gram in grams(text)}
    kept = []
    for table in (pool, target):
        clean = [seen.isdisjoint(grams(text)) for text in table["text"].to_pylist()]
        kept.append(table.filter(pa.array(clean, pa.bool_())))
    overlapping = len(pool) + len(target) - sum(map(len, kept))
    return Data(_within(kept[0], sizes.pool_bytes), kept[1], test, overlapping)


def grams(text: str) -> Iterable[int]:
    """Hashes of all runs of `OVERLAP` words; of a shorter text that of all its words."""
    words = _WORD.findall(text.lower())
    for start in range(max(1, len(words) - OVERLAP + 1)):
        yield hash(tuple(words[start : start + OVERLAP]))


def _ordered(table: pa.Table) -> pa.Table:
    """In an order that depends on the texts alone, each text once, with its hash as id."""
    values = table["text"].to_pylist()
    ids = [hashlib.sha256((text or "").encode("utf-8", "replace")).hexdigest()[:24] for text in values]
    first: dict[str, int] = {}
    for row, name in enumerate(ids):
        first.setdefault(name, row)
    rows = [first[name] for name in sorted(first)]
    return pa.table(
        {"id": sorted(first), "text": table["text"].take(rows), "source": table["source"].take(rows)}
    )


def _passages(table: pa.Table, sizes: Sizes, *, english: bool = False) -> pa.Table:
    """The beginnings of documents; about as many as twice the pool needs, for some of them overlap."""
    identifier = LanguageIdentifier()
    identifier.open()
    found, size = [], 0
    for batch in table.to_batches(BATCH):
        short = pc.utf8_slice_codeunits(batch.column("text"), 0, sizes.characters)
        keep = pc.greater_equal(pc.utf8_length(short), SHORTEST)
        batch = pa.RecordBatch.from_arrays(
            [batch.column("id"), short, batch.column("source")], schema=_SCHEMA
        ).filter(keep)
        if english:
            language, probability = identifier.identify(batch.column("text"))
            batch = batch.filter(pc.and_(pc.equal(language, "en"), pc.greater_equal(probability, 0.65)))
        found.append(batch)
        size += pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0
        if size > 2 * sizes.pool_bytes:
            break
    passages = pa.Table.from_batches(found, _SCHEMA)
    # Beginnings can be equal where the documents are not.
    return _ordered(passages.select(["text", "source"]))


def _within(table: pa.Table, size: int) -> pa.Table:
    """The first passages, up to so many bytes."""
    ends = pc.cumulative_sum(pc.cast(pc.binary_length(table["text"]), pa.int64()))
    return table.slice(0, pc.sum(pc.less_equal(ends, size)).as_py() or 0)


def _package(url: str | None) -> str:
    match = _PACKAGE.match(url or "")
    return "" if match is None else match[1] or match[2] or ""
