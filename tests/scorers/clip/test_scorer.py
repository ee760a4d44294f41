"""The scorer `clip`: its columns beside open_clip's own, what has no score, and what is refused."""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw, ImageFont
from thresher.filters.embeddings.matrix import EMBEDDING, matrix_of
from thresher.pipeline.accounts import Accounts
from thresher.pipeline.operator import Output
from thresher.pipeline.stage import StreamRef
from thresher.pipeline.steps.scoring import PIECE_ROWS, Score
from thresher.schemas.contracts import AssetError
from thresher.scorers import registry
from thresher.scorers.assets import LocalAssets
from thresher.scorers.clip import scorer as module
from thresher.scorers.clip.scorer import ClipScorer
from thresher.scorers.testing import check_scorer

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("open_clip")

Encode = Callable[..., bytes]
Draw = Callable[[int, int, int], Image.Image]

CAPTIONS = ["a heron", "a goose", "a heron", None, "", "A  HERON", "two geese \u2014 grey", "a goose"]


@pytest.fixture
def pairs(drawn: Draw, encoded: Encode) -> pa.RecordBatch:
    """Drawings with captions; one is no picture and one is missing."""
    images: list[bytes | None] = [encoded(drawn(40 + 9 * n, 50, n)) for n in range(8)]
    images[1], images[6] = b"no picture", None
    images[5] = encoded(drawn(70, 40, 5), "JPEG")
    return pa.RecordBatch.from_pydict(
        {"image": pa.array(images, pa.binary()), "text": pa.array(CAPTIONS, pa.string())}
    )


def opened(folder: Path, **arguments: Any) -> ClipScorer:
    scorer = ClipScorer(folder.name, **{"device": "cpu", "precision": "fp32", **arguments})
    scorer.open(LocalAssets([folder.parent]))
    return scorer


def scored(scorer: ClipScorer, batch: pa.RecordBatch) -> dict[str, pa.Array]:
    return scorer.score(scorer.prepare(batch.select(list(scorer.inputs))))


def of_open_clip(folder: Path, batch: pa.RecordBatch) -> tuple[dict[int, Any], dict[int, Any], Any]:
    """The embeddings of each image and caption, one at a time, and the network."""
    import open_clip

    network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    network.eval()
    images, texts = {}, {}
    with torch.no_grad():
        for row, (data, text) in enumerate(zip(*map(pa.Array.to_pylist, batch.columns), strict=True)):
            if data not in (None, b"no picture"):
                shown = transform(Image.open(io.BytesIO(data)))[None]
                images[row] = network.encode_image(shown, normalize=True)[0].numpy()
            if text is not None:
                texts[row] = network.encode_text(tokenizer([text]), normalize=True)[0].numpy()
    return images, texts, network


def test_similarity_and_embeddings_are_those_of_open_clip(small_clip: Path, pairs: pa.RecordBatch) -> None:
    scorer = opened(small_clip, outputs=["text", "similarity", "image"])
    assert scorer.outputs == {"similarity": pa.float32(), "image": EMBEDDING, "text": EMBEDDING}
    found = scored(scorer, pairs)
    images, texts, _ = of_open_clip(small_clip, pairs)
    for name, expected in (("image", images), ("text", texts)):
        matrix, valid = matrix_of(found[name], 16)
        assert sorted(expected) == np.flatnonzero(valid).tolist()
        np.testing.assert_allclose(matrix, [expected[row] for row in sorted(expected)], atol=5e-4)
    similarity = {
        row: value for row, value in enumerate(found["similarity"].to_pylist()) if value is not None
    }
    cosines = {row: float(images[row] @ texts[row]) for row in images.keys() & texts.keys()}
    assert similarity == pytest.approx(cosines, abs=1e-5)
    assert len(set(similarity.values())) > 3


@pytest.mark.parametrize(
    ("output", "inputs"),
    [("similarity", ("image", "text")), ("image", ("image",)), ("text", ("text",))],
)
def test_a_scorer_reads_what_its_outputs_need(
    output: str, inputs: tuple[str, ...], small_clip: Path, pairs: pa.RecordBatch
) -> None:
    scorer = opened(small_clip, outputs=[output])
    assert scorer.inputs == inputs
    together = scored(opened(small_clip, outputs=["similarity", "image", "text"]), pairs)
    alone = scored(scorer, pairs)
    assert list(alone) == list(scorer.outputs) == [output]
    if output == "similarity":
        assert alone[output].to_pylist() == pytest.approx(together[output].to_pylist(), abs=1e-5)
    else:
        np.testing.assert_allclose(matrix_of(alone[output])[0], matrix_of(together[output])[0], atol=1e-3)
        assert alone[output].is_valid().equals(together[output].is_valid())


def test_a_probability_is_the_sigmoid_that_the_model_was_trained_with(
    small_siglip: Path, small_clip: Path, pairs: pa.RecordBatch
) -> None:
    found = scored(opened(small_siglip, outputs=["probability"]), pairs)["probability"].to_pylist()
    images, texts, network = of_open_clip(small_siglip, pairs)
    for row, value in enumerate(found):
        if row in images and row in texts:
            cosine = torch.tensor(float(images[row] @ texts[row]))
            expected = torch.sigmoid(network.logit_scale.exp() * cosine + network.logit_bias)
            assert value == pytest.approx(expected.item(), abs=1e-5)
        else:
            assert value is None
    with pytest.raises(AssetError, match="has no bias"):
        opened(small_clip, outputs=["probability"])


@pytest.mark.slow
def test_it_keeps_the_promises_of_a_scorer(small_clip: Path, pairs: pa.RecordBatch) -> None:
    outputs = ["similarity", "image", "text"]
    build = functools.partial(ClipScorer, model="small", precision="fp32", outputs=outputs, batch=3)
    check_scorer(build, pairs, assets=LocalAssets([small_clip.parent]))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_size_of_batches_and_the_number_of_threads_make_no_difference_beyond_the_tolerance(
    precision: str, small_clip: Path, drawn: Draw, encoded: Encode
) -> None:
    images = [encoded(drawn(40, 40, n)) for n in range(20)]
    captions = [f"number {n % 7}" for n in range(20)]
    batch = pa.RecordBatch.from_pydict({"image": images, "text": captions})
    found = [
        scored(opened(small_clip, precision=precision, **options), batch)["similarity"].to_numpy()
        for options in ({}, {"batch": 1}, {"batch": 7, "threads": 1}, {"threads": 2})
    ]
    tolerance = ClipScorer("small", precision=precision).tolerance
    for other in found[1:]:
        assert np.abs(other - found[0]).max() <= tolerance
    whole = scored(opened(small_clip), batch)["similarity"].to_numpy()
    assert np.abs(found[0] - whole).max() <= tolerance


def test_captions_that_are_the_same_to_the_model_are_encoded_once(
    small_clip: Path, pairs: pa.RecordBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = opened(small_clip, outputs=["text"])
    encoded: list[int] = []
    original = module.Clip.encode_texts

    def counted(self: Any, tokens: Any) -> Any:
        encoded.append(len(tokens))
        return original(self, tokens)

    monkeypatch.setattr(module.Clip, "encode_texts", counted)
    found = scored(scorer, pairs)["text"].to_pylist()
    assert encoded == [4]  # heron, goose, nothing, geese
    assert found[0] == found[2] == found[5]
    assert found[3] is None


def test_images_without_a_caption_are_not_shown_to_the_model_for_a_similarity(
    small_clip: Path, pairs: pa.RecordBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = opened(small_clip)
    shown: list[int] = []
    original = module.Clip.encode_images

    def counted(self: Any, pixels: Any) -> Any:
        shown.append(len(pixels))
        return original(self, pixels)

    monkeypatch.setattr(module.Clip, "encode_images", counted)
    scored(scorer, pairs)
    assert shown == [5]


def test_the_caption_that_is_written_in_a_picture_counts_no_more_once_it_is_masked(
    small_clip: Path, encoded: Encode
) -> None:
    plain = Image.new("RGB", (160, 120), (70, 130, 180))
    pen = ImageDraw.Draw(plain)
    pen.ellipse((20, 15, 90, 60), fill=(230, 180, 40))
    written = plain.copy()
    pen = ImageDraw.Draw(written)
    place, font = (12, 72), ImageFont.load_default(30)
    pen.text(place, "SALE NOW", font=font, fill=(255, 255, 255))
    left, top, right, bottom = pen.textbbox(place, "SALE NOW", font=font)
    boxes = [[[left / 160, top / 120, right / 160, bottom / 120]], [], None]
    batch = pa.RecordBatch.from_pydict(
        {
            "image": pa.array([encoded(written)] * 3, pa.binary()),
            "text": pa.array(["sale now"] * 3),
            "text_boxes": pa.array(boxes, pa.list_(pa.list_(pa.float32()))),
        }
    )
    scorer = opened(small_clip, outputs=["similarity", "image"], mask="text_boxes")
    assert scorer.inputs == ("image", "text", "text_boxes")
    found = scored(scorer, batch)
    assert found["similarity"].is_valid().to_pylist() == [True, True, False]
    without = pa.RecordBatch.from_pydict(
        {"image": [encoded(plain), encoded(written)], "text": ["sale now"] * 2}
    )
    clean, seen = scored(opened(small_clip), without)["similarity"].to_pylist()
    assert abs(clean - seen) > 1e-3
    assert found["similarity"][0].as_py() == pytest.approx(clean, abs=1e-5)
    assert found["similarity"][1].as_py() == pytest.approx(seen, abs=1e-5)


def test_what_does_not_fit_a_device_is_let_through(
    small_clip: Path, pairs: pa.RecordBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = opened(small_clip)
    prepared = scorer.prepare(pairs)

    def refuse(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module.Clip, "encode_images", refuse)
    with pytest.raises(torch.OutOfMemoryError):
        scorer.score(prepared)
    monkeypatch.undo()
    halves = [scorer.score(prepared.slice(0, 3)), scorer.score(prepared.slice(3))]
    joined = pa.concat_arrays([half["similarity"] for half in halves])
    assert joined.to_pylist() == pytest.approx(scorer.score(prepared)["similarity"].to_pylist(), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"outputs": ["cosine"]}, "no output 'cosine'"),
        ({"outputs": []}, "no output is asked for"),
        ({"batch": 0}, "batch is 0"),
        ({"threads": -1}, "threads is -1"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"outputs": ["text"], "mask": "boxes"}, "only the output text"),
    ],
    ids=str,
)
def test_arguments_without_sense_are_refused_before_anything_is_loaded(
    arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(registry.PluginError, match=told):
        registry.build(registry.SCORER, "clip", {"model": "filter", **arguments})


def test_it_is_built_by_name_and_names_the_files_that_it_reads() -> None:
    scorer = registry.build(registry.SCORER, "clip", {"model": "ViT-B-32", "checkpoint": "b32.safetensors"})
    assert isinstance(scorer, ClipScorer)
    assert scorer.assets == ("b32.safetensors",)
    assert ClipScorer("small", outputs=["image", "image"]).outputs == {"image": EMBEDDING}


class Nowhere(Output):
    """Takes what a step says of its records, which is nothing here."""

    def __init__(self) -> None:
        self.accounts, self.rows_in = Accounts(), 0

    def emit(self, stream: str, batch: pa.RecordBatch) -> None:
        assert len(batch) == 0

    def new_file(self, name: str) -> Path:
        raise AssertionError("the step writes no files")

    def attach(self, stream: str, file: StreamRef) -> None:
        raise AssertionError("the step writes no files")


def test_images_are_decoded_while_the_model_works(
    small_clip: Path, drawn: Draw, encoded: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = 4
    step = Score("score:clip", "clip", {"model": str(small_clip)}, "clip", "keep", "", False)
    step.open()
    prepared = [threading.Event() for _ in range(pieces + 1)]
    prepared[-1].set()
    counts = iter(range(pieces)), iter(range(pieces))
    prepare, score = step.scorer.prepare, step.scorer.score

    def preparing(batch: pa.RecordBatch) -> pa.RecordBatch:
        found = prepare(batch)
        prepared[next(counts[0])].set()
        return found

    def scoring(batch: pa.RecordBatch) -> dict[str, pa.Array]:
        # The model is at work until the next piece is ready: never, if that waited for the model.
        assert prepared[next(counts[1]) + 1].wait(timeout=20)
        return score(batch)

    monkeypatch.setattr(step.scorer, "prepare", preparing)
    monkeypatch.setattr(step.scorer, "score", scoring)
    rows = pieces * PIECE_ROWS
    columns = {
        "position": pa.array(range(rows), pa.uint64()),
        "id": [str(n) for n in range(rows)],
        "source": ["pairs.tar"] * rows,
        "image": [encoded(drawn(8, 8, 0))] * rows,
        "text": ["a"] * rows,
    }
    made = list(step.flow(iter([pa.RecordBatch.from_pydict(columns)]), Nowhere()))
    assert [len(batch) for batch in made] == [PIECE_ROWS] * pieces
    assert all(batch.column("clip").null_count == 0 for batch in made)
