"""The scorer `image_encoder` beside timm's own loading and transform of the same files."""

from __future__ import annotations

import functools
import importlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from thresher.filters.embeddings.matrix import matrix_of
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.image_encoder import ImageEncoderScorer
from thresher.scorers.testing import check_scorer

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("open_clip")

Encode = Callable[..., bytes]
Draw = Callable[[int, int, int], Image.Image]

CONFIG: dict[str, Any] = {
    "architecture": "vit_tiny_patch16_224",
    "num_classes": 5,
    "model_args": {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 2},
    "pretrained_cfg": {
        "input_size": [3, 32, 32],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "classifier": "head",
        "num_classes": 5,
    },
}


def write(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A vision transformer of random weights, with a head of five classes, as timm's repositories have it."""
    from safetensors.torch import save_file

    timm: Any = importlib.import_module("timm")
    folder.mkdir()
    settings = {**CONFIG, "pretrained_cfg": {**CONFIG["pretrained_cfg"], **changes}}
    (folder / "config.json").write_text(json.dumps(settings))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = timm.create_model(f"local-dir:{folder}", pretrained=False)
        for weights in network.parameters():
            if weights.ndim > 1:
                torch.nn.init.normal_(weights, std=0.1)
    save_file(network.state_dict(), folder / "model.safetensors")
    return folder


@pytest.fixture
def images(drawn: Draw, encoded: Encode) -> pa.RecordBatch:
    column = [encoded(drawn(40 + 9 * n, 50, n)) for n in range(6)]
    return pa.RecordBatch.from_pydict({"image": pa.array([*column[:2], b"no picture", None, *column[2:]])})


def embeddings(folder: Path, batch: pa.RecordBatch, **arguments: Any) -> pa.Array:
    scorer = ImageEncoderScorer(folder.name, **{"device": "cpu", "precision": "fp32", **arguments})
    scorer.open(LocalAssets([folder.parent]))
    return scorer.score(scorer.prepare(batch))["embedding"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"crop_mode": "squash", "interpolation": "bilinear"},
        {"crop_mode": "border", "crop_pct": 1.0},
        {"crop_pct": 1.0},
    ],
    ids=str,
)
def test_embeddings_are_those_of_timm(
    changes: dict[str, Any], tmp_path: Path, images: pa.RecordBatch
) -> None:
    timm: Any = importlib.import_module("timm")
    data: Any = importlib.import_module("timm.data")
    folder = write(tmp_path / "encoder", **changes)
    found, valid = matrix_of(embeddings(folder, images), 32)
    assert np.flatnonzero(~valid).tolist() == [2, 3]
    network = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    transform = data.create_transform(**data.resolve_model_data_config(network), is_training=False)
    pictures = [image for image in images.column(0).to_pylist() if image not in (None, b"no picture")]
    with torch.no_grad():
        shown = torch.stack(
            [transform(Image.open(io.BytesIO(picture)).convert("RGB")) for picture in pictures]
        )
        expected = torch.nn.functional.normalize(network(shown), dim=-1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.ptp(expected @ expected.T) > 0.05


def test_an_architecture_and_a_checkpoint_may_be_shown_larger_images(
    tmp_path: Path, images: pa.RecordBatch
) -> None:
    from safetensors.torch import save_file

    timm: Any = importlib.import_module("timm")
    network = timm.create_model("test_vit", num_classes=0)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    scorer = ImageEncoderScorer("test_vit", "weights.safetensors", size=192, device="cpu")
    assert scorer.assets == ("weights.safetensors",)
    scorer.open(LocalAssets([tmp_path]))
    matrix, valid = matrix_of(scorer.score(scorer.prepare(images))["embedding"])
    assert valid.sum() == 6
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-2)


def test_half_precision_is_within_the_tolerance(tmp_path: Path, images: pa.RecordBatch) -> None:
    folder = write(tmp_path / "encoder")
    whole, half = (matrix_of(embeddings(folder, images, precision=name))[0] for name in ("fp32", "bf16"))
    assert np.abs(whole - half).max() <= ImageEncoderScorer("encoder", precision="bf16").tolerance


def test_what_is_no_encoder_is_told_from_what_is(tmp_path: Path, images: pa.RecordBatch) -> None:
    folder = write(tmp_path / "encoder")
    shutil.copy(folder / "model.safetensors", tmp_path / "weights.safetensors")
    for model, checkpoint, told in [
        ("gone", None, "no model file"),
        ("weights.safetensors", None, r"is no folder with config\.json"),
        ("vit_none", "weights.safetensors", "timm has no architecture 'vit_none'"),
        ("resnet10t", "weights.safetensors", "is not of the architecture resnet10t: it lacks"),
    ]:
        scorer = ImageEncoderScorer(model, checkpoint, device="cpu")
        with pytest.raises(AssetError, match=told):
            scorer.open(LocalAssets([tmp_path]))
    (folder / "config.json").write_text("{}")
    with pytest.raises(AssetError, match="no configuration of timm's"):
        embeddings(folder, images)
    with pytest.raises(ValueError, match="size is 0"):
        ImageEncoderScorer("encoder", size=0)


@pytest.mark.slow
def test_it_keeps_the_promises_of_a_scorer(tmp_path: Path, images: pa.RecordBatch) -> None:
    folder = write(tmp_path / "encoder")
    build = functools.partial(ImageEncoderScorer, model=folder.name, precision="fp32", batch=3)
    check_scorer(build, images, assets=LocalAssets([tmp_path]))
