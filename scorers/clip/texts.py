"""Embeddings of texts that a model is asked about: prompts of classes, names of entities."""

from __future__ import annotations

import numpy as np

from ...filters.embeddings.matrix import Matrix
from ..torch_device import batch_on
from .model import Clip


def text_embeddings(clip: Clip, texts: list[str]) -> Matrix:
    """The embedding of each text, of length one.

    The model gets batches of one size, the last filled up: so an embedding does not depend on how many texts
    there are, as it may, in its last bits, with products of other shapes.
    """
    found = np.empty((len(texts), clip.dimensions), np.float32)
    size = batch_on(clip.device)
    for start in range(0, len(texts), size):
        some = texts[start : start + size]
        filled = some + some[-1:] * (size - len(some))
        found[start : start + size] = clip.encode_texts(clip.tokenize(filled))[: len(some)]
    return found
