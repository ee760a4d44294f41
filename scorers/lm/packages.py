"""The packages of language models as this machine has them."""

from __future__ import annotations

import importlib
import os
from contextlib import suppress
from types import ModuleType
from typing import Final

from ...schemas.contracts import AssetError
from ..clip.packages import import_torchvision

HOW: Final = "install them with: pip install 'thresher[lm]'"


def import_transformers() -> ModuleType:
    """The package transformers, silent. Raises AssetError where it, or what it needs, cannot be imported."""
    try:
        importlib.import_module("torch")
        # transformers imports torchvision where it is installed.
        with suppress(ImportError):
            import_torchvision()
        transformers = importlib.import_module("transformers")
    except (ImportError, RuntimeError) as error:
        raise AssetError(
            f"language models need the packages torch and transformers ({error}); {HOW}"
        ) from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def import_tokenizers() -> ModuleType:
    """The package tokenizers. Raises AssetError where it is missing."""
    # Workers are processes of their own; the library would start a thread for each core in every one.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        return importlib.import_module("tokenizers")
    except ImportError as error:
        raise AssetError(f"a tokenizer.json needs the package tokenizers ({error}); {HOW}") from error
