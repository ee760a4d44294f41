"""CLIP models of open_clip, from local files alone: loaded, applied to pixels and captions, and written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...schemas.contracts import Assets
from ..torch_device import Precision, device_of, precision_on
from ..torch_images import Matrix, Normaliser, Pixels, of_length_one, type_of
from ..torch_weights import load_whole
from .architecture import CONFIG_FILE, WEIGHTS_FILE, Architecture, architecture_of, built, text_config
from .captions import Tokenizer, tokenizer_of
from .preprocessing import Preprocessing, preprocessing_of

if TYPE_CHECKING:
    import torch

Tokens = npt.NDArray[np.int32]


def clip_assets(model: str, checkpoint: str | None = None) -> tuple[str, ...]:
    """The names of the files that `load_clip` locates: for `Scorer.assets`."""
    configured = checkpoint is None or model.lower().endswith(".json")
    return ((model,) if configured else ()) + ((checkpoint,) if checkpoint is not None else ())


def load_clip(
    model: str,
    checkpoint: str | None,
    assets: Assets,
    *,
    device: str = "auto",
    precision: str = "auto",
) -> Clip:
    """A model that is ready to work.

    `model` is a folder in open_clip's `local-dir` layout (open_clip_config.json beside
    open_clip_model.safetensors, as `thresher train clip` writes it); or the name of one of open_clip's
    architectures, or a JSON file with a configuration of such, whose weights are the file `checkpoint` of
    safetensors. Nothing is downloaded, and nothing is unpickled.

    Raises AssetError where a file is missing, weights are not those of the architecture, or the text tower is
    one that has to be downloaded.
    """
    described = architecture_of(model, checkpoint, assets)
    place = device_of(device)
    kind = precision_on(place, precision)
    network = built(described.model_cfg, kind)
    load_weights(network, described)
    return Clip(network, described, place, kind)


class Clip:
    """Two towers that put images and captions in one space.

    Methods take and give arrays of numpy. Not to be shared between threads, but for `tokenize`, which one
    thread may call while another encodes.
    """

    def __init__(
        self, network: Any, described: Architecture, device: torch.device, precision: Precision
    ) -> None:
        self.device = device
        self.precision = precision
        # As they were stored: bf16 keeps three digits of them.
        self.logit_scale = float(network.logit_scale.detach().float().exp().reshape(-1)[0])
        bias = getattr(network, "logit_bias", None)
        self.logit_bias: float | None = None if bias is None else float(bias.detach().float().reshape(-1)[0])
        self.dimensions = int(described.model_cfg["embed_dim"])
        size = getattr(network.visual, "image_size", None) or described.preprocess_cfg.get("size") or 224
        height, width = (size, size) if isinstance(size, int) else size
        self.image_size = int(height), int(width)
        self.preprocessing: Preprocessing = preprocessing_of(described.preprocess_cfg, self.image_size)
        self.context = int(text_config(described.model_cfg).get("context_length") or 77)
        self._described = described
        self._tokenizer: Tokenizer | None = None
        self._network = _placed(network, device, precision).eval().requires_grad_(False)
        self._normaliser = Normaliser(self.preprocessing.mean, self.preprocessing.std, device, precision)

    def open_tokenizer(self) -> None:
        """Loads the tokenizer, which else the first captions do.

        Raises AssetError where it would have to be downloaded or does not fit the model.
        """
        if self._tokenizer is None:
            self._tokenizer = tokenizer_of(self._described, self.context)

    def tokenize(self, texts: list[str]) -> Tokens:
        """The tokens of captions, (texts, context), cut to the model's context."""
        self.open_tokenizer()
        assert self._tokenizer is not None
        return self._tokenizer(texts)

    def encode_images(self, pixels: Pixels) -> Matrix:
        """The embeddings, of length one, of images (images, height, width, 3) of the size that it takes."""
        import torch

        with torch.inference_mode():
            return of_length_one(self._network.encode_image(self._normaliser(pixels)))

    def encode_texts(self, tokens: Tokens) -> Matrix:
        """The embeddings, of length one, of captions that `tokenize` has cut into tokens."""
        import torch

        with torch.inference_mode():
            given = torch.from_numpy(np.ascontiguousarray(tokens)).to(self.device).long()
            return of_length_one(self._network.encode_text(given))


def write_clip(
    folder: Path,
    model_cfg: Mapping[str, Any],
    preprocess_cfg: Mapping[str, Any],
    state: Mapping[str, torch.Tensor],
) -> None:
    """Writes a model as a folder that open_clip loads (`local-dir:FOLDER`), and this product's `clip` too.

    `model_cfg` and `preprocess_cfg` are open_clip's; `state` is the model's state_dict. The weights come
    first, and each file appears whole.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    # Copies: safetensors refuses tensors that share memory.
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    weights = folder / f".{WEIGHTS_FILE}.{os.getpid()}"
    save_file(whole, str(weights), metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors lets nobody else read them, not the workers of a cluster either
    weights.replace(folder / WEIGHTS_FILE)
    config = folder / f".{CONFIG_FILE}.{os.getpid()}"
    settings = {"model_cfg": dict(model_cfg), "preprocess_cfg": dict(preprocess_cfg)}
    config.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    config.replace(folder / CONFIG_FILE)


def _placed(network: Any, device: torch.device, precision: Precision) -> Any:
    """The network on its device, its products in `precision`; layer norms of open_clip's stay in fp32."""
    if precision != "fp32":
        import torch
        from open_clip.model import convert_weights_to_lp
        from open_clip.transformer import LayerNormFp32

        if device.type == "cpu":
            _put_tokens_first(network)
        # Where open_clip's own way does not go: towers of timm's, and a projection that is a layer.
        foreign = type(network.visual).__name__ == "TimmModel" or isinstance(
            getattr(getattr(network, "text", None), "text_projection", None), torch.nn.Linear
        )
        if foreign:
            network = network.to(type_of(precision))
            for module in network.modules():
                if isinstance(module, LayerNormFp32):
                    module.float()
        else:
            convert_weights_to_lp(network, dtype=type_of(precision))
    return network.to(device)


def _put_tokens_first(network: Any) -> None:
    """Lets the text tower work on (tokens, captions) where it would work on (captions, tokens).

    The results are the same. In the usual order attention hands torch a view that is turned, and of such a
    one torch 2.13 multiplies in bf16 on a CPU only after it has copied the weights once for each token: two
    seconds for each batch of a ViT-B-32.
    """
    import torch

    tower: Any = getattr(getattr(network, "text", network), "transformer", None)
    blocks = list(getattr(tower, "resblocks", ()))
    layers: list[Any] = [getattr(block, "attn", None) for block in blocks]
    if not blocks or not all(isinstance(layer, torch.nn.MultiheadAttention) for layer in layers):
        return
    for part in (tower, *layers):
        part.batch_first = False


def load_weights(network: Any, described: Architecture) -> None:
    from open_clip.factory import load_checkpoint

    load_whole(described.weights, described.name, lambda path: load_checkpoint(network, path, strict=False))
