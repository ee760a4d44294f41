"""Words and pairs against plain Python, and the set that holds their hashes."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.text.word_pairs import HashSet, word_pairs

texts = st.lists(
    st.none() | st.text(st.sampled_from("abA Bé1_ .,-\n"), max_size=20),
    max_size=6,
)


def plain(text: str | None, sizes: set[int], lowercase: bool) -> list[str]:
    words = re.findall(r"\w+", (text or "").lower() if lowercase else text or "")
    made = []
    for number, word in enumerate(words):
        made += [word] if 1 in sizes else []
        made += [f"{word} {words[number + 1]}"] if 2 in sizes and number + 1 < len(words) else []
    return made


@given(texts, st.sampled_from([{1}, {2}, {1, 2}]), st.booleans())
def test_the_words_and_pairs_are_those_of_the_definition(
    column: list[str | None], sizes: set[int], lowercase: bool
) -> None:
    made = word_pairs(pa.array(column, pa.string()), sizes, lowercase)
    expected = [(row, ngram) for row, text in enumerate(column) for ngram in plain(text, sizes, lowercase)]
    read = [made.read(which) for which in range(len(made.hash))]
    assert list(zip(made.text.tolist(), read, strict=True)) == expected
    by_hash = dict(zip(made.hash.tolist(), read, strict=True))
    assert [by_hash[key] for key in made.hash.tolist()] == read
    assert len(by_hash) == len(set(read))


def test_a_pair_is_another_one_in_another_order() -> None:
    made = word_pairs(pa.array(["one two", "two one"]), {2}, lowercase=False)
    assert [made.read(which) for which in (0, 1)] == ["one two", "two one"]
    assert made.hash[0] != made.hash[1]


@given(st.lists(st.lists(st.integers(1, 2**64 - 1) | st.integers(1, 40), max_size=700), max_size=6))
def test_the_set_has_what_was_put_in_and_nothing_else(rounds: list[list[int]]) -> None:
    made, expected = HashSet(), set[int]()
    for keys in rounds:
        made.add(np.array(keys, np.uint64))
        expected |= set(keys)
        asked = np.array([*expected, *range(1, 60), 2**64 - 1], np.uint64)
        assert made.has(asked).tolist() == [key in expected for key in asked.tolist()]
        assert len(made) == len(expected)
