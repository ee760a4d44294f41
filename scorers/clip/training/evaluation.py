"""How well a CLIP model tells the captions of images that it has not seen from those of other images."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ...metrics import auc

Matrix = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

SHUFFLES: Final = 16  # of the captions: one leaves the figure to chance where few pairs are held out


def derangements(captions: npt.NDArray[np.uint64], shuffles: int = SHUFFLES) -> Numbers:
    """Ways to give each of n images another one's caption, which is never the same caption: (ways, n).

    The pairs are laid in a ring, those with the same caption side by side and else in the order of the
    captions' hashes, and the captions are moved on by so many places that each leaves its own kind. At most
    `shuffles` ways; none where more than half of the pairs have the same caption.
    """
    pairs = len(captions)
    ring = np.argsort(captions, kind="stable")
    most = int(np.unique(captions, return_counts=True)[1].max(initial=0))
    if not pairs or most * 2 > pairs:
        shuffles = 0
    steps = np.unique(np.linspace(most, pairs - most, shuffles).astype(np.int64))
    found = np.empty((len(steps), pairs), np.int64)
    for way, step in enumerate(steps):
        found[way, ring] = np.roll(ring, step)
    return found


def separation(images: Matrix, texts: Matrix, ways: Numbers) -> float | None:
    """The chance (AUC) that an image's own caption scores above a shuffled one, by their cosines.

    `images`, `texts`: embeddings of n pairs, of length one; `ways`: whose captions each image gets, (ways,
    n). None where there is no way.
    """
    true = np.einsum("ij,ij->i", images, texts)
    shuffled = [np.einsum("ij,ij->i", images, texts[way]) for way in ways]
    scores = np.concatenate([true, *shuffled]).astype(np.float32)
    return auc(scores, np.arange(len(scores)) < len(true))
