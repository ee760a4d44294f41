"""N-grams of evaluation sets against plain Python sets of tuples of words."""

from __future__ import annotations

import gzip
import json
import string
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.dedup.decontamination import (
    Index,
    Selection,
    build_index,
    count_records,
    find_matches,
    read_index,
)
from thresher.filters.dedup.normal_words import Normalization

PLAIN = Normalization("whitespace")
words = st.sampled_from(["a", "b", "c", "dd", "É", "cc"])
texts = st.lists(words, max_size=14).map(" ".join)
items = st.lists(st.tuples(texts | st.none(), texts | st.none()), max_size=6)
selections = st.builds(
    Selection, st.integers(1, 5), st.booleans(), st.booleans(), st.none() | st.integers(1, 4)
)


def index_of(some: list[tuple[str | None, str | None]], selection: Selection) -> Index:
    """The index of items that come in two batches."""
    halves = [part for part in (some[: len(some) // 2], some[len(some) // 2 :]) if part]
    batches = [tuple(pa.array(column, pa.string()) for column in zip(*half, strict=True)) for half in halves]
    numbers = list(range(1, len(some) + 1))
    return build_index(batches, [number % 2 for number in numbers], numbers, PLAIN, selection)  # type: ignore[arg-type]


def normal(text: str | None) -> list[str]:
    return [] if text is None else text.lower().split()


def ngrams_of(some: list[tuple[str | None, str | None]], selection: Selection) -> dict[tuple[str, ...], int]:
    """Each n-gram to look for, with the number of the first item that has it."""
    found: dict[tuple[str, ...], int] = {}
    for number, (query, text) in enumerate(some, 1):
        mine, split = normal(query) + normal(text), len(normal(query))
        size = selection.size
        if selection.shortest is not None and selection.shortest <= len(mine) < size:
            size = len(mine)
        elif len(mine) < size:
            continue
        for start in range(len(mine) - size + 1):
            in_query, behind = start + size <= split, start >= split
            if behind or (selection.query if in_query else selection.overlap):
                found.setdefault(tuple(mine[start : start + size]), number)
    return found


@given(items, selections, st.lists(texts | st.none(), max_size=5))
def test_what_is_found_is_what_sets_of_word_tuples_find(
    some: list[tuple[str | None, str | None]], selection: Selection, searched: list[str | None]
) -> None:
    index, wanted = index_of(some, selection), ngrams_of(some, selection)
    assert len(index) == len(wanted)
    # A slice, so that texts do not begin where their buffer does.
    array = pa.array(["a b c dd", *searched], pa.string()).slice(1)
    found = find_matches(array, index, PLAIN)
    for row, text in enumerate(searched):
        mine = normal(text)
        expected = []
        covered: set[int] = set()
        for start in range(len(mine)):
            longest = [n for n in range(1, len(mine) - start + 1) if tuple(mine[start : start + n]) in wanted]
            if longest:
                expected.append((tuple(mine[start : start + longest[-1]]), start))
                covered |= set(range(start, start + longest[-1]))
        told = []
        for k in range(found.first[row], found.first[row + 1]):
            raw = (text or "").encode()
            ngram = tuple(raw[found.start[k] : found.stop[k]].decode().lower().split())
            told.append((ngram, len(raw[: found.start[k]].decode().split())))
            assert index.origin(int(found.ngram[k])) == (wanted[ngram] % 2, wanted[ngram])
        assert told == expected
        assert found.words[row] == len(mine)
        assert found.covered[row] == len(covered)


@given(items, selections, st.lists(texts | st.none(), max_size=5))
def test_records_are_counted_once_for_each_ngram_that_they_have(
    some: list[tuple[str | None, str | None]], selection: Selection, searched: list[str | None]
) -> None:
    index, wanted = index_of(some, selection), ngrams_of(some, selection)
    ngrams, records = count_records(pa.array(searched, pa.string()), index, PLAIN)
    told = {}
    for ngram, count in zip(ngrams.tolist(), records.tolist(), strict=True):
        size, place = int(index.size_of(np.array([ngram]))[0]), int(index.place[ngram])
        edges = index.edge[place : place + size + 1]
        told[tuple(bytes(index.data[edges[k] : edges[k + 1]]).decode() for k in range(size))] = count
    expected = {}
    for ngram_ in wanted:
        size = len(ngram_)
        having = [
            text
            for text in searched
            if any(tuple(normal(text)[s : s + size]) == ngram_ for s in range(len(normal(text))))
        ]
        if having:
            expected[ngram_] = len(having)
    assert told == expected


def test_a_hash_that_two_ngrams_share_finds_neither_in_place_of_the_other() -> None:
    index = index_of([(None, "one two three"), (None, "four five six")], Selection(3))
    first = int(find_matches(pa.array(["one two three"]), index, PLAIN).ngram[0])
    # Both n-grams get the key of the first; then only the words tell them apart.
    shared = replace(index, key=np.full(2, index.key[first]))
    found = find_matches(pa.array(["one two three", "four five six", "seven"]), shared, PLAIN)
    assert found.first.tolist() == [0, 1, 1, 1]
    assert shared.origin(int(found.ngram[0])) == (1, 1)
    # A word more or less, or the same letters cut otherwise, is another n-gram.
    others = pa.array(["one twot hree", "one two threes", "on etwo three"])
    assert not len(find_matches(others, index, PLAIN).start)


def test_different_ngrams_that_share_a_hash_are_both_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from thresher.filters.dedup import decontamination

    def constant(places: np.ndarray, size: int, hashes: np.ndarray, keys: np.ndarray) -> None:
        keys[:] = 7

    monkeypatch.setattr(decontamination, "_keys", constant)
    index = index_of([(None, "one two three one two")], Selection(2))
    assert index.key.tolist() == [7, 7, 7]
    assert index.place.tolist() == [0, 1, 2]


def test_an_ignored_ngram_leaves_shorter_ones_to_be_found() -> None:
    index = index_of([(None, "a b c d"), (None, "b c")], Selection(3, shortest=2))
    text = pa.array(["x b c d"])
    before = find_matches(text, index, PLAIN)
    assert (before.start.tolist(), before.stop.tolist()) == ([2], [7])
    ignored = np.zeros(len(index), np.bool_)
    ignored[before.ngram] = True
    after = find_matches(text, index, PLAIN, ignored)
    assert (after.start.tolist(), after.stop.tolist()) == ([2], [5])


def test_an_index_read_from_its_file_is_the_one_that_was_written(tmp_path: Path) -> None:
    index = index_of([("what is it", "a river it is"), (None, "b c")], Selection(3, shortest=2))
    batch = index.batch()
    with pa.ipc.new_file(str(tmp_path / "index.arrow"), batch.schema) as writer:
        writer.write_batch(batch)
    read = read_index(tmp_path / "index.arrow")
    for name, column in vars(index).items():
        assert getattr(read, name).dtype == column.dtype
        assert getattr(read, name).tolist() == column.tolist(), name
    assert len(find_matches(pa.array(["so it a river"]), read, PLAIN).start) == 1


def test_texts_of_more_than_a_piece_are_found_in_all_of_them() -> None:
    index = index_of([(None, "needle in a haystack")], Selection(4))
    hay = "hay " * 200_000
    searched = pa.array([hay + "Needle in, a haystack", hay, None, "needle in a haystack " + hay])
    found = find_matches(searched, index, PLAIN)
    assert found.first.tolist() == [0, 1, 1, 1, 2]
    assert found.start.tolist() == [len(hay), 0]
    assert found.covered.tolist() == [4, 0, 0, 4]


def test_excerpts_of_real_pages_are_found_in_their_pages_and_nowhere_else(shared_data: Path) -> None:
    pages = []
    for path in sorted((shared_data / "text").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            pages += [json.loads(line)["text"] for line in file]
    spaced = [page.split() for page in pages]
    # Thirty words from the middle of every third page, in capitals and between quotation marks.
    some = [(None, "“" + " ".join(page[len(page) // 2 :][:30]).upper() + "”") for page in spaced[::3]]
    index = index_of(some, Selection(13))
    found = find_matches(pa.array(pages), index, PLAIN)
    marks = {c for page in pages for c in page if unicodedata.category(c)[0] == "P"} | set(string.punctuation)

    def ngrams(text: str) -> list[tuple[str, ...]]:
        bare = "".join(c.lower() for c in text if c not in marks and c not in "“”").split()
        return [tuple(bare[start : start + 13]) for start in range(len(bare) - 12)]

    wanted = {ngram for _, text in some for ngram in ngrams(text)}
    expected = [sum(ngram in wanted for ngram in ngrams(page)) for page in pages]
    assert np.diff(found.first).tolist() == expected
    assert min(expected[::3]) >= 10
