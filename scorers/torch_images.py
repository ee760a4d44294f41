"""Images as tensors, and embeddings as arrays: what lies between decoded pixels and a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .torch_device import Precision

if TYPE_CHECKING:
    import torch

Pixels = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float32]
Channels = tuple[float, float, float]


class Normaliser:
    """Brings images to a device as bytes, and there into the range that a network was trained on."""

    def __init__(self, mean: Channels, std: Channels, device: torch.device, precision: Precision) -> None:
        import torch

        self._mean, self._std = (
            torch.tensor(channels, dtype=torch.float32, device=device).view(1, 3, 1, 1)
            for channels in (mean, std)
        )
        self._type = type_of(precision)

    def __call__(self, pixels: Pixels) -> torch.Tensor:
        """Images (images, height, width, 3) as a tensor (images, 3, height, width), with the arithmetic of
        torchvision's ToTensor and Normalize."""
        import torch

        given = torch.from_numpy(np.require(pixels, np.uint8, ["C", "W"])).to(self._mean.device)
        shown = given.permute(0, 3, 1, 2).contiguous().float().div_(255)
        return shown.sub_(self._mean).div_(self._std).to(self._type)


def of_length_one(found: torch.Tensor) -> Matrix:
    """A network's embeddings, one in a row, made as long as one. Raises ValueError if they are not finite."""
    import torch

    matrix = torch.nn.functional.normalize(found.float(), dim=-1).cpu().numpy()
    if not np.isfinite(matrix).all():
        raise ValueError("the model gives numbers that are not finite; write precision: fp32")
    return np.asarray(matrix, np.float32)


def type_of(precision: Precision) -> torch.dtype:
    """What torch calls a precision."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
