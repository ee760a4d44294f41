"""Verification by Jaccard against sets of Python, and against every pair."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.dedup.minhash import MinHashScheme
from thresher.filters.dedup.verify import jaccard, roots, shingle_sets, unite

SCHEME = MinHashScheme(bands=2, rows=2, ngram=3, words="whitespace")
texts = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=12).map(" ".join)
sets = st.sets(st.integers(0, 60), max_size=30).map(sorted)


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[at : at + 3]) for at in range(max(1, len(words) - 2))} if words else set()


def similarity(a: set[object], b: set[object]) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0


@given(texts, texts)
def test_the_similarity_of_two_texts_is_that_of_their_shingles(a: str, b: str) -> None:
    made = shingle_sets(pa.array([a, b]), SCHEME)
    offsets = made.offsets.to_pylist()
    found = jaccard(made.values.to_numpy(), *offsets[:2], *offsets[1:], 1 << 16)
    assert found == similarity(shingles(a), shingles(b))


@given(st.lists(texts | st.none(), max_size=6), st.integers(1, 8))
def test_a_set_is_sorted_without_repeats_and_of_a_long_text_the_smallest(
    some: list[str | None], cap: int
) -> None:
    whole = shingle_sets(pa.array(some, pa.string()), SCHEME).to_pylist()
    assert [len(found) for found in whole] == [len(shingles(text or "")) for text in some]
    assert all(found == sorted(set(found)) for found in whole)
    assert shingle_sets(pa.array(some, pa.string()), SCHEME, cap).to_pylist() == [
        found[:cap] for found in whole
    ]


def test_capped_sets_estimate_the_similarity_of_whole_ones() -> None:
    draw = np.random.default_rng(5)
    errors = []
    for share in (0.2, 0.5, 0.8):
        for _ in range(30):
            common = draw.integers(0, 1 << 32, int(20_000 * share))
            own = [draw.integers(0, 1 << 32, 20_000 - len(common)) for _ in range(2)]
            a, b = (np.unique(np.concatenate([common, part])).astype(np.uint32) for part in own)
            true = similarity(set(a.tolist()), set(b.tolist()))
            values = np.concatenate([a[:1000], b[:1000]])
            errors.append(jaccard(values, 0, 1000, 1000, 2000, 1000) - true)
    assert abs(np.mean(errors)) < 0.01
    assert np.std(errors) < 0.03


def components(pairs: list[tuple[int, int]], count: int) -> list[int]:
    label = list(range(count))
    for a, b in pairs:
        low, high = sorted((label[a], label[b]))
        label = [low if one == high else one for one in label]
    return label


@pytest.mark.parametrize("heads", [1, 2, 64])
@given(
    groups=st.lists(st.lists(sets, min_size=1, max_size=7), min_size=1, max_size=3),
    bound=st.sampled_from([0.3, 0.5, 1.0]),
)
def test_a_group_falls_into_the_components_of_its_similar_pairs(
    heads: int, groups: list[list[list[int]]], bound: float
) -> None:
    members = [one for group in groups for one in group]
    starts = np.cumsum([0, *(len(group) for group in groups)])
    stops = np.cumsum([len(one) for one in members])
    values = np.array([value for one in members for value in one], np.uint32)
    parent = np.arange(len(members))
    begins = stops - [len(one) for one in members]
    unite(np.arange(len(members)), starts, heads, parent, begins, stops, values, bound, 1 << 16)
    similar = [
        (a, b)
        for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
        for a, b in combinations(range(start, stop), 2)
        if a - start < heads and similarity(set(members[a]), set(members[b])) >= bound
    ]
    assert roots(parent).tolist() == components(similar, len(members))
