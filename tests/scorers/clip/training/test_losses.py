"""The losses of training are those of open_clip, but for pairs that are the same."""

from __future__ import annotations

from typing import Any

import pytest
from thresher.scorers.clip.training.losses import alike, contrastive_loss, sigmoid_loss

torch = pytest.importorskip("torch")


def embeddings(pairs: int) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(2, pairs, 12, generator=generator)
    images, texts = torch.nn.functional.normalize(drawn, dim=-1)
    return images, texts


def different(pairs: int) -> Any:
    return alike(torch.arange(pairs), torch.arange(pairs))


def test_where_all_pairs_differ_the_losses_are_those_of_open_clip(open_clip: Any) -> None:
    from open_clip.loss import ClipLoss, SigLipLoss

    images, texts = embeddings(9)
    scale, bias = torch.tensor(14.0), torch.tensor(-10.0)
    ours = contrastive_loss(images, texts, scale, different(9))
    assert ours.item() == pytest.approx(ClipLoss()(images, texts, scale).item(), rel=1e-6)
    ours = sigmoid_loss(images, texts, scale, bias, different(9))
    assert ours.item() == pytest.approx(SigLipLoss()(images, texts, scale, bias).item(), rel=1e-6)


def test_pairs_with_one_caption_or_one_picture_are_no_strangers() -> None:
    same = alike(torch.tensor([1, 2, 1, 4]), torch.tensor([7, 8, 9, 8]))
    assert [(int(row), int(column)) for row, column in same.nonzero()] == [(0, 2), (1, 3), (2, 0), (3, 1)]


def test_what_is_the_same_is_left_out_of_the_sums() -> None:
    images, texts = embeddings(3)
    same = alike(torch.tensor([1, 2, 2]), torch.tensor([1, 2, 3]))
    scale, bias = torch.tensor(5.0), torch.tensor(-1.0)
    logits = (5.0 * images @ texts.T).double()
    by_image, by_text = 0.0, 0.0
    for pair, others in ((0, (0, 1, 2)), (1, (0, 1)), (2, (0, 2))):
        by_image += (torch.logsumexp(logits[pair, list(others)], 0) - logits[pair, pair]).item() / 3
        by_text += (torch.logsumexp(logits[list(others), pair], 0) - logits[pair, pair]).item() / 3
    found = contrastive_loss(images, texts, scale, same).item()
    assert found == pytest.approx((by_image + by_text) / 2, rel=1e-5)
    choices = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 0), (2, 0)]
    told = sum(
        torch.log1p(torch.exp((-1 if row == column else 1) * (logits[row, column] - 1))).item()
        for row, column in choices
    )
    assert sigmoid_loss(images, texts, scale, bias, same).item() == pytest.approx(told / 3, rel=1e-5)
