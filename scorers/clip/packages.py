"""open_clip as this machine has it."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Final

from ...schemas.contracts import AssetError

_HOW: Final = "install them with: pip install 'thresher[clip]'"
# Operators that torchvision declares in a library compiled for CUDA, which a torch for CPUs cannot load; that
# they have a signature is enough for the rest of torchvision.
_OPERATORS: Final = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_MISSING_OPERATOR: Final = "operator torchvision::"

# Declarations end with the object that made them.
_declared: list[object] = []


def import_open_clip() -> ModuleType:
    """The package open_clip. Raises AssetError where it, or what it needs, cannot be imported."""
    try:
        import_torchvision()
        return importlib.import_module("open_clip")
    except (ImportError, RuntimeError) as error:
        raise AssetError(f"CLIP models need the packages torch and open_clip ({error}); {_HOW}") from error


def import_torchvision() -> ModuleType:
    """The package torchvision, also where it was compiled for CUDA and torch is one for CPUs.

    Raises ImportError where it is missing, RuntimeError where it does not fit torch in another way.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING_OPERATOR not in str(error):
            raise
        import torch

        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for operator in _OPERATORS:
            library.define(operator)  # type: ignore[no-untyped-call]
        _declared.append(library)
        return importlib.import_module("torchvision")
