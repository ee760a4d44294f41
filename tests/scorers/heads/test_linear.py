"""Linear heads: files, values and probabilities, against numpy."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from thresher.filters.embeddings.matrix import column_of
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.heads.file import Head, read_head, write_head
from thresher.scorers.heads.linear import LinearHeadScorer
from thresher.scorers.testing import check_scorer

pytest.importorskip("safetensors")

CHANCE = np.random.default_rng(2)
ROWS = CHANCE.normal(size=(30, 6)).astype(np.float16).astype(np.float32)
LAYERS = tuple(
    (CHANCE.normal(size=shape).astype(np.float32), CHANCE.normal(size=shape[0]).astype(np.float32))
    for shape in ((8, 6), (3, 8))
)
UNIT = ROWS.astype(np.float64) / np.linalg.norm(ROWS, axis=1, keepdims=True)
BATCH = pa.RecordBatch.from_pydict({"clip_image": column_of(ROWS)})


def scored(tmp_path: Path, head: Head, **arguments: Any) -> dict[str, list[Any]]:
    write_head(head, tmp_path / "head.safetensors")
    scorer = LinearHeadScorer("clip_image", "head.safetensors", **arguments)
    scorer.open(LocalAssets([tmp_path]))
    return {name: column.to_pylist() for name, column in scorer.score(BATCH).items()}


def test_a_regression_is_a_weighted_sum_of_an_embedding_of_length_one(tmp_path: Path) -> None:
    weight, bias = LAYERS[0][0][:1], LAYERS[0][1][:1]
    found = scored(tmp_path, Head("regression", ((weight, bias),)))
    assert found["score"] == pytest.approx((UNIT @ weight.T.astype(np.float64) + bias)[:, 0], abs=1e-5)
    raw = scored(tmp_path, Head("regression", ((weight, bias),), normalised=False))
    assert raw["score"] == pytest.approx((ROWS.astype(np.float64) @ weight.T + bias)[:, 0], rel=1e-4)


def test_a_classification_is_a_softmax_over_labels_behind_a_hidden_layer(tmp_path: Path) -> None:
    labels = ("art", "photo", "scan")
    hidden = np.maximum(UNIT @ LAYERS[0][0].T.astype(np.float64) + LAYERS[0][1], 0)
    logits = hidden @ LAYERS[1][0].T.astype(np.float64) + LAYERS[1][1]
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    head = Head("classification", LAYERS, labels)
    assert scored(tmp_path, head, label="photo")["score"] == pytest.approx(wanted[:, 1], abs=1e-5)
    found = scored(tmp_path, head, outputs=["label", "probability"])
    assert found["label"] == [labels[best] for best in wanted.argmax(axis=1)]
    assert found["probability"] == pytest.approx(wanted.max(axis=1), abs=1e-5)


def test_layers_without_activation_are_one_linear_map(tmp_path: Path) -> None:
    last = (LAYERS[1][0][:1], LAYERS[1][1][:1])
    weight = last[0].astype(np.float64) @ LAYERS[0][0]
    bias = last[0].astype(np.float64) @ LAYERS[0][1] + last[1]
    found = scored(tmp_path, Head("regression", (LAYERS[0], last), activation="none"))
    assert found["score"] == pytest.approx((UNIT @ weight.T + bias)[:, 0], abs=1e-4)


def test_of_two_labels_the_score_is_the_second_ones(tmp_path: Path) -> None:
    two = (LAYERS[0], (LAYERS[1][0][:2], LAYERS[1][1][:2]))
    head = Head("classification", two, ("bad", "good"))
    bad, good = (scored(tmp_path, head, label=label)["score"] for label in head.labels)
    assert scored(tmp_path, head)["score"] == good
    assert np.add(bad, good) == pytest.approx(np.ones(30), abs=1e-6)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_scorer_keeps_its_promises(tmp_path: Path, normalised: bool) -> None:
    head = Head("classification", LAYERS, ("a", "b", "c"), normalised)
    write_head(head, tmp_path / "head.safetensors")
    embeddings = np.vstack([ROWS[:5], np.zeros((1, 6), np.float32)])
    has = np.array([True, False, True, True, True, True, True])
    batch = pa.RecordBatch.from_pydict({"clip_image": column_of(embeddings, has)})
    build = functools.partial(
        LinearHeadScorer,
        embedding="clip_image",
        head="head.safetensors",
        label="b",
        outputs=["score", "label", "probability"],
    )
    check_scorer(build, batch, assets=LocalAssets([tmp_path]))


def test_a_head_comes_back_from_its_file(tmp_path: Path) -> None:
    head = Head("classification", LAYERS, ("naïve", "b", "c"), False, "none", {"rows": 12})
    write_head(head, tmp_path / "head.safetensors")
    found = read_head(tmp_path / "head.safetensors")
    assert (found.kind, found.labels, found.normalised, found.activation, found.about) == (
        "classification",
        ("naïve", "b", "c"),
        False,
        "none",
        {"rows": 12},
    )
    for (weight, bias), (wanted, offset) in zip(found.layers, LAYERS, strict=True):
        assert (weight == wanted).all()
        assert (bias == offset).all()


@pytest.mark.parametrize(
    ("head", "arguments", "told"),
    [
        (Head("classification", LAYERS, ("a", "b", "c")), {}, "of which label"),
        (Head("classification", LAYERS, ("a", "b", "c")), {"label": "d"}, "no label 'd'; it has a, b, c"),
        (Head("classification", LAYERS, ("a", "b")), {}, "3 outputs, and 2 are told of"),
        (Head("regression", LAYERS[:1]), {}, "8 outputs, and 1 are told of"),
        (Head("regression", (LAYERS[1], LAYERS[0])), {}, "do not follow from the layer before"),
        (Head("regression", ((LAYERS[0][0][:1], LAYERS[0][1][:1]),)), {"label": "a"}, "has no labels"),
    ],
)
def test_a_file_that_is_no_such_head_is_refused(
    tmp_path: Path, head: Head, arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(AssetError, match=rf"head\.safetensors: .*{told}"):
        scored(tmp_path, head, **arguments)
