"""What a CLIP model in training wants less of: images and captions that take each other for strangers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def alike(captions: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Which other pairs of a batch say or show the same, (pairs, pairs): no image is a stranger to a caption
    of which another copy describes it."""
    same = (captions[:, None] == captions[None]) | (pictures[:, None] == pictures[None])
    same.fill_diagonal_(fill_value=False)
    return same


def contrastive_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, same: torch.Tensor
) -> torch.Tensor:
    """The symmetric cross entropy of CLIP (InfoNCE; Radford et al. 2021, arXiv:2103.00020, figure 3).

    `images`, `texts`: embeddings of length one, a pair in a row. `scale` is the inverse temperature. Pairs
    that are `same` are left out of each other's sum.
    """
    import torch
    from torch.nn import functional

    logits = (scale * images @ texts.T).masked_fill(same, -torch.inf)
    own = torch.arange(len(images), device=images.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def sigmoid_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, same: torch.Tensor
) -> torch.Tensor:
    """The loss of SigLIP (Zhai et al. 2023, arXiv:2303.15343, equation 1): each image and caption is a choice
    of its own, whether they belong together; those that are `same` are no choice."""
    import torch
    from torch.nn import functional

    logits = scale * images @ texts.T + bias
    truth = 2 * torch.eye(len(images), device=images.device, dtype=logits.dtype) - 1
    return -functional.logsigmoid(truth * logits).masked_fill(same, 0).sum() / len(images)
