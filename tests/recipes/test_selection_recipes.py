"""Recipes that choose by age, domain and attributes, on texts whose words tell what they are."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import thresher
from thresher.jobs import recipe_book
from thresher.jobs.training import train_fasttext

GOOD = ["river", "mill", "water", "stone", "miller", "bridge", "forest", "harvest", "village", "orchard"]
PLAIN = ["shop", "price", "order", "cheap", "sale", "shoes", "buy", "offer", "deal", "today"]
RUDE = ["idiot", "stupid", "hate", "fool", "ugly", "awful", "nasty", "rotten", "vile", "filthy"]
KINDS = {"good": (GOOD, PLAIN), "plain": (PLAIN, PLAIN), "rude": (RUDE, PLAIN)}


def text_of(kind: str, number: int) -> str:
    draw = random.Random(f"{kind} {number}")
    words, filler = KINDS[kind]
    return " ".join(draw.choice(words if draw.random() < 0.8 else filler) for _ in range(40))


def lines(texts: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(text) + "\n" for text in texts)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """quality.bin and toxicity.bin, of texts of these kinds."""
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        made = [{"text": text_of(kind, number)} for number in range(1000, 1060)]
        (folder / f"{kind}.jsonl").write_text(lines(made))
    small = {"dim": 8, "bucket": 1000, "epoch": 15}
    for name, label, of, others in (
        ("quality.bin", "hq", ["good"], ["plain", "rude"]),
        ("toxicity.bin", "toxic", ["rude"], ["plain", "good"]),
    ):
        train_fasttext(
            [str(folder / f"{kind}.jsonl") for kind in of],
            [str(folder / f"{kind}.jsonl") for kind in others],
            folder / name,
            label=label,
            seed=1,
            parameters=small,
        )
    return [folder / "quality.bin", folder / "toxicity.bin"]


def run(
    folder: Path, models: list[Path], text: str, records: list[dict[str, Any]]
) -> tuple[Any, list[Any], Any]:
    """The result, the rows and the ledger of a job on the records as `crawl/one.jsonl`."""
    for model in models:
        (folder / model.name).symlink_to(model)
    (folder / "crawl").mkdir()
    (folder / "crawl" / "one.jsonl.gz").write_bytes(gzip.compress(lines(records).encode()))
    (folder / "job.yaml").write_text(text, encoding="utf-8")
    overrides = (f"input.0.path={folder}/crawl/one.jsonl.gz", "run.workers=1")
    result = thresher.run(thresher.load(folder / "job.yaml", overrides))
    out = Path(result.output)
    rows = [row for shard in result.shards for row in pq.read_table(out / shard.path).to_pylist()]
    ledger = {row["id"]: row["step"] for row in pq.read_table(out / "ledger").to_pylist()}
    return result, rows, ledger


def test_each_knob_of_the_guide_drops_what_it_is_for(tmp_path: Path, models: list[Path]) -> None:
    records = [
        {"id": f"{kind}-{year}-{number}", "text": text_of(kind, number), "date": f"{year}-05-01T00:00:00Z"}
        for kind, year, number in itertools.product(KINDS, (2017, 2021), range(8))
    ]
    (tmp_path / "wiki.jsonl").write_text(lines([{"id": "wiki", "text": text_of("good", 500)}]))
    text = (
        recipe_book.read("pretrainers-guide")
        .text.replace("  # - rule", "  - rule")
        .replace("  #   name: domain", "    name: domain")
    )
    text = text.replace("quality >= 0.1", "quality >= 0.02")
    _, rows, ledger = run(tmp_path, models, text, records)
    assert ledger.pop("wiki") == "domain"
    for record in records:
        kind, year, _ = record["id"].split("-")
        if year == "2017":
            assert ledger.pop(record["id"]) == "too_old"
        elif kind == "rude":
            assert ledger.pop(record["id"]) in ("low_quality", "toxic")
    kept = Counter(row["id"].split("-")[0] for row in rows)
    assert kept["good"] == 8
    assert kept["rude"] == 0
    assert set(ledger.values()) <= {"low_quality"}


def test_the_inverse_knob_drops_the_least_toxic_tenth(tmp_path: Path, models: list[Path]) -> None:
    records = [
        {"id": f"{kind}-{n}", "text": text_of(kind, n)} for kind in ("good", "rude") for n in range(10)
    ]
    (tmp_path / "wiki.jsonl").write_text("")
    text = recipe_book.read("pretrainers-guide").text
    text = text.replace("  # - select", "  - select").replace("  #   name: inverse", "    name: inverse")
    text = text.replace("quality >= 0.1", "quality >= 0").replace("toxicity < 0.9", "toxicity < 2")
    _, rows, ledger = run(tmp_path, models, text, records)
    assert set(ledger.values()) == {"inverse_toxicity"}
    assert len(ledger) == 2
    assert all(name.startswith("good-") for name in ledger)
    assert len(rows) == 18


def test_buckets_of_two_attributes_give_what_their_weights_say(tmp_path: Path, models: list[Path]) -> None:
    records = [{"id": f"{kind}-{n}", "text": text_of(kind, n)} for kind in KINDS for n in range(60)]
    text = recipe_book.read("data-data-everywhere").text
    steps = text.index("  - extract:"), text.index("  # Attributes")
    text = text[: steps[0]] + text[steps[1] :]  # these texts are no prose
    text = text.replace("budget: 1e9", "budget: 66").replace("unit: characters", "unit: records")
    result, rows, ledger = run(tmp_path, models, text, records)
    assert set(ledger.values()) == {"mix:quality_bucket-toxicity_bucket"}
    found = Counter((row["quality_bucket"], row["toxicity_bucket"]) for row in rows)
    # Of 16.5 parts, each is 4 records; of the best texts few are among the toxic third.
    assert found["high", "mild"] == 32
    assert found["medium", "mild"] == 16
    assert found["low", "toxic"] == 2
    assert found["high", "toxic"] <= 8
    assert found["medium", "toxic"] <= 4
    assert found["low", "mild"] <= 4
    copies = Counter(row["id"] for row in rows)
    assert all(copies[row["id"]] == row["copies"] <= 2 for row in rows)
    assert result.totals["written"] == len(rows)
