"""Embeddings of images by timm's models, such as DINOv2's vision transformers."""

from __future__ import annotations

import importlib
import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..filters.embeddings.matrix import EMBEDDING, column_of
from ..schemas.contracts import AssetError, Assets, Scorer
from .clip.packages import import_open_clip
from .clip.pictures import decoders_of, rows_of, shown_images
from .clip.preprocessing import Preprocessing, ResizeMode, preprocessing_of
from .clip.scorer import HALF_TOLERANCE, TOLERANCE
from .torch_device import PRECISIONS, batch_on, device_of, precision_on, threads
from .torch_images import Matrix, Normaliser, Pixels, of_length_one, type_of
from .torch_weights import load_whole

CONFIG_FILE: Final = "config.json"
WEIGHTS_FILE: Final = "model.safetensors"
_MODES: Final[dict[str, ResizeMode]] = {
    "center": "shortest",
    "squash": "squash",
    "border": "longest",
}  # timm's words, open_clip's


class ImageEncoderScorer(Scorer):
    """Embeddings of length one of images, by a model of timm's without its head.

    Reads `image`. Returns `embedding`, null where the image is null or cannot be decoded.

    `model` is a folder in timm's `local-dir` layout (config.json beside model.safetensors, as timm's
    repositories are), or the name of one of timm's architectures, as in vit_small_patch14_dinov2.lvd142m,
    whose weights are the file `checkpoint` of safetensors. `size`: of the side of the square that the model
    is shown, where that is not its own. `precision`, `device`, `batch` and `threads` as for `clip`.

    Raises AssetError where the model cannot be loaded.
    """

    version: ClassVar[int] = 1
    obtain = "fetch the safetensors of the encoder from where its authors publish it"
    inputs = ("image",)
    kernels: ClassVar[tuple[str, ...]] = ("thresher.filters.image.resampling",)

    def __init__(
        self,
        model: str,
        checkpoint: str | None = None,
        size: int | None = None,
        precision: str = "auto",
        device: str = "auto",
        batch: int | None = None,
        threads: int | None = None,
    ) -> None:
        for name, value in (("size", size), ("batch", batch), ("threads", threads)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; write 1 or more")
        if precision not in ("auto", *PRECISIONS):
            raise ValueError(f"precision is {precision!r}; write auto, {', '.join(PRECISIONS)}")
        self.assets = (model,) if checkpoint is None else (checkpoint,)
        self.tolerance = TOLERANCE if precision == "fp32" else HALF_TOLERANCE
        self._model, self._checkpoint, self._size = model, checkpoint, size
        self._precision, self._device = precision, device
        self._batch, self._threads = batch, threads
        self._encoder: ImageEncoder | None = None
        self._decoders: ThreadPoolExecutor | None = None

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {"embedding": EMBEDDING}

    def open(self, assets: Assets) -> None:
        self._encoder = load_image_encoder(
            self._model,
            self._checkpoint,
            assets,
            size=self._size,
            device=self._device,
            precision=self._precision,
        )
        self._decoders = decoders_of(self._threads)

    def prepare(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        assert self._encoder is not None, "open comes before prepare"
        assert self._decoders is not None
        images = shown_images(batch.column("image"), self._encoder.preprocessing, self._decoders)
        return pa.RecordBatch.from_pydict({"pixels": images})

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        assert self._encoder is not None, "open comes before score"
        column = batch.column("pixels")
        valid = np.asarray(pc.is_valid(column).to_numpy(zero_copy_only=False), np.bool_)
        pixels = rows_of(column, (*self._encoder.preprocessing.size, 3), np.uint8)[valid]
        size = self._batch or batch_on(self._encoder.device)
        made = np.empty((len(pixels), self._encoder.dimensions), np.float32)
        with threads(self._threads):
            for start in range(0, len(pixels), size):
                made[start : start + size] = self._encoder.encode(pixels[start : start + size])
        return {"embedding": column_of(made, valid)}


class ImageEncoder:
    """A network of timm's that is ready to work."""

    def __init__(self, network: Any, wanted: Preprocessing, device: str, precision: str) -> None:
        self.device = device_of(device)
        self.precision = precision_on(self.device, precision)
        self.preprocessing = wanted
        self.dimensions = int(network.num_features)
        self._network = network.to(self.device, type_of(self.precision)).eval().requires_grad_(False)
        self._normaliser = Normaliser(wanted.mean, wanted.std, self.device, self.precision)

    def encode(self, pixels: Pixels) -> Matrix:
        """The embeddings, of length one, of images (images, height, width, 3) of the size that it takes."""
        import torch

        with torch.inference_mode():
            return of_length_one(self._network(self._normaliser(pixels)))


def load_image_encoder(
    model: str,
    checkpoint: str | None,
    assets: Assets,
    *,
    size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> ImageEncoder:
    """The model that the arguments of ImageEncoderScorer name. Raises AssetError."""
    import_open_clip()  # timm imports torchvision too
    timm: Any = importlib.import_module("timm")

    if checkpoint is None:
        folder = assets.locate(model)
        name, weights = f"local-dir:{folder}", folder / WEIGHTS_FILE
        if not folder.is_dir() or not weights.is_file():
            raise AssetError(
                f"{folder}: is no folder with {CONFIG_FILE} and {WEIGHTS_FILE}; an architecture of timm's "
                "needs a `checkpoint`"
            )
        architecture = _architecture(folder / CONFIG_FILE)
    else:
        architecture, weights = model, assets.locate(checkpoint)
        name = model
    if not timm.is_model(architecture.partition(".")[0]):
        near = ", ".join(timm.list_models(f"*{architecture.partition('.')[0]}*")[:3])
        raise AssetError(f"timm has no architecture {architecture!r}{near and f'; near it are {near}'}")
    given = {} if size is None else {"img_size": size}
    try:
        network = timm.create_model(name, pretrained=False, num_classes=0, **given)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise AssetError(
            f"timm cannot build {architecture} with {given or 'its settings'}: {error}"
        ) from error
    load_whole(weights, architecture, lambda path: _load(network, path))
    return ImageEncoder(network, _preprocessing(network, size), device, precision)


def _architecture(config: Path) -> str:
    try:
        return str(json.loads(config.read_text("utf-8"))["architecture"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AssetError(
            f"{config}: is no configuration of timm's ({type(error).__name__}: {error})"
        ) from error


def _load(network: Any, path: str) -> tuple[list[str], list[str]]:
    """What of the weights is missing and unexpected, but for those of the head, which is not wanted."""
    from timm.models import load_checkpoint

    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    missing, unexpected = load_checkpoint(network, path, strict=False, filter_fn=convert)
    heads = network.pretrained_cfg.get("classifier") or ()
    names = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    return missing, [name for name in unexpected if not name.startswith(names)]


def _preprocessing(network: Any, size: int | None) -> Preprocessing:
    timm_data: Any = importlib.import_module("timm.data")
    found = timm_data.resolve_model_data_config(network)
    height, width = (size, size) if size is not None else found["input_size"][1:]
    red, green, blue = (round(255 * share) for share in found["mean"])
    return replace(
        preprocessing_of({name: found[name] for name in ("mean", "std")}, (height, width)),
        interpolation="bilinear" if found["interpolation"] == "bilinear" else "bicubic",
        resize_mode=_MODES[found["crop_mode"]],
        fill_color=(red, green, blue),
        scaled_to=(math.floor(height / found["crop_pct"]), math.floor(width / found["crop_pct"])),
    )
