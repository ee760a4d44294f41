"""One text job with everything that can go wrong on an engine, and what it leaves."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corpus
import fsspec
import thresher
from engine_settings import Setting

PLAINNESS = '''\
import pyarrow as pa
from thresher.scorers import Scorer


class Plainness(Scorer):
    """The share of words that are on a list, which is all that the model is."""

    version = 1
    inputs = ("text",)

    def __init__(self, words):
        self._file = words
        self.assets = (words,)

    @property
    def outputs(self):
        return {"share": pa.float64()}

    def open(self, assets):
        self._words = frozenset(assets.locate(self._file).read_text().split())

    def score(self, batch):
        texts = [text.lower().split() for text in batch.column("text").to_pylist()]
        shares = [sum(word in self._words for word in words) / max(1, len(words)) for words in texts]
        return {"share": pa.array(shares, pa.float64())}
'''


@dataclass(frozen=True)
class Outcome:
    """What a job leaves: SHA-256 of each shard and of each file of the ledger, and its totals."""

    shards: dict[str, str]
    ledger: dict[str, str]
    totals: dict[str, Any]

    def digests(self) -> tuple[str, ...]:
        """One short checksum for each of the three."""
        return tuple(
            hashlib.sha256(json.dumps(some, sort_keys=True).encode()).hexdigest()[:16]
            for some in (self.shards, self.ledger, self.totals)
        )


def make_input(folder: Path) -> Path:
    """Two inputs with exact and near copies within and between them, and a scorer with its list of words."""
    records = corpus.rows(260)
    for number in range(6):
        corpus.write(folder / "crawl" / f"{number}.jsonl", records[number::8])
    corpus.write(folder / "books" / "0.jsonl", records[6::8] + records[:30])
    corpus.write(folder / "books" / "1.jsonl", records[7::8])
    make_scorer(folder)
    return folder


def make_scorer(folder: Path) -> None:
    (folder / "plainness.py").write_text(PLAINNESS)
    (folder / "words.txt").write_text("the and that is number data model river winter people science")


def job(folder: Path, out: str, work: str, setting: Setting) -> dict[str, Any]:
    """Exact and MinHash dedup, a scorer with actors of its own, the best of each input."""
    score = {
        "score": {"plainness:Plainness": {"words": "words.txt"}},
        "as": "plainness",
        "resources": {"cpus": 1, "actors": [1, 2]},
    }
    if setting.scores_on is not None:
        score["on"] = setting.scores_on
    return {
        "name": "everywhere",
        "input": [{"name": name, "path": str(folder / name / "*.jsonl")} for name in ("crawl", "books")],
        "steps": [
            {"filter": {"gopher_quality": {"min_words": 75}}},
            {"dedup": "exact"},
            {"dedup": {"minhash": {"bands": 14, "rows": 4, "ngram": 3, "keep": "longest"}}},
            score,
            {"select": {"top": "50%", "by": "plainness", "within": "input", "unit": "characters"}},
        ],
        "output": {"path": out, "shard": "8KB", "shuffle": "parts", "card": False},
        "run": {**setting.run, "part": "20KB", "work": work, "directory": str(folder)},
    }


def run(described: dict[str, Any], **options: Any) -> Outcome:
    """Runs a job to its end and reads what it leaves."""
    thresher.run(thresher.load(described, allow_code=True), allow_code=True, **options)
    return outcome(described["output"]["path"])


def outcome(out: str) -> Outcome:
    files, root = fsspec.core.url_to_fs(out)
    files.invalidate_cache()

    def digests(pattern: str) -> dict[str, str]:
        found = sorted(files.glob(f"{root}/{pattern}"))
        return {path.rpartition("/")[2]: hashlib.sha256(files.cat_file(path)).hexdigest() for path in found}

    manifest = json.loads(files.cat_file(f"{root}/manifest.json"))
    shards = digests("shard-*")
    assert shards == {shard["path"]: shard["sha256"] for shard in manifest["shards"]}
    return Outcome(shards, digests("ledger/*"), manifest["totals"])
