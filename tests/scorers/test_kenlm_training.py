"""Training a tokenizer and a language model of its pieces."""

from __future__ import annotations

import math
import random
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.schemas.contracts import AssetError
from thresher.scorers import kenlm_tools
from thresher.scorers.assets import LocalAssets
from thresher.scorers.kenlm import KenLMScorer
from thresher.scorers.kenlm_training import KenLMTrainer
from thresher.scorers.sentencepiece_training import SentencePieceTrainer, cut
from thresher.scorers.training import TrainingError
from thresher.scorers.training_documents import TrainingDocuments

pytest.importorskip("kenlm", reason="needs the package kenlm")
sentencepiece = pytest.importorskip("sentencepiece", reason="needs the package sentencepiece")
SYLLABLES = ["ka", "lo", "mi", "ren", "tu", "sha", "vel", "dor", "pi", "nu", "gra", "shi"]


def documents(count: int, seed: int) -> list[str]:
    """Texts of words that follow Zipf's law, as those of a language do."""
    chance = random.Random(7)
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(400)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    chance = random.Random(seed)
    return [" ".join(chance.choices(words, weights, k=40)) for _ in range(count)]


def batches(texts: list[str | None], size: int = 64) -> list[pa.RecordBatch]:
    rows = pa.record_batch({"text": pa.array(texts, pa.string())})
    return [rows.slice(start, size) for start in range(0, len(texts), size)]


TEXTS = documents(400, 1)
TOKENIZER = SentencePieceTrainer(vocab_size=120, licence="CC0-1.0")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "sp.model"
    TOKENIZER.fit({"": batches(TEXTS)}, path, 0)
    return path


def test_a_tokenizer_has_the_pieces_that_were_asked_for_and_a_card(tmp_path: Path) -> None:
    found = TOKENIZER.train(batches([*TEXTS, None, " "]), tmp_path / "sp.model", 3, ["wiki/*.jsonl"])
    assert sentencepiece.SentencePieceProcessor(model_file=found.model.path).get_piece_size() == 120
    assert (found.documents + found.held_out, found.skipped) == (400, 2)
    assert 20 < found.held_out < 70
    card = found.card.read_text()
    assert found.card == tmp_path / "sp.model.md"
    for told in ("(unigram) of 120 pieces", "wiki/*.jsonl", "CC0-1.0", found.model.sha256, "| seed | 3 |"):
        assert told in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sp.model", "sp.model.md"]


def test_the_tokenizers_figures_are_those_of_its_pieces_on_unseen_documents(tmp_path: Path) -> None:
    found = TOKENIZER.train(batches(TEXTS), tmp_path / "sp.model", 3)
    store = TrainingDocuments(tmp_path, 3, 0.1, 10**6)
    for batch in batches(TEXTS):
        store.add(batch.column("text"))
    held = [line for lines in store.held_out() for line in lines]
    store.close()
    model = sentencepiece.SentencePieceProcessor(model_file=found.model.path)
    pieces = sum(len(model.encode(line)) for line in held)
    assert len(held) == found.held_out
    assert found.figures["characters per piece"] == pytest.approx(sum(map(len, held)) / pieces)
    assert found.figures["share of unknown pieces"] == 0


def test_where_the_text_is_too_little_the_smaller_vocabulary_is_taken(tmp_path: Path) -> None:
    trainer = SentencePieceTrainer(vocab_size=65_536, fallback_vocab_size=100)
    out = tmp_path / "sp.model"
    trainer.fit({"": batches(TEXTS)}, out, 0)
    assert sentencepiece.SentencePieceProcessor(model_file=str(out)).get_piece_size() == 100
    SentencePieceTrainer(hard_vocab_limit=False).fit({"": batches(TEXTS)}, out, 0)
    assert 100 < sentencepiece.SentencePieceProcessor(model_file=str(out)).get_piece_size() < 40_000
    with pytest.raises(TrainingError, match=r"vocabulary of 65536 and 40000 pieces; .* of at most \d+$"):
        SentencePieceTrainer().fit({"": batches(TEXTS)}, tmp_path / "none.model", 0)
    with pytest.raises(TrainingError, match=r"SentencePiece stopped: .*required_chars"):
        SentencePieceTrainer(vocab_size=8).fit({"": batches(TEXTS)}, tmp_path / "none.model", 0)
    assert not (tmp_path / "none.model").exists()


def test_a_document_longer_than_sentencepiece_reads_is_learned_from_too(tmp_path: Path) -> None:
    long = " ".join(TEXTS)
    SentencePieceTrainer(vocab_size=120, held_out=0).fit({"": batches([long])}, tmp_path / "one.model", 0)
    parts = [" ".join(TEXTS[start : start + 10]) for start in range(0, len(TEXTS), 10)]
    SentencePieceTrainer(vocab_size=120, held_out=0).fit({"": batches(parts)}, tmp_path / "all.model", 0)

    def pieces(name: str) -> set[str]:
        model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / name))
        return {model.id_to_piece(number) for number in range(model.get_piece_size())}

    assert len(long) > 20 * 4192
    assert len(pieces("one.model") & pieces("all.model")) > 60


@given(st.text(st.sampled_from("ab é漢🦄"), max_size=60), st.integers(4, 20))
def test_parts_of_a_line_are_short_enough_and_make_the_line_again(line: str, most: int) -> None:
    parts = list(cut(line, most))
    assert "".join(parts) == line
    assert all(0 < len(part.encode()) <= most for part in parts)
    for part, after in pairwise(parts):
        assert part.endswith(" ") or " " not in part
        assert len((part + after).encode()) > most or part.endswith(" ")


def test_what_is_learned_does_not_depend_on_the_order_of_the_input(
    lmplz: object, tokenizer: Path, tmp_path: Path
) -> None:
    shuffled = random.Random(2).sample(TEXTS, len(TEXTS))
    for name, texts in (("one", TEXTS), ("two", shuffled)):
        (tmp_path / name).mkdir()
        again = SentencePieceTrainer(vocab_size=120, max_documents=150)
        again.fit({"": batches(texts, 17)}, tmp_path / name / "sp.model", 5)
        model = KenLMTrainer(str(tokenizer), order=3, max_documents=150)
        model.fit({"": batches(texts, 33)}, tmp_path / name / "lm.bin", 5)
    for file in ("sp.model", "sp.model.md", "lm.bin", "lm.bin.md"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    KenLMTrainer(str(tokenizer), order=3, max_documents=150).fit({"": batches(TEXTS)}, tmp_path / "lm.bin", 6)
    assert (tmp_path / "lm.bin").read_bytes() != (tmp_path / "one" / "lm.bin").read_bytes()


def test_the_model_is_measured_on_documents_that_it_has_not_seen(
    lmplz: object, tokenizer: Path, tmp_path: Path
) -> None:
    out = tmp_path / "lm.bin"
    found = KenLMTrainer(str(tokenizer), held_out=0.2, licence="CC0-1.0").train(
        batches([*TEXTS, None]), out, 4, ["wiki/*.jsonl"]
    )
    store = TrainingDocuments(tmp_path, 4, 0.2, 10**6)
    store.add(pa.array(TEXTS))
    held = pa.record_batch({"text": [" ".join(lines) for lines in store.held_out()]})
    store.close()
    scorer = KenLMScorer("lm.bin", str(tokenizer), decimals=None, details=True)
    scorer.open(LocalAssets([tmp_path]))
    scores = scorer.score(held)
    score, words = (sum(scores[name].to_pylist()) for name in ("log_score", "words"))
    assert (found.documents + found.held_out, found.skipped) == (400, 1)
    assert found.held_out == len(held)
    figures = list(found.figures.values())
    assert figures[0] == pytest.approx(10 ** (-score / words), rel=1e-4)
    ordered = sorted(scores["perplexity"].to_pylist())
    assert figures[1:] == sorted(figures[1:])
    assert ordered[0] <= figures[1] <= figures[-1] <= ordered[-1]
    card = found.card.read_text()
    for told in ("order 5 over the pieces of sp.model", "percentile 30 | ", "CC0-1.0", found.model.sha256):
        assert told in card
    assert sorted(path.name for path in tmp_path.iterdir() if "lm" in path.name) == ["lm.bin", "lm.bin.md"]


def test_a_pruned_model_and_a_trie_of_few_bits_are_smaller_and_score_about_alike(
    lmplz: object, tokenizer: Path, tmp_path: Path
) -> None:
    import kenlm

    whole = tmp_path / "whole.bin"
    KenLMTrainer(str(tokenizer), order=3, held_out=0).fit({"": batches(TEXTS)}, whole, 0)
    variants = {"pruned": {"prune": (0, 1, 3)}, "trie": {"structure": "trie", "quantize": 8}}
    for name, more in variants.items():
        trainer = KenLMTrainer(str(tokenizer), order=3, held_out=0, **more)  # type: ignore[arg-type]
        trainer.fit({"": batches(TEXTS)}, tmp_path / f"{name}.bin", 0)
        assert (tmp_path / f"{name}.bin").stat().st_size < whole.stat().st_size
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    line = " ".join(pieces.encode(TEXTS[0], out_type=str))
    scores = {name: kenlm.Model(str(tmp_path / f"{name}.bin")).score(line) for name in ("whole", *variants)}
    assert scores["trie"] == pytest.approx(scores["whole"], rel=0.05)
    assert scores["pruned"] < scores["whole"]


def test_separate_lines_are_sentences_of_their_own(lmplz: object, tokenizer: Path, tmp_path: Path) -> None:
    import kenlm

    chance = random.Random(3)
    texts = ["\n".join(chance.choices(["mi", "ka lo", "ren"], k=5)) for _ in range(200)]
    for lines in ("joined", "separate"):
        trainer = KenLMTrainer(str(tokenizer), order=2, lines=lines, held_out=0)  # type: ignore[arg-type]
        trainer.fit({"": batches(texts)}, tmp_path / f"{lines}.bin", 0)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    line = " ".join(pieces.encode("ren", out_type=str))
    scores = {name: kenlm.Model(str(tmp_path / f"{name}.bin")).score(line) for name in ("joined", "separate")}
    assert scores["separate"] > scores["joined"]
    assert scores["separate"] == pytest.approx(math.log10(1 / 3), abs=0.2)


def test_the_documents_learned_from_are_those_with_the_least_hashes(tmp_path: Path) -> None:
    def learned(texts: list[str], count: int, size: int) -> list[str]:
        folder = tmp_path / f"{count}-{size}-{texts[0][:9]}"
        folder.mkdir()
        store = TrainingDocuments(folder, 1, 0.3, count)
        for batch in batches(texts, size):
            store.add(batch.column("text"))
        found = [line for lines in store.learned() for line in lines]
        assert not Counter(found) & Counter(line for lines in store.held_out() for line in lines)
        store.close()
        return found

    everything = learned(TEXTS, 10**6, 400)
    assert 220 < len(everything) < 340
    assert everything != [text for text in TEXTS if text in set(everything)], "the order is the hash's"
    for count in (1, 50, 199):
        assert learned(TEXTS, count, 9) == everything[:count]
        assert learned(TEXTS[::-1], count, 50) == everything[:count]


def test_text_without_words_and_parameters_out_of_range_are_refused(
    lmplz: object, tokenizer: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no document with text"):
        SentencePieceTrainer().fit({"": batches([None, "\n"])}, tmp_path / "x.model", 0)
    with pytest.raises((ValueError, TrainingError)):
        KenLMTrainer(str(tokenizer)).fit({"": batches([None])}, tmp_path / "x.bin", 0)
    assert list(tmp_path.iterdir()) == []
    for wrong in ({"vocab_size": 0}, {"character_coverage": 0}, {"model_type": "word"}, {"held_out": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SentencePieceTrainer(**wrong)  # type: ignore[arg-type]
    for wrong in (
        {"order": 1},
        {"prune": (1, 2)},
        {"prune": (0, 2, 1)},
        {"quantize": 8},
        {"memory": "much"},
        {"structure": "hash"},
        {"normalize": "nfc"},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            KenLMTrainer("sp.model", **wrong)  # type: ignore[arg-type]


def test_what_lmplz_says_is_told_when_it_gives_up(lmplz: object, tokenizer: Path, tmp_path: Path) -> None:
    trainer = KenLMTrainer(str(tokenizer), order=5, discount_fallback=False, held_out=0)
    with pytest.raises(TrainingError, match=r"lmplz ended with status .*discount"):
        trainer.fit({"": batches(["ka lo mi"] * 3)}, tmp_path / "x.bin", 0)
    assert list(tmp_path.iterdir()) == []


def test_lmplz_is_looked_for_where_the_variable_says_then_in_the_cache_then_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(folder: Path) -> Path:
        folder.mkdir(parents=True)
        for name in ("lmplz", "build_binary"):
            (folder / name).write_text("#!/bin/sh\n")
            (folder / name).chmod(0o755)
        return folder / "lmplz"

    monkeypatch.delenv(kenlm_tools.TOOLS_VARIABLE, raising=False)
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    with pytest.raises(AssetError, match=r"lmplz and build_binary; build them with .*kenlm_tools"):
        kenlm_tools.find()
    on_path = program(tmp_path / "path")
    assert kenlm_tools.find().lmplz == on_path
    cached = program(kenlm_tools.built_tools())
    assert kenlm_tools.find().lmplz == cached
    named = program(tmp_path / "own" / "bin")
    monkeypatch.setenv(kenlm_tools.TOOLS_VARIABLE, str(tmp_path / "own"))
    assert kenlm_tools.find().lmplz == named
    monkeypatch.setenv(kenlm_tools.TOOLS_VARIABLE, str(tmp_path))
    with pytest.raises(AssetError, match=r"THRESHER_KENLM is .*, which does not hold lmplz"):
        kenlm_tools.find()


def test_a_build_that_cannot_be_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "not.tar.gz").write_text("not an archive")
    with pytest.raises(kenlm_tools.BuildError, match=r"not\.tar\.gz: cannot be unpacked"):
        kenlm_tools.build(tmp_path / "not.tar.gz")
    monkeypatch.setattr(sys, "argv", ["kenlm_tools", "--source", str(tmp_path / "not.tar.gz")])
    assert kenlm_tools.main() == 2
    assert "cannot be unpacked" in capsys.readouterr().err
