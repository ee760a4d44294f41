"""Counting for DSIR: what is in the file, what is held out, and where raw data end."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from thresher.scorers.dsir import read
from thresher.scorers.dsir_training import DsirTrainer, TrainedDsir

SHOP = "buy cheap shoes now today shop sale price order free shipping of the and a best"
RIVER = "river mill miller water stone bridge ran old wheel slow of the and a morning"


def documents(words: str, count: int, seed: int, length: int = 40) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(words.split(), k=length)) for _ in range(count)]


def batches(texts: list[str | None], rows: int = 7) -> Iterator[pa.RecordBatch]:
    for at in range(0, len(texts), rows):
        yield pa.record_batch({"text": pa.array(texts[at : at + rows], pa.string())})


def counts(texts: list[str], buckets: int) -> list[int]:
    found: Counter[int] = Counter()
    for text in texts:
        words = re.findall(r"\w+|[^\w\s]+", text.lower())
        for one in [*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))]:
            found[int(hashlib.sha256(one.encode()).hexdigest(), 16) % buckets] += 1
    return [found[bucket] for bucket in range(buckets)]


def trained(out: Path, rows: int = 7, **parameters: float) -> TrainedDsir:
    settings = {"buckets": 500, "min_tokens": 10, **parameters}
    trainer = DsirTrainer(**settings)  # type: ignore[arg-type]
    raw = [*documents(SHOP, 80, 1), None, " "]
    return trainer.train({"river": batches(documents(RIVER, 60, 2), rows)}, [batches(raw, rows)], out, 5)


def test_the_file_holds_the_counts_of_all_documents(tmp_path: Path) -> None:
    found = trained(tmp_path / "dsir.npz")
    written = read(tmp_path / "dsir.npz")
    assert written.raw.counts.tolist() == counts(documents(SHOP, 80, 1), 500)
    assert written.targets["river"].counts.tolist() == counts(documents(RIVER, 60, 2), 500)
    assert (written.raw.documents, written.targets["river"].documents, found.skipped) == (80, 60, 2)
    assert found.ngrams == {"raw": 80 * 79, "river": 60 * 79}
    texts = b"".join(text.encode() + b"\0" for text in documents(RIVER, 60, 2))
    assert written.targets["river"].sha256 == hashlib.sha256(texts).hexdigest()


def test_documents_that_were_not_counted_tell_how_well_the_counts_do(tmp_path: Path) -> None:
    check = trained(tmp_path / "dsir.npz", held_out=0.3).checks["river"]
    assert 5 < check.documents < 35
    assert 8 < check.raw_documents < 45
    assert check.auc == 1.0
    assert check.difference is not None
    assert check.difference > 100
    alike = DsirTrainer(buckets=500, min_tokens=10, held_out=0.3)
    same = alike.train(
        {"shop": batches(documents(SHOP, 80, 3))}, [batches(documents(SHOP, 80, 4))], tmp_path / "x.npz", 5
    ).checks["shop"]
    assert same.auc is not None
    assert 0.2 < same.auc < 0.8
    assert trained(tmp_path / "all.npz", held_out=0.0).checks["river"].auc is None


def test_the_same_data_give_the_same_file_and_card_however_they_are_cut(tmp_path: Path) -> None:
    made = []
    for folder, rows in (("a", 7), ("b", 100)):
        out = tmp_path / folder / "dsir.npz"
        trained(out, rows)
        made.append((out.read_bytes(), out.with_name("dsir.npz.md").read_text()))
    assert made[0] == made[1]


def test_raw_data_end_with_the_document_that_is_more_than_enough(tmp_path: Path) -> None:
    texts = documents(SHOP, 50, 6)
    for rows in (1, 8, 50):
        trainer = DsirTrainer(buckets=500, ngrams_to_fit=79 * 10)
        target = {"river": batches(documents(RIVER, 5, 2))}
        found = trainer.train(target, [batches(texts, rows)], tmp_path / "dsir.npz", 0)
        assert found.statistics.raw.counts.tolist() == counts(texts[:11], 500)


def test_each_stream_of_raw_data_has_an_equal_share_and_what_one_lacks_others_give(tmp_path: Path) -> None:
    streams = [documents(SHOP, 2, 1), documents(SHOP, 50, 2), documents(SHOP, 50, 3)]
    trainer = DsirTrainer(buckets=500, ngrams_to_fit=79 * 24)
    target = {"river": batches(documents(RIVER, 5, 2))}
    found = trainer.train(target, [batches(texts) for texts in streams], tmp_path / "dsir.npz", 0)
    assert found.statistics.raw.counts.tolist() == counts(
        [*streams[0], *streams[1][:12], *streams[2][:11]], 500
    )


def test_the_card_says_what_was_counted_and_how_it_does(tmp_path: Path) -> None:
    found = trained(tmp_path / "dsir.npz", held_out=0.3)
    card = found.card.read_text()
    assert f"| river | 60 | {60 * 79} |" in card
    assert "| ngrams_to_fit | 50000000 |" in card
    assert found.model.sha256 in card
    assert "1.0000 |" in card


@pytest.mark.parametrize(
    ("target", "raw", "message"),
    [
        ({}, ["a b"], "there is no target"),
        ({"Big": ["a b"]}, ["a b"], "small letters"),
        ({"raw": ["a b"]}, ["a b"], "cannot be called"),
        ({"code": ["", None]}, ["a b"], "code: there is no document with a word"),
        ({"code": ["a b"]}, [" "], "raw: there is no document with a word"),
    ],
)
def test_data_that_make_no_statistics_are_refused(
    target: dict[str, list[str | None]], raw: list[str | None], message: str, tmp_path: Path
) -> None:
    named = {name: batches(texts) for name, texts in target.items()}
    with pytest.raises(ValueError, match=message):
        DsirTrainer().train(named, [batches(raw)], tmp_path / "dsir.npz", 0)
    assert not (tmp_path / "dsir.npz").exists()


@pytest.mark.parametrize(
    "parameters",
    [
        {"buckets": 0},
        {"ngram": 9},
        {"ngrams_to_fit": 0},
        {"smoothing": -1.0},
        {"held_out": 1.0},
        {"min_tokens": -1},
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters))):
        DsirTrainer(**parameters)  # type: ignore[arg-type]
