"""Training encoders and heads: what is learned, what is held out, and that chance decides nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from thresher.filters.embeddings.matrix import matrix_of
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets, checksum
from thresher.scorers.encoders.learning import Task, _by_errors, _shares
from thresher.scorers.encoders.scoring import EncoderScorer
from thresher.scorers.encoders.training import EncoderTrainer
from thresher.scorers.encoders.training_data import LabelledTexts

torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")

RIVER = "the river mill water old"
SCHOOL = "learn teach school light in"
SMALL = {"frozen": True, "device": "cpu", "threads": 1}


def examples(count: int = 240, seed: int = 0) -> pa.RecordBatch:
    """Texts with the share of words of school, in fifths, and which kind has most."""
    draw = random.Random(seed)
    texts, shares = [], []
    for number in range(count):
        share = number % 6 / 5
        words = [draw.choice((SCHOOL if draw.random() < share else RIVER).split()) for _ in range(20)]
        texts.append(" ".join(words))
        shares.append(round(5 * sum(word in SCHOOL.split() for word in words) / 20))
    kinds = ["school" if share > 2 else "river" for share in shares]
    return pa.RecordBatch.from_pydict({"text": texts, "edu": shares, "kind": kinds})


def said(folder: Path, texts: list[str], **arguments: Any) -> dict[str, list[Any]]:
    scorer = EncoderScorer(str(folder), precision="fp32", device="cpu", **arguments)
    scorer.open(LocalAssets())
    found = scorer.score(scorer.prepare(pa.RecordBatch.from_pydict({"text": texts})))
    return {name: column.to_pylist() for name, column in found.items()}


def test_heads_on_a_frozen_encoder_are_regressions_on_its_embeddings(bert: Path, tmp_path: Path) -> None:
    batch = examples()
    trained = EncoderTrainer(start=str(bert), held_out=0.0, **SMALL).train(
        [batch], ["edu", "kind"], tmp_path / "made", 0
    )
    assert (trained.texts, trained.held_out, trained.epochs) == (240, 0, 0)
    texts = batch.column("text").to_pylist()
    found = said(tmp_path / "made", texts, outputs=["embedding", "edu", "kind_label", "kind_school"])
    rows = np.array(found["embedding"], np.float64)
    target = np.array(batch.column("edu").to_pylist(), np.float64)
    # Least squares, without a penalty: the one that was chosen is small, as the texts are many.
    with_one = np.column_stack([rows, np.ones(len(rows))])
    fitted = with_one @ np.linalg.lstsq(with_one, target, rcond=None)[0]
    assert np.corrcoef(found["edu"], fitted)[0, 1] > 0.99
    right = [a == b for a, b in zip(found["kind_label"], batch.column("kind").to_pylist(), strict=True)]
    assert np.mean(right) > 0.9
    chosen = [label == "school" for label in found["kind_label"]]
    assert chosen == [share > 0.5 for share in found["kind_school"]]


def test_the_order_of_the_records_changes_nothing_and_copies_are_on_one_side(
    bert: Path, tmp_path: Path
) -> None:
    batch = examples(120)
    twice = pa.Table.from_batches([batch, batch]).combine_chunks().to_batches()[0]
    mixed = twice.take(pa.array(np.random.default_rng(1).permutation(len(twice))))
    trainer = EncoderTrainer(start=str(bert), held_out=0.3, **SMALL)
    one = trainer.train([twice], ["edu"], tmp_path / "one", 5)
    parts = [mixed.slice(0, 50), mixed.slice(50)]
    other = trainer.train(parts, ["edu"], tmp_path / "other", 5)
    for name in ("heads.safetensors", "heads.json", "model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert one.figures == other.figures
    assert one.held_out % 2 == 0
    assert one.data_sha256 == other.data_sha256

    data = LabelledTexts(["edu"], 5, 0.3)
    data.add(twice)
    division = data.divided({})
    sides: dict[str, set[tuple[bool, bool]]] = {}
    for text, held, checked in zip(division.texts, division.held, division.checked, strict=True):
        sides.setdefault(text, set()).add((bool(held), bool(checked)))
    assert all(len(side) == 1 for side in sides.values())
    assert 0.15 < division.held.mean() < 0.45
    assert 0.02 < division.checked.mean() < 0.15


def test_heads_learned_by_steps_have_a_hidden_layer_and_are_what_they_were_when_best(
    bert: Path, tmp_path: Path
) -> None:
    told: list[Any] = []
    trainer = EncoderTrainer(
        start=str(bert), hidden=8, lr=0.01, batch=32, epochs=12, patience=4, pooling="cls", **SMALL
    )
    trained = trainer.train([examples()], ["edu"], tmp_path / "made", 0, report=told.append)
    settings = json.loads((tmp_path / "made" / "heads.json").read_text())
    assert settings["pooling"] == "cls"
    assert settings["normalised"] is False
    assert settings["heads"][0]["activation"] == "tanh"
    assert len(settings["heads"][0]["layers"]) == 2
    losses = [progress.checked for progress in told]
    assert trained.best_epoch == 1 + int(np.argmin(losses))
    assert [progress.best for progress in told] == [
        loss == min(losses[: n + 1]) for n, loss in enumerate(losses)
    ]
    assert trained.figures["edu"]["Spearman"] > 0.7


def test_an_encoder_learns_with_its_heads_and_transformers_reads_it(bert: Path, tmp_path: Path) -> None:
    trainer = EncoderTrainer(
        start=str(bert), lr=2e-3, epochs=8, batch=16, class_weights="balanced", device="cpu", threads=1
    )
    trained = trainer.train([examples()], ["kind", "edu"], tmp_path / "made", 0)
    assert trained.figures["kind"]["AUC"] > 0.9
    assert trained.figures["edu"]["R²"] > 0.5
    before = transformers.AutoModel.from_pretrained(str(bert)).state_dict()
    after = transformers.AutoModel.from_pretrained(str(tmp_path / "made")).state_dict()
    assert not torch.equal(
        before["embeddings.word_embeddings.weight"], after["embeddings.word_embeddings.weight"]
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "made"))
    assert tokenizer("the river")["input_ids"] == [2, 5, 8, 3]


def test_training_again_gives_the_same_bytes(bert: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        EncoderTrainer(start=str(bert), lr=1e-3, epochs=1, batch=32, device="cpu", threads=1).train(
            [examples(80)], ["kind"], tmp_path / name, 3
        )
    for file in ("model.safetensors", "heads.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_texts_without_one_of_the_targets_teach_the_others(bert: Path, tmp_path: Path) -> None:
    batch = examples(120)
    gone = [value if n % 3 else None for n, value in enumerate(batch.column("edu").to_pylist())]
    partly = pa.RecordBatch.from_pydict(
        {
            "text": [*batch.column("text").to_pylist(), None, " ", "a cat"],
            "edu": [*gone, 1, 2, None],
            "kind": [*batch.column("kind").to_pylist(), "river", "river", None],
        }
    )
    for more in ({}, {"epochs": 2}):
        trained = EncoderTrainer(start=str(bert), **SMALL, **more).train(
            [partly], ["edu", "kind"], tmp_path / "made", 0
        )
        assert trained.skipped == 3
        assert trained.texts + trained.held_out == 120
        assert {"R²", "Spearman"} < set(trained.figures["edu"])


def test_ctrl_c_keeps_the_best_heads_so_far(bert: Path, tmp_path: Path) -> None:
    def stop(progress: Any) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    trainer = EncoderTrainer(start=str(bert), lr=0.01, epochs=50, batch=64, **SMALL)
    trained = trainer.train([examples(120)], ["kind"], tmp_path / "made", 0, report=stop)
    assert (trained.ending, trained.epochs) == ("interrupted", 3)
    assert said(tmp_path / "made", ["the river"], outputs="kind_label")["kind_label"][0] in (
        "river",
        "school",
    )
    assert "it was interrupted" in trained.card.read_text()


def test_the_card_tells_the_figures_and_the_checksum(bert: Path, tmp_path: Path) -> None:
    trained = EncoderTrainer(start=str(bert), licence="CC0-1.0", **SMALL).train(
        [examples()], ["edu"], tmp_path / "made", 0, sources=["labels.jsonl"]
    )
    card = (tmp_path / "made" / "README.md").read_text()
    assert checksum(tmp_path / "made" / "heads.safetensors") == trained.weights.sha256
    for shown in (trained.weights.sha256, "labels.jsonl", "CC0-1.0", f"{trained.figures['edu']['R²']:.4f}"):
        assert shown in card


def test_the_labels_of_streams_are_learned_too(bert: Path, tmp_path: Path) -> None:
    batch = examples(100)
    streams = {
        label: [batch.filter(pa.compute.equal(batch.column("kind"), label)).select(["text"])]
        for label in ("river", "school")
    }
    made = EncoderTrainer(start=str(bert), **SMALL).fit(streams, tmp_path / "made", 0)
    assert Path(made.path).name == "heads.safetensors"
    found = said(tmp_path / "made", ["the river mill", "learn in school"], outputs="label_label")
    assert found["label_label"] == ["river", "school"]


def test_heads_of_a_folder_that_had_others_are_replaced(bert: Path, tmp_path: Path) -> None:
    trainer = EncoderTrainer(start=str(bert), **SMALL)
    trainer.train([examples(60)], ["edu"], tmp_path / "made", 0)
    again = EncoderTrainer(start=str(tmp_path / "made"), **SMALL)
    again.train([examples(60)], ["kind"], tmp_path / "made", 0)
    with pytest.raises(AssetError, match="has no output 'edu'"):
        said(tmp_path / "made", ["a"], outputs="edu")
    assert said(tmp_path / "made", ["a"], outputs="kind_label")
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is there, and is no folder of an encoder"):
        trainer.train([examples(60)], ["edu"], other, 0)
    assert [file.name for file in other.iterdir()] == ["mine.txt"]


def test_classes_weigh_by_how_often_they_were_mistaken() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2, np.nan])
    chosen = np.array([0, 1, 1, 1, 0, 2, 0])
    weights = _by_errors(truth, chosen, torch.ones(3)).numpy()
    matrix = np.zeros((3, 3))
    for true, guess in zip(truth[:6].astype(int), chosen[:6], strict=True):
        matrix[true, guess] += 1
    errors = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diag(matrix)
    expected = np.log1p(errors) / np.log1p(errors).sum() * 3
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    same = _by_errors(np.array([0.0, 1.0]), np.array([0, 1]), torch.tensor([2.0, 1.0]))
    assert same.tolist() == [2.0, 1.0]


def test_rare_classes_are_drawn_as_often_as_common_ones() -> None:
    from thresher.scorers.encoders.heads import Question

    values = np.array([0.0] * 8 + [1.0] * 2 + [np.nan])
    task = Task({"x": Question("classification", ("a", "b"))}, {"x": values}, np.arange(10), np.array([10]))
    shares = _shares(task)
    assert shares[:8].sum() == pytest.approx(0.5)
    assert shares[8:].sum() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("targets", "kinds", "change", "told"),
    [
        (["edu", "edu"], None, {}, "write different ones"),
        (["embedding"], None, {"embedding": [1, 2]}, "cannot be called 'embedding'"),
        (["kind"], {"kind": "regression"}, {}, "is no number; a regression"),
        (["one"], None, {"one": ["a", "a"]}, "do not have two different values"),
        (["list"], None, {"list": [[1], [2]]}, r"\] is no target"),
    ],
)
def test_targets_that_teach_nothing_are_refused(
    bert: Path, tmp_path: Path, targets: list[str], kinds: Any, change: dict[str, Any], told: str
) -> None:
    columns = {"text": ["a", "b"], "edu": [1, 2], "kind": ["river", "school"], **change}
    trainer = EncoderTrainer(start=str(bert), kinds=kinds, held_out=0.0, **SMALL)
    with pytest.raises(ValueError, match=told):
        trainer.train([pa.RecordBatch.from_pydict(columns)], targets, tmp_path / "made", 0)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"frozen": True}, "frozen needs an encoder"),
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": 0.0}, "lr is 0"),
        ({"held_out": 1.0}, "held_out is 1"),
        ({"class_weights": "rare"}, "write none or balanced or errors"),
        ({"kinds": {"a": "ranking"}}, "kind of a is 'ranking'"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        EncoderTrainer(**parameters)


def test_a_model_with_a_head_of_its_own_gets_new_ones(
    write_model: Callable[..., Path], tmp_path: Path
) -> None:
    start = write_model(tmp_path / "start", "BertForSequenceClassification", num_labels=1)
    EncoderTrainer(start=str(start), **SMALL).train([examples(60)], ["kind"], tmp_path / "made", 0)
    batch = examples(4)
    texts = batch.column("text").to_pylist()
    scorer = EncoderScorer(str(tmp_path / "made"), outputs=["embedding", "kind_label"], precision="fp32")
    scorer.open(LocalAssets())
    found, _ = matrix_of(scorer.score(scorer.prepare(batch))["embedding"])
    before = said(start, texts, outputs="embedding")["embedding"]
    np.testing.assert_allclose(found, np.array(before, np.float32), atol=1e-3)
