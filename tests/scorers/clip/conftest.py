"""CLIP models of a few thousand weights, which mean nothing, and pictures."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from thresher.schemas.contracts import AssetError
from thresher.scorers.clip.packages import import_open_clip

Encode = Callable[..., bytes]

SMALL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def write(folder: Path, model_cfg: dict[str, Any], preprocess_cfg: dict[str, Any], seed: int = 0) -> Path:
    """A model of random weights in a folder."""
    torch = pytest.importorskip("torch")
    from thresher.scorers.clip.architecture import built
    from thresher.scorers.clip.model import write_clip

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = built(model_cfg)
        # As they are made, all pictures have nearly the same embedding.
        for name, weights in network.named_parameters():
            if weights.ndim > 1 and "embedding" not in name:
                torch.nn.init.normal_(weights, std=0.15)
    write_clip(folder, model_cfg, preprocess_cfg, network.state_dict())
    return folder


@pytest.fixture(scope="session")
def open_clip() -> Any:
    """The package; a test that needs it is skipped where it cannot be imported."""
    pytest.importorskip("torch")
    try:
        return import_open_clip()
    except AssetError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def write_model(open_clip: Any) -> Callable[..., Path]:
    """Writes a model of random weights: folder, model_cfg, preprocess_cfg, seed."""
    return write


@pytest.fixture(scope="session")
def small_config() -> dict[str, Any]:
    return SMALL


@pytest.fixture(scope="session")
def small_clip(open_clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that looks at 32 x 32 pixels and reads 16 tokens."""
    return write(tmp_path_factory.mktemp("models") / "small", SMALL, {"size": 32, "std": [0.3, 0.25, 0.2]})


@pytest.fixture(scope="session")
def small_siglip(open_clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a bias, as models have that were trained with a sigmoid, and images squashed."""
    cfg = SMALL | {"init_logit_bias": -1.0, "init_logit_scale": 1.5}
    preprocess = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    return write(tmp_path_factory.mktemp("models") / "sigmoid", cfg, preprocess)


def encode(pixels: Any, format: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    (Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels).save(out, format, **options)
    return out.getvalue()


@pytest.fixture(scope="session")
def encoded() -> Encode:
    """An encoded image of pixels."""
    return encode


def draw(width: int, height: int, seed: int) -> Image.Image:
    """A few shapes of soft colours, as in a drawing."""
    random = np.random.default_rng(seed)
    picture = Image.new("RGB", (width, height), tuple(int(c) for c in random.integers(90, 256, 3)))
    pen = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y = random.integers(0, [width, height])
        far = int(random.integers(2, 2 + max(width, height) // 2))
        colour = tuple(int(c) for c in random.integers(0, 256, 3))
        (pen.ellipse if random.random() < 0.5 else pen.rectangle)(
            (x - far, y - far // 2, x + far, y + far), colour
        )
    return picture


@pytest.fixture(scope="session")
def drawn() -> Callable[[int, int, int], Image.Image]:
    """A picture: width, height, seed."""
    return draw
