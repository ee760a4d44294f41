"""Hashed n-grams against the definition of DSIR's authors, in plain Python with hashlib and re."""

from __future__ import annotations

import hashlib
import re
import sys
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from thresher.filters.text.hashed_ngrams import NgramHasher, sums

# What case and Unicode make hard: final and other sigmas, I with a dot, letters whose lower case is longer or
# shorter, marks, numbers, letters without case, spaces of all kinds.
ODD = "aZ_ .,-!\n\t\u00a0\u2028\u3000ΑΣσςİIıȺẞKÅⅫⓐ²½٣漢字ไ\u0301\u200d🦄𐐀\U000e0041\0"
texts = st.lists(
    st.none() | st.text(st.sampled_from(ODD), max_size=30) | st.text(max_size=30) | st.text(max_size=200),
    max_size=5,
)


def plain(text: str | None, ngram: int, buckets: int) -> list[int]:
    words = re.findall(r"\w+|[^\w\s]+", (text or "").lower())
    joined = [" ".join(words[at : at + n]) for n in range(1, ngram + 1) for at in range(len(words) - n + 1)]
    return [int(hashlib.sha256(one.encode()).hexdigest(), 16) % buckets for one in joined]


def hashed(hasher: NgramHasher, column: pa.Array) -> list[list[int]]:
    found = hasher.hash(column)
    return [found.buckets[a:b].tolist() for a, b in zip(found.first, found.first[1:], strict=False)]


@given(texts, st.integers(1, 4), st.sampled_from([1, 7, 10_000, 2**24]))
@example(["ΟΔΥΣΣΕΥΣ ΟΔΟΣ. Σ", None, "İSTANBUL", "ȺȺȺ"], 2, 10_000)
def test_each_ngram_has_the_bucket_of_the_authors_code(
    column: list[str | None], ngram: int, buckets: int
) -> None:
    hasher = NgramHasher(buckets, ngram, remembered=64)
    expected = [plain(text, ngram, buckets) for text in column]
    assert hashed(hasher, pa.array(column, pa.string())) == expected
    assert hashed(hasher, pa.array(column, pa.large_string())) == expected  # from memory, where it is kept


def test_lower_case_and_words_are_pythons_for_every_character() -> None:
    points = [point for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]
    column = [
        "".join(f"a{chr(point)}b " for point in points[at : at + 4096]) for at in range(0, len(points), 4096)
    ]
    assigned = column[:50] + column[-8:]  # planes 0 to 2, and the last ones
    found = NgramHasher(ngram=1).hash(pa.array(assigned))
    for row, text in enumerate(assigned):
        words = re.findall(r"\w+|[^\w\s]+", text.lower())
        assert found.words[row] == len(words)
    some = assigned[::7]
    assert hashed(NgramHasher(ngram=1), pa.array(some)) == [plain(text, 1, 10_000) for text in some]


@pytest.mark.parametrize("length", [1, 8, 9, 54, 55, 56, 63, 64, 119, 120, 502, 503, 504, 2000])
def test_words_of_any_length_are_hashed_whole(length: int) -> None:
    text = f"{'x' * length} y {'漢' * length} {'x' * length}z"
    assert hashed(NgramHasher(), pa.array([text])) == [plain(text, 2, 10_000)]


def test_a_bucket_does_not_depend_on_what_came_before() -> None:
    chance = np.random.default_rng(3)
    column = pa.array([" ".join(map(str, chance.integers(0, 5000, 300))) for _ in range(40)])
    fresh = [hashed(NgramHasher(remembered=2), column.slice(row, 1))[0] for row in range(len(column))]
    for remembered in (1, 256, 2**16):
        hasher = NgramHasher(remembered=remembered)
        assert hashed(hasher, column) == fresh
        assert hashed(hasher, column.slice(7, 9)) == fresh[7:16]


def test_counts_and_sums_are_those_of_the_buckets() -> None:
    hasher = NgramHasher(buckets=50)
    found = hasher.hash(pa.array(["one two one", None, "", "Two, one!"]))
    assert found.words.tolist() == [3, 0, 0, 4]
    expected = [plain(text, 2, 50) for text in ("one two one", "", "", "Two, one!")]
    counts = np.zeros(50, int)
    for bucket in chain.from_iterable(expected):
        counts[bucket] += 1
    assert hasher.counts(found).tolist() == counts.tolist()
    weights = np.random.default_rng(0).normal(size=(3, 50))
    wanted = [[sum(row[bucket] for bucket in buckets) for row in weights] for buckets in expected]
    np.testing.assert_allclose(sums(found, weights), wanted, rtol=1e-12, atol=1e-12)


def test_bytes_that_are_no_utf8_do_no_harm() -> None:
    broken = [b"\xff" * 40 + b" ok", b"\xc4", b"a \xce", b"\xf0\x9f\xa6"]
    column = pa.StringArray.from_buffers(len(broken), *pa.array(broken, pa.binary()).buffers()[1:])
    assert NgramHasher().hash(column).words.tolist() == [2, 1, 2, 1]


@pytest.mark.parametrize("arguments", [{"buckets": 0}, {"buckets": 2**24 + 1}, {"ngram": 0}, {"ngram": 9}])
def test_sizes_out_of_range_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="it is from 1 to"):
        NgramHasher(**arguments)
