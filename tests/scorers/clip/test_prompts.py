"""Zero-shot classes: prompts become vectors, and an image's embedding picks among them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from thresher.filters.embeddings.matrix import Matrix, column_of, normalised
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.clip.prompts import ZeroShotScorer, prompts_of, read_classes
from thresher.scorers.testing import check_scorer

CLASSES = {"dog": ["a dog", "a photo of a puppy"], "cat": "a cat", "car": ["a red car", "a truck", "a bus"]}


def class_vectors(open_clip: Any, folder: Path) -> Matrix:
    """The mean of each class's prompts, by open_clip itself."""
    import torch

    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    means = []
    with torch.inference_mode():
        for prompts in CLASSES.values():
            texts = [prompts] if isinstance(prompts, str) else prompts
            found = model.eval().encode_text(tokenizer(texts)).numpy().astype(np.float64)
            mean = (found / np.linalg.norm(found, axis=1, keepdims=True)).mean(axis=0)
            means.append(mean / np.linalg.norm(mean))
    return np.array(means)


def images(count: int) -> tuple[pa.RecordBatch, Matrix]:
    stored = normalised(np.random.default_rng(3).normal(size=(count, 16)).astype(np.float32))
    column = column_of(stored)
    return pa.RecordBatch.from_pydict({"clip_image": column}), stored.astype(np.float16).astype(np.float64)


def scored(folder: Path, batch: pa.RecordBatch, **arguments: Any) -> dict[str, list[Any]]:
    scorer = ZeroShotScorer("clip_image", str(folder), **{"classes": CLASSES, **arguments})
    scorer.open(LocalAssets())
    return {name: column.to_pylist() for name, column in scorer.score(batch).items()}


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_label_is_the_class_whose_mean_prompt_is_nearest(open_clip: Any, small_clip: Path) -> None:
    batch, embeddings = images(40)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    wanted = softmax(20 * embeddings @ class_vectors(open_clip, small_clip).T)
    found = scored(small_clip, batch, scale=20)
    assert found["label"] == [list(CLASSES)[best] for best in wanted.argmax(axis=1)]
    assert len(set(found["label"])) > 1
    assert found["probability"] == pytest.approx(wanted.max(axis=1), abs=1e-4)


def test_the_scale_is_the_models_own_unless_given(small_clip: Path) -> None:
    batch, _ = images(5)
    scale = 1 / 0.07  # with which open_clip begins
    assert scored(small_clip, batch) == scored(small_clip, batch, scale=pytest.approx(scale).expected)


def test_top_gives_the_likeliest_classes_of_a_record_best_first(open_clip: Any, small_clip: Path) -> None:
    batch, embeddings = images(12)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    wanted = softmax(20 * embeddings @ class_vectors(open_clip, small_clip).T)
    found = scored(small_clip, batch, scale=20, top=2)
    names = np.array(list(CLASSES))
    order = np.argsort(-wanted, axis=1)[:, :2]
    assert found["labels"] == names[order].tolist()
    for row, probabilities in enumerate(found["probabilities"]):
        assert probabilities == pytest.approx(wanted[row, order[row]], abs=1e-4)
    assert [len(labels) for labels in scored(small_clip, batch, top=9)["labels"]] == [3] * 12


def test_a_class_below_the_least_probability_is_no_label(small_clip: Path) -> None:
    batch, _ = images(30)
    every = scored(small_clip, batch, top=3)
    few = scored(small_clip, batch, top=3, min_probability=0.3)
    best = scored(small_clip, batch, min_probability=0.6)
    for row in range(30):
        pairs = list(zip(every["labels"][row], every["probabilities"][row], strict=True))
        assert few["labels"][row] == [name for name, probability in pairs if probability >= 0.3]
        assert best["label"][row] == (pairs[0][0] if pairs[0][1] >= 0.6 else None)
        assert (best["label"][row] is None) == (best["probability"][row] is None)
    assert None in best["label"]
    assert set(best["label"]) - {None}


def test_names_are_put_into_templates_and_prompts_are_not_unless_told() -> None:
    assert prompts_of(["dog", "cat"], None) == {"dog": ["a photo of a dog."], "cat": ["a photo of a cat."]}
    assert prompts_of({"dog": "a dog"}, None) == {"dog": ["a dog"]}
    two = ["a photo of a {}.", "a drawing of a {}."]
    assert prompts_of({"dog": ["dog", "puppy"]}, two)["dog"] == [
        "a photo of a dog.",
        "a photo of a puppy.",
        "a drawing of a dog.",
        "a drawing of a puppy.",
    ]


def test_classes_come_from_files_too(tmp_path: Path, small_clip: Path) -> None:
    (tmp_path / "names.txt").write_text("dog\n\n cat \n")
    (tmp_path / "prompts.json").write_text(json.dumps(CLASSES))
    assert list(read_classes(tmp_path / "names.txt", None)) == ["dog", "cat"]
    batch, _ = images(6)
    scorer = ZeroShotScorer("clip_image", str(small_clip), classes="prompts.json")
    scorer.open(LocalAssets([tmp_path]))
    assert scorer.score(batch)["label"].to_pylist() == scored(small_clip, batch)["label"]
    (tmp_path / "broken.json").write_text('{"dog": []}')
    with pytest.raises(AssetError, match=r"broken\.json: .*'dog' has no prompt"):
        read_classes(tmp_path / "broken.json", None)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"top": 2, "min_probability": 0.2}])
def test_the_scorer_keeps_its_promises(small_clip: Path, arguments: dict[str, Any]) -> None:
    embeddings = np.vstack([images(4)[1], np.zeros((1, 16))]).astype(np.float32)
    has = np.array([True, True, False, True, True, True])
    batch = pa.RecordBatch.from_pydict({"clip_image": column_of(embeddings, has)})
    build = functools.partial(
        ZeroShotScorer, embedding="clip_image", model=str(small_clip), classes=CLASSES, **arguments
    )
    check_scorer(build, batch)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"classes": []}, "no classes"),
        ({"classes": ["dog", "dog"]}, "'dog' is named twice"),
        ({"classes": {"dog": [" "]}}, "'dog' has no prompt"),
        ({"classes": ["dog"], "templates": ["a photo"]}, "has no {}"),
        ({"classes": ["dog"], "top": 0}, "top is 0"),
        ({"classes": ["dog"], "precision": "half"}, "precision is 'half'"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ZeroShotScorer("clip_image", "model", **arguments)


def test_embeddings_of_another_model_are_refused_by_name(small_clip: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"clip_image": column_of(np.ones((2, 7), np.float32))})
    with pytest.raises(ValueError, match=r"column clip_image: .* 7 numbers where others have 16 in "):
        scored(small_clip, batch)
