from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from thresher.filters.fasttext_model import FastTextModel, load
from thresher.filters.text.language import default_model
from thresher.schemas.contracts import AssetError

LINES = [
    "The cat sat on the mat.",
    "Der Hund läuft über die Straße.",
    "これは日本語の文章です。",
    "",
    "\0",
    " \t",
]


@pytest.fixture(scope="module")
def model() -> FastTextModel:
    return load(default_model())


def test_predictions_are_fasttext_s_own(model: FastTextModel) -> None:
    import fasttext

    native = fasttext.load_model(str(default_model())).f
    labels, scores = model.predict_batch(LINES)
    for line, label, score in zip(LINES, labels, scores, strict=True):
        ((probability, name),) = native.predict(line + "\n", 1, 0.0, "strict")
        assert (f"__label__{label}", score) == (name, np.float32(min(probability, 1.0)))
    assert labels[:3] == ["en", "de", "ja"]


def test_labels_are_sorted_and_bare(model: FastTextModel) -> None:
    assert len(model.labels) == 176
    assert list(model.labels) == sorted(model.labels)
    assert "en" in model.labels


def test_the_probabilities_of_all_labels_add_up_to_one(model: FastTextModel) -> None:
    total = sum(model.probability(LINES[:3], label) for label in model.labels)
    assert np.allclose(total, 1.0, atol=0.01)


def test_the_probability_of_the_best_label_is_its_score_with_or_without_the_prefix(
    model: FastTextModel,
) -> None:
    _, scores = model.predict_batch(LINES[:1])
    assert model.probability(LINES[:1], "en") == model.probability(LINES[:1], "__label__en") == scores
    assert scores.dtype == np.float32


def test_a_newline_counts_as_a_space_and_a_lone_surrogate_raises_nothing(model: FastTextModel) -> None:
    (one, other), scores = model.predict_batch(["The cat\nsat on the mat", "The cat sat on the mat"])
    assert (one, scores[0]) == (other, scores[1])
    assert model.predict_batch(["hello \ud800 world"])[0] == model.predict_batch(["hello ? world"])[0]


def test_no_lines_have_no_predictions(model: FastTextModel) -> None:
    labels, scores = model.predict_batch([])
    assert (labels, len(scores)) == ([], 0)
    assert len(model.probability([], "en")) == 0


def test_scores_never_leave_the_unit_interval(model: FastTextModel) -> None:
    _, scores = model.predict_batch(["これは日本語の文章です。" * 30, "Это русский текст. " * 30])
    assert ((scores >= 0) & (scores <= 1)).all()


def test_an_unknown_label_is_refused_with_those_there_are(model: FastTextModel) -> None:
    with pytest.raises(AssetError, match="no label 'klingon'; it has af, als, am"):
        model.probability(["x"], "klingon")


def test_a_missing_file_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="there is no fastText model here; train one"):
        load(tmp_path / "none.bin")
    other = tmp_path / "other.bin"
    other.write_bytes(b"PK\x03\x04 a zip")
    with pytest.raises(AssetError, match="not a fastText model"):
        load(other)


def test_word_vectors_are_no_classifier(tmp_path: Path) -> None:
    fasttext = pytest.importorskip("fasttext")
    if not hasattr(fasttext, "train_unsupervised"):
        pytest.skip("this build of fastText cannot train")
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat\n" * 20)
    trained = fasttext.train_unsupervised(
        str(text), dim=4, epoch=1, minCount=1, thread=1, verbose=0, bucket=100
    )
    trained.save_model(str(tmp_path / "vectors.bin"))
    with pytest.raises(AssetError, match="cannot use this file as a classifier"):
        load(tmp_path / "vectors.bin")
