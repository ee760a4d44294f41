"""Occurrences of listed words against a definition by regular expression, and the files that hold them."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path

import pyarrow as pa
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from thresher.filters.text import characters
from thresher.filters.text.word_lists import (
    COUNT,
    COVERED,
    DISTINCT,
    MAX_ENTRY,
    WORDS,
    WordList,
    read_weighted_words,
    read_word_list,
)
from thresher.filters.text.words import split_words
from thresher.schemas.contracts import AssetError

UNSPACED = [
    range(int(first, 16), int(last or first, 16) + 1)
    for first, _, last in (block.partition("-") for block in characters.UNSPACED_BLOCKS.split())
]
CHARACTERS = "aaabbAB1_-. \n\u3000é\u0301中国กิ🖕"
TEXTS = st.text(st.sampled_from(CHARACTERS), max_size=25)
ENTRIES = st.lists(
    st.text(st.sampled_from(CHARACTERS), min_size=1, max_size=4)
    .map(lambda t: " ".join(t.split()))
    .filter(bool),
    max_size=6,
    unique_by=str.lower,
)


def kind(character: str) -> str:
    """u: letter of a script without spaces; m: mark; w: else part of words; ".": no part of a word."""
    category = unicodedata.category(character)
    if category[0] == "L" and any(ord(character) in block for block in UNSPACED):
        return "u"
    return "m" if category[0] == "M" else "w" if category[0] in "LN" or character == "_" else "."


def occurrences(
    text: str, entries: list[str], lowercase: bool, whole_words: bool
) -> list[tuple[int, int, int]]:
    """(start, stop, entry) of the first, longest occurrences that do not overlap."""
    if lowercase:
        text, entries = text.lower(), [entry.lower() for entry in entries]
    kinds = "".join(map(kind, text))
    found, at = [], 0
    while at < len(text):
        best: tuple[int, int, int] | None = None
        for number, entry in enumerate(entries):
            pattern = r"\s+".join(map(regex.escape, entry.split(" ")))
            match = regex.compile(pattern).match(text, at)
            if match is None:
                continue
            stop = match.end()
            if whole_words:
                if at and kinds[at - 1] in "mw" and kinds[at] in "mw":
                    continue
                if kinds[stop : stop + 1] == "m" or (
                    kinds[stop - 1] in "mw" and kinds[stop : stop + 1] == "w"
                ):
                    continue
            if best is None or stop > best[1]:
                best = at, stop, number
        if best:
            found.append(best)
        at = best[1] if best else at + 1
    return found


@settings(max_examples=700)
@given(st.lists(st.one_of(st.none(), TEXTS), max_size=4), ENTRIES, st.booleans(), st.booleans())
@example(["ab a  b\u3000中国中", "a-b"], ["a b", "a", "中", "-"], True, True)
@example(["กิ ก", "é\u0301 é"], ["ก", "é"], True, True)
def test_occurrences_are_those_of_the_definition(
    texts: list[str | None], entries: list[str], lowercase: bool, whole_words: bool
) -> None:
    found = WordList(entries, lowercase=lowercase, whole_words=whole_words).find(pa.array(texts, pa.string()))
    expected = [occurrences(text or "", entries, lowercase, whole_words) for text in texts]
    assert found.counts[:, COUNT].tolist() == [len(spans) for spans in expected]
    assert found.counts[:, DISTINCT].tolist() == [len({entry for *_, entry in spans}) for spans in expected]
    assert found.valid.tolist() == [text is not None for text in texts]


@settings(max_examples=300)
@given(TEXTS, ENTRIES, st.booleans())
def test_words_are_covered_that_begin_in_an_occurrence(
    text: str, entries: list[str], whole_words: bool
) -> None:
    words = split_words(pa.array([text]), "unicode")
    starts = [len(bytes(words.data[:start]).decode()) for start in words.start]
    spans = occurrences(text, entries, False, whole_words)
    row = WordList(entries, lowercase=False, whole_words=whole_words).find(pa.array([text])).counts[0]
    assert row[WORDS] == len(starts)
    assert row[COVERED] == sum(any(start <= at < stop for start, stop, _ in spans) for at in starts)


@given(st.lists(st.one_of(st.none(), TEXTS), min_size=1, max_size=4), ENTRIES, st.data())
def test_slices_are_searched_as_the_whole_is(
    texts: list[str | None], entries: list[str], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(texts)))
    for type_ in (pa.string(), pa.large_string()):
        array = pa.array(texts, type_)
        whole, part = (WordList(entries).find(a) for a in (array, array.slice(start)))
        assert part.counts.tolist() == whole.counts[start:].tolist()


def test_weights_are_added_for_each_occurrence() -> None:
    found = WordList(["free", "free money"], [1.0, 2.5]).find(
        pa.array(["Free free money, FREE", "freed", None])
    )
    assert found.weights.tolist() == [4.5, 0.0, 0.0]


def test_a_phrase_is_found_across_lines_and_in_scripts_without_spaces() -> None:
    words = WordList(["how to", "坏话"])
    counts = words.find(pa.array(["how\n  to do", "how-to", "show tool", "他说坏话了", "坏 话"])).counts
    assert counts[:, COUNT].tolist() == [1, 0, 0, 1, 0]


def test_a_hundred_thousand_words_are_all_found() -> None:
    entries = [f"w{n:x}" for n in range(100_000)]
    counts = WordList(entries).find(pa.array([" ".join(entries), "w w186a0 wx"])).counts
    assert counts[:, [COUNT, DISTINCT]].tolist() == [[100_000, 100_000], [0, 0]]


def test_a_text_that_nearly_is_the_longest_entry_everywhere_is_read_in_bounded_time() -> None:
    words = WordList(["a" * (MAX_ENTRY - 1) + "b", "a a"], whole_words=False)
    begun = time.process_time()
    assert words.find(pa.array(["a" * 200_000 + "b"])).counts[0, COUNT] == 1
    assert time.process_time() - begun < 20


@pytest.mark.parametrize("entry", ["", " ", "x" * (MAX_ENTRY + 1)])
def test_an_entry_that_is_blank_or_too_long_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is not an entry"):
        WordList([entry])


def test_a_file_gives_an_entry_for_each_line_that_is_not_blank(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffone\r\n\n  two  words\t\n🖕\n#tag".encode())
    assert read_word_list(path) == ["one", "two words", "🖕", "#tag"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\ntw\xe9\n", r"words\.txt:2: not UTF-8"),
        (b"one\n\ntwo\0\n", r"words\.txt:3: holds a control character"),
        (b"one\n" + b"x" * 257, r"words\.txt:2: 257 bytes"),
        (b" \n\n", r"words\.txt: no words"),
    ],
)
def test_a_file_that_is_no_word_list_is_refused_with_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(AssetError, match=message):
        read_word_list(path)


def test_weighted_words_are_read_with_their_weights(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("bet\t0.5\n\nfree  bet\t-2\n", encoding="utf-8")
    assert read_weighted_words(path) == (["bet", "free bet"], [0.5, -2.0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bet", r"words\.tsv:2: 'bet'; write a word, a tab and a number"),
        ("bet\tmuch", r"words\.tsv:2: 'bet\\tmuch'; write"),
        ("bet\tnan", r"words\.tsv:2: .*; write"),
        ("\t1", r"words\.tsv:2: .*; write"),
        ("ok\t1", r"words\.tsv:2: 'ok' has a weight already"),
    ],
)
def test_a_wrong_line_of_weighted_words_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "words.tsv"
    path.write_text(f"ok\t1\n{line}\n", encoding="utf-8")
    with pytest.raises(AssetError, match=message):
        read_weighted_words(path)


def test_a_missing_file_is_an_asset_error(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="cannot be read"):
        read_word_list(tmp_path / "none.txt")
