"""True captions against shuffled ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.scorers.clip.training.evaluation import derangements, separation


@given(st.lists(st.integers(0, 6), max_size=40))
def test_no_image_gets_a_caption_like_its_own_and_each_caption_is_given_once(kinds: list[int]) -> None:
    captions = np.array(kinds, np.uint64)
    ways = derangements(captions)
    for way in ways:
        assert sorted(way) == list(range(len(kinds)))
        assert not (captions[way] == captions).any()
    commonest = max((kinds.count(kind) for kind in kinds), default=0)
    assert (len(ways) > 0) == (0 < 2 * commonest <= len(kinds))


def test_the_ways_differ() -> None:
    ways = derangements(np.arange(100, dtype=np.uint64))
    assert len(ways) == 16
    assert len({tuple(way) for way in ways}) == 16


def test_the_figure_is_the_share_of_comparisons_that_the_true_caption_wins() -> None:
    chance = np.random.default_rng(4)
    images, texts = chance.normal(size=(2, 30, 5)).astype(np.float32)
    texts += images
    ways = derangements(np.arange(30, dtype=np.uint64))
    wins = [
        float(images[one] @ texts[one] > images[other] @ texts[way[other]])
        for one in range(30)
        for way in ways
        for other in range(30)
    ]
    assert separation(images, texts, ways) == pytest.approx(np.mean(wins), abs=1e-9)
    assert separation(images, texts, ways[:0]) is None
