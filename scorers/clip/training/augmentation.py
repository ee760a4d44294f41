"""Changes that leave a pair true: parts of images, mirrored ones, words left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def cropped(images: torch.Tensor, generator: torch.Generator, least: float, mirrored: bool) -> torch.Tensor:
    """Random parts of images (images, channels, height, width), in their old size.

    Width and height of a part are drawn apart, from the share `least` on; `mirrored` turns every other image
    around.
    """
    import torch
    from torch.nn import functional

    count = len(images)
    scale = least + (1 - least) * torch.rand(count, 2, generator=generator)
    place = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - scale)
    turned = torch.rand(count, generator=generator) < 0.5
    if least >= 1 and not mirrored:
        return images
    across = torch.where(turned, -scale[:, 0], scale[:, 0]) if mirrored else scale[:, 0]
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, :, 2] = across, scale[:, 1], place
    grid = functional.affine_grid(matrix.to(images), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def with_unknown_words(
    tokens: torch.Tensor, generator: torch.Generator, share: float, unknown: int
) -> torch.Tensor:
    """Captions (captions, context) in which a random share of the tokens is `unknown`.

    Tokens above it, the one below it, which begins a caption, and 0, which fills it up, stay.
    """
    import torch

    drawn = torch.rand(tokens.shape, generator=generator) < share
    return tokens.masked_fill(drawn & (tokens > 0) & (tokens < unknown - 1), unknown)
