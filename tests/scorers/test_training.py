"""Training a fastText classifier from labelled text."""

from __future__ import annotations

import hashlib
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.fasttext import FastTextScorer
from thresher.scorers.training import FastTextTrainer, Trained, TrainingError, train_fasttext
from thresher.scorers.training_text import TrainingText, as_line

fasttext = pytest.importorskip("fasttext")
SMALL = FastTextTrainer(dim=8, bucket=1000, epoch=10, lr=0.5, held_out=0.25, licence="CC0-1.0")
GOOD = ["theorem", "proof", "lemma", "integral", "measure", "compact", "converge", "function"]
BAD = ["buy", "cheap", "click", "offer", "casino", "winner", "bonus", "free"]
BOTH = ["the", "a", "of", "and", "to", "in", "is", "that"]


def documents(words: list[str], count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=8) + rng.choices(BOTH, k=20)) for _ in range(count)]


def batches(texts: list[str | None], size: int = 50) -> list[pa.RecordBatch]:
    rows = pa.record_batch({"text": pa.array(texts, pa.string())})
    return [rows.slice(start, size) for start in range(0, len(texts), size)]


def trained(out: Path, trainer: FastTextTrainer = SMALL, seed: int = 1) -> Trained:
    return train_fasttext(
        batches([*documents(GOOD, 200, 1), None, " \n"]),
        batches(documents(BAD, 200, 2)),
        out,
        seed=seed,
        trainer=trainer,
        sources={"hq": ["good/*.jsonl"]},
    )


def test_a_trained_classifier_tells_documents_apart_that_it_has_not_seen(tmp_path: Path) -> None:
    found = trained(tmp_path / "hq.bin")
    assert sum(found.held_out.values()) + sum(found.documents.values()) == 400
    assert found.skipped == 2
    assert 60 < sum(found.held_out.values()) < 140
    for label in ("hq", "lq"):
        metrics = found.metrics[label]
        assert metrics.documents == found.held_out[label]
        assert metrics.auc is not None
        assert metrics.auc > 0.99
    scorer = FastTextScorer("hq.bin", "hq")
    scorer.open(LocalAssets([tmp_path]))
    unseen = pa.record_batch({"text": [documents(GOOD, 1, 77)[0], documents(BAD, 1, 78)[0]]})
    good, bad = scorer.score(unseen)["score"].to_pylist()
    assert good > 0.8
    assert bad < 0.2


def test_the_same_data_and_seed_give_the_same_model_and_card_in_whatever_order_they_come(
    tmp_path: Path,
) -> None:
    first = trained(tmp_path / "one" / "hq.bin")
    texts = documents(GOOD, 200, 1)[::-1]
    second = train_fasttext(
        batches([None, *texts, ""], size=7),
        batches(documents(BAD, 200, 2)),
        tmp_path / "two" / "hq.bin",
        seed=1,
        trainer=SMALL,
        sources={"hq": ["good/*.jsonl"]},
    )
    assert first.model.sha256 == second.model.sha256
    assert first.card.read_bytes() == second.card.read_bytes()
    other = trained(tmp_path / "hq.bin", seed=2)
    assert other.model.sha256 != first.model.sha256


def test_the_metrics_are_those_that_fasttext_counts_itself(tmp_path: Path) -> None:
    mixed = [*documents(GOOD, 150, 3), *documents(BAD, 60, 4)]
    text = TrainingText(tmp_path, ["hq", "lq"], 5, 0.25)
    for label, texts in (("hq", mixed), ("lq", documents(BAD, 150, 6))):
        text.add(label, pa.array(texts))
    text.close()
    held = [
        f"__label__{label} {line}"
        for label in ("hq", "lq")
        for lines in text.held_out_lines(label, 10)
        for line in lines
    ]
    (tmp_path / "held.txt").write_text("\n".join(held) + "\n")
    found = train_fasttext(
        batches(mixed), batches(documents(BAD, 150, 6)), tmp_path / "m.bin", seed=5, trainer=SMALL
    )
    wanted = fasttext.load_model(str(tmp_path / "m.bin")).test_label(str(tmp_path / "held.txt"))
    assert found.metrics["hq"].recall != 1.0, "the test wants an imperfect model"
    for label in ("hq", "lq"):
        assert found.metrics[label].precision == pytest.approx(wanted[f"__label__{label}"]["precision"])
        assert found.metrics[label].recall == pytest.approx(wanted[f"__label__{label}"]["recall"])


def test_the_card_says_what_the_model_is_made_of(tmp_path: Path) -> None:
    found = trained(tmp_path / "hq.bin")
    card = (tmp_path / "hq.bin.md").read_text()
    assert found.card == tmp_path / "hq.bin.md"
    assert f"| hq | {found.documents['hq']} | {found.held_out['hq']} | good/*.jsonl |" in card
    assert "| word_ngrams | 2 |" in card
    assert "| seed | 1 |" in card
    assert hashlib.sha256((tmp_path / "hq.bin").read_bytes()).hexdigest() in card
    assert "CC0-1.0" in card
    assert f"{found.metrics['hq'].auc:.4f}" in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hq.bin", "hq.bin.md"]


def test_copies_of_a_text_are_never_on_both_sides_of_the_split(tmp_path: Path) -> None:
    text = TrainingText(tmp_path, ["hq", "lq"], 0, 0.5)
    texts = [f"document {row % 20}" for row in range(200)]
    text.add("hq", pa.array(texts))
    training, _ = text.close()
    held = {line for lines in text.held_out_lines("hq", 7) for line in lines}
    learned = {line.removeprefix("__label__hq ") for line in training.read_text().splitlines()}
    assert held | learned == set(texts)
    assert not held & learned
    assert held
    assert learned


def test_labels_are_mixed_in_the_training_text(tmp_path: Path) -> None:
    text = TrainingText(tmp_path, ["a", "b"], 0, 0.0)
    text.add("a", pa.array([f"one {row}" for row in range(500)]))
    text.add("b", pa.array([f"two {row}" for row in range(500)]))
    training, _ = text.close()
    labels = [line.split()[0] for line in training.read_text().splitlines()]
    assert 200 < labels[:500].count("__label__a") < 300


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines", "two lines"),
        ("say __label__lq or </s> here", "say  or  here"),
        ("__label__hq", ""),
        ("a__label__b </s>tail", "a__label__b </s>tail"),
        ("\0 \t", ""),
        (None, ""),
        ("\u3000", ""),
        ("it's</s>", "it's</s>"),
    ],
)
def test_a_document_cannot_smuggle_in_a_label_or_an_end_of_line(text: str | None, line: str) -> None:
    assert as_line(text) == line


def test_fasttext_reads_each_training_line_as_one_document_with_its_label(tmp_path: Path) -> None:
    odd = ["a </s> b", "x __label__lq y", "one\ntwo", "nul\0nul", "\u2028 sep", "cr\rcr", "🦄 \U0010ffff"]
    trainer = FastTextTrainer(dim=2, epoch=1, bucket=10, held_out=0.0)
    found = trainer.train({"hq": batches(odd), "lq": batches(["plain"] * 3)}, tmp_path / "m.bin", 0)
    labels, counts = fasttext.load_model(found.model.path).get_labels(include_freq=True)
    assert dict(zip(labels, counts.tolist(), strict=True)) == {"__label__hq": 7, "__label__lq": 3}
    assert found.metrics == {}
    assert "nothing is known" in found.card.read_text()


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="NaN"):
        trained(tmp_path / "m.bin", FastTextTrainer(dim=8, bucket=1000, lr=1e30))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"hq": []}, "at least two labels"),
        ({"hq": [], "two words": []}, "not one word"),
        ({"hq": batches(["some text"] * 3), "lq": batches([None])}, "label lq has no document"),
    ],
)
def test_data_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, data: dict[str, list[pa.RecordBatch]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FastTextTrainer(dim=2, bucket=10, held_out=0.0).fit(data, tmp_path / "x.bin", 0)
    assert list(tmp_path.iterdir()) == []


def test_parameters_out_of_range_are_refused() -> None:
    for parameters in ({"dim": 0}, {"lr": 0.0}, {"held_out": 1.0}, {"maxn": 2, "minn": 3}):
        with pytest.raises(ValueError, match=next(iter(parameters))):
            FastTextTrainer(**parameters)


def test_n_grams_of_characters_tell_addresses_apart_that_no_word_does(tmp_path: Path) -> None:
    def addresses(host: str, seed: int) -> list[str]:
        draw = random.Random(seed)
        return [f"https://{host}.org/{draw.randrange(10**9)}.html" for _ in range(150)]

    kinds = {"bad": addresses("login-bank", 1), "good": addresses("school", 2)}
    scores = {}
    for maxn in (0, 5):
        trainer = FastTextTrainer(
            dim=8, bucket=2000, epoch=10, lr=0.5, held_out=0.0, minn=3 if maxn else 0, maxn=maxn
        )
        data = {label: batches(list(urls)) for label, urls in kinds.items()}
        trainer.fit(data, tmp_path / f"{maxn}.bin", 0)
        scorer = FastTextScorer(str(tmp_path / f"{maxn}.bin"), "bad", column="url")
        scorer.open(LocalAssets())
        others = [*addresses("login-bank", 3)[:20], *addresses("school", 4)[:20]]
        scores[maxn] = scorer.score(pa.record_batch({"url": others}))["score"].to_pylist()
    assert [score > 0.5 for score in scores[5]] == [True] * 20 + [False] * 20
    # A new word is none to it, but for hashes of its pairs that fall together by chance.
    assert len({score > 0.5 for score in scores[0]}) == 1


def test_a_fasttext_that_can_only_predict_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fasttext", SimpleNamespace(load_model=None))
    with pytest.raises(AssetError, match="fasttext-predict is here, which cannot train; install it with"):
        trained(tmp_path / "x.bin")
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(AssetError, match="training needs the package fasttext"):
        trained(tmp_path / "x.bin")
