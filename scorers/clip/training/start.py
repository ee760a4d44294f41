"""What the training of a CLIP model begins with: a configuration, with weights or without."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ....schemas.contracts import Assets
from ..architecture import (
    WEIGHTS_FILE,
    Architecture,
    architecture_of,
    built,
    known_config,
    read_config,
    text_config,
    usual_preprocessing,
)
from ..model import load_weights
from ..preprocessing import Preprocessing, preprocessing_of

SMALL: Final = "small"

# Trained from nothing within a minute on two cores: pictures are squeezed into 64 x 64 pixels, so that no
# part of them is lost, and cut into 16 patches; a caption has 30 tokens at most.
SMALL_MODEL: Final[Mapping[str, Any]] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 128, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 2},
}
_SMALL_SHOWN: Final[Mapping[str, Any]] = {"resize_mode": "squash"}
# What Hugging Face's tokenizers are read from, which a folder has to have beside the weights.
_OF_TOKENIZERS: Final = ("*token*.json", "vocab.*", "merges.txt", "*.model")


@dataclass(frozen=True)
class Start:
    """A model before training."""

    described: Architecture
    is_trained: bool

    def network(self, model_cfg: Mapping[str, Any] | None = None) -> Any:
        """open_clip's network, of another configuration where one is given, in fp32 on the CPU.

        Its weights are random, drawn by torch's generator, unless it is trained. Raises AssetError.
        """
        network = built(self.described.model_cfg if model_cfg is None else model_cfg)
        if self.is_trained:
            load_weights(network, self.described)
        return network

    def preprocessing(self) -> Preprocessing:
        """What the network is shown."""
        settings = self.described.preprocess_cfg
        size = self.described.model_cfg["vision_cfg"].get("image_size") or settings.get("size") or 224
        height, width = (size, size) if isinstance(size, int) else size
        return preprocessing_of(settings, (int(height), int(width)))

    @property
    def context(self) -> int:
        return int(text_config(self.described.model_cfg).get("context_length") or 77)

    def copy_tokenizer(self, folder: Path) -> None:
        """Puts the files of a tokenizer that is not open_clip's own into the folder of the trained model."""
        source = self.described.folder
        if source is None or not text_config(self.described.model_cfg).get("hf_tokenizer_name"):
            return
        for path in {path for pattern in _OF_TOKENIZERS for path in source.glob(pattern)}:
            shutil.copyfile(path, folder / path.name)


def start_of(model: str | None, checkpoint: str | None, assets: Assets, out: Path) -> Start:
    """The model that `thresher train clip --model MODEL --from CHECKPOINT` begins with.

    `checkpoint`: a folder in open_clip's layout, or a file of safetensors for the architecture `model`.
    Without it the weights are random and `model` is `small`, the name of one of open_clip's architectures, or
    a JSON file with a configuration of such. `out` is where the trained model will lie. Raises AssetError
    where a file is missing or is of another kind, ValueError where a folder is given another architecture.
    """
    if checkpoint is not None:
        if checkpoint.endswith(".safetensors"):
            if model is None:
                raise ValueError(f"{checkpoint} holds weights alone; name their architecture as model")
            return Start(architecture_of(model, checkpoint, assets), is_trained=True)
        if model is not None:
            raise ValueError(f"the folder {checkpoint} says what its architecture is; leave model out")
        return Start(architecture_of(checkpoint, None, assets), is_trained=True)
    weights, name = out / WEIGHTS_FILE, model or SMALL
    if name == SMALL:
        described = Architecture(name, deepcopy(dict(SMALL_MODEL)), weights, _SMALL_SHOWN)
    elif name.lower().endswith(".json"):
        path = assets.locate(name)
        model_cfg, preprocess_cfg = read_config(path)
        described = Architecture(path.name, model_cfg, weights, preprocess_cfg, path.parent)
    else:
        described = Architecture(name, known_config(name), weights, usual_preprocessing(name))
    return Start(described, is_trained=False)


def shown_config(preprocessing: Preprocessing) -> dict[str, Any]:
    """The preprocessing in open_clip's words, with nothing left to its defaults."""
    return {
        "size": list(preprocessing.size),
        "mode": "RGB",
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "interpolation": preprocessing.interpolation,
        "resize_mode": preprocessing.resize_mode,
        "fill_color": preprocessing.fill_color,
    }
