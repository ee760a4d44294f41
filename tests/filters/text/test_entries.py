"""Entries in texts against substrings in plain Python, and the arithmetic of balancing."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import ahocorasick
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.text.entries import (
    EntriesError,
    EntryIndex,
    entry_hashes,
    keep_by_entries,
    read_entries,
)

MARKS = ",.;:?!`"
words = st.sampled_from(["a", "an", "cat", "Cat", "big", "zwölf", "猫", "St.", "e-mail", ",", "x."])
entries = st.lists(
    st.lists(words, min_size=1, max_size=4).map(" ".join), min_size=1, max_size=12, unique=True
)
gaps = st.sampled_from([" ", " ", " ", "  ", ", ", ".", "! ", "\n", "\t", "`", "'", "\u00a0"])
texts = st.lists(st.tuples(words, gaps), max_size=12).map(lambda some: "".join(w + g for w, g in some))


def spaced(text: str) -> str:
    text = f" {text} "
    for mark in MARKS:
        text = text.replace(mark, f" {mark} ")
    for white in "\t\n\r":
        text = text.replace(white, " ")
    return text


def found(index: EntryIndex, column: pa.Array) -> list[list[int]]:
    first, numbers = index.find(column)
    lists = [numbers[a:b].tolist() for a, b in pairwise(first)]
    assert all(len(some) == len(set(some)) for some in lists)
    return [sorted(some) for some in lists]


@given(entries, st.lists(st.none() | texts, max_size=6))
def test_the_entries_are_those_that_a_substring_search_finds(
    listed: list[str], column: list[str | None]
) -> None:
    expected = [
        [number for number, entry in enumerate(listed) if text is not None and f" {entry} " in spaced(text)]
        for text in column
    ]
    index = EntryIndex(pa.array(listed))
    assert found(index, pa.array(column, pa.string())) == expected
    assert found(index, pa.array(["cat an", *column], pa.large_string()).slice(1)) == expected


@given(entries, texts)
def test_the_entries_are_those_of_the_automaton_that_metaclip_uses(listed: list[str], text: str) -> None:
    automaton: Any = ahocorasick.Automaton()
    for number, entry in enumerate(listed):
        automaton.add_word(f" {entry} ", number)
    automaton.make_automaton()
    expected = sorted({number for _, number in automaton.iter(spaced(text))})
    assert found(EntryIndex(pa.array(listed)), pa.array([text])) == [expected]


def test_an_entry_counts_once_in_a_text_and_in_its_own_case_only() -> None:
    index = EntryIndex(pa.array(["New York", "York", "cat"]))
    column = pa.array(["cat, cat: cat", "New York, new York!", "NEW YORK", "cats", ""])
    assert found(index, column) == [[2], [0, 1], [], [], []]


def test_more_entries_than_a_text_has_bytes_are_all_found() -> None:
    letters = ["a b c d e f g h"[start:stop] for start in range(0, 16, 2) for stop in range(start + 1, 16, 2)]
    index = EntryIndex(pa.array(letters))
    rows = 400
    assert found(index, pa.array(["a b c d e f g h"] * rows)) == [list(range(len(letters)))] * rows


def test_a_text_file_has_an_entry_a_line(tmp_path: Path) -> None:
    file = tmp_path / "entries.txt"
    file.write_bytes("\ufeffcat\r\n  dog \n\n cat\nSt. John\nfull stop .\nline\u2028end\n".encode())
    listed = read_entries(file)
    assert listed.entries.to_pylist() == ["cat", "dog", "St. John", "full stop .", "line\u2028end"]
    assert (listed.empty, listed.repeated, listed.never) == (1, 1, 1)


def test_an_entry_that_is_said_never_to_be_found_is_in_no_text() -> None:
    listed = ["St. John", "a,b", "x\ty", ".", "a , b"]
    column = pa.array([*listed, "St . John", "St .  John", "x y", "x\ny"])
    hits = {number for row in found(EntryIndex(pa.array(listed)), column) for number in row}
    assert hits == {3, 4}


def test_a_json_list_may_be_given_instead(tmp_path: Path) -> None:
    file = tmp_path / "metadata.json"
    file.write_text(json.dumps(["cat", "", "two\nlines", "cat"]))
    listed = read_entries(file)
    assert listed.entries.to_pylist() == ["cat", "two\nlines"]
    assert (listed.empty, listed.repeated, listed.never) == (1, 1, 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"{}", "no list of strings"),
        ("a.json", b'["a", 3]', "item 2 of the list is no string"),
        ("a.json", b'["\\ud800"]', "item 1 of the list has half"),
        ("a.json", b'["a"', "is not JSON"),
        ("a.txt", b" \n\n", "has no entry"),
        ("a.txt", b"caf\xe9\n", "is not UTF-8 \\(byte 3\\)"),
    ],
)
def test_a_file_that_is_no_list_of_entries_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EntriesError, match=message):
        read_entries(tmp_path / name)


@given(st.lists(st.lists(st.integers(0, 4), max_size=5, unique=True), max_size=9), st.integers(0, 99))
def test_the_probability_of_keeping_is_that_not_every_draw_fails(lists: list[list[int]], seed: int) -> None:
    probability = np.array([1.0, 0.5, 0.125, 1e-6, 0.999])
    first = np.cumsum([0, *map(len, lists)])
    numbers = np.array([number for some in lists for number in some], np.int32)
    drawn = np.random.default_rng(seed).integers(0, 2**64, len(lists), np.uint64)
    keep, chance = keep_by_entries(first, numbers, probability, entry_hashes(pa.array(list("abcde"))), drawn)
    for row, some in enumerate(lists):
        assert chance[row] == pytest.approx(1 - math.prod(1 - probability[number] for number in some))
        assert keep[row] or 0 not in some  # a probability of one always succeeds
        assert some or not keep[row]


def test_draws_of_entries_succeed_as_often_as_they_should_and_independently() -> None:
    rows, probability = 100_000, np.array([0.3, 0.02])
    drawn = np.random.default_rng(5).integers(0, 2**64, rows, np.uint64)
    hashes = entry_hashes(pa.array(["cat", "dog"]))
    kept = {}
    for some in ((0,), (1,), (0, 1)):
        first, numbers = np.arange(rows + 1) * len(some), np.tile(np.array(some, np.int32), rows)
        kept[some], _ = keep_by_entries(first, numbers, probability, hashes, drawn)
    assert (kept[0, 1] == kept[0,] | kept[1,]).all()
    both = (kept[0,] & kept[1,]).mean()
    for share, expected in ((kept[0,].mean(), 0.3), (kept[1,].mean(), 0.02), (both, 0.006)):
        assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / rows)
