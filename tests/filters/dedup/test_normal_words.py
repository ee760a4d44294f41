"""Words as decontamination compares them, against definitions in plain Python."""

from __future__ import annotations

import re
import string
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.dedup.normal_words import DATATROVE_PUNCTUATION, Normalization, normal_words
from thresher.filters.text.words import split_words

NASTY = "aB9 1,5\t\n_-'\"’ÀéßİΣς中한각กั़०٣½…“”$€😀́\u00a0\x1c\x85\ufeff１"
texts = st.text(st.sampled_from(NASTY) | st.characters(exclude_categories=["Cs"]), max_size=30)


def words_of(text: str | None, how: Normalization) -> list[tuple[str, str]]:
    """Each word with the text that it stands for."""
    found = normal_words(pa.array(["before", text, "after"], pa.string()), how)
    raw = f"before{text or ''}after".encode()
    return [
        (
            bytes(found.data[found.edge[w] : found.edge[w + 1]]).decode(),
            raw[found.start[w] : found.stop[w]].decode(),
        )
        for w in range(found.first[1], found.first[2])
    ]


def folded(text: str) -> str:
    # Lower case by the character, for what stands beside a sigma says which one it becomes.
    return "".join(c.lower() for c in text).replace("ς", "σ")


def gpt3(text: str) -> list[str]:
    """Brown et al.: lower case words between white space, without punctuation."""
    kept = "".join(
        c for c in folded(text) if not (unicodedata.category(c)[0] == "P" or c in string.punctuation)
    )
    return kept.split()


def datatrove(text: str) -> list[str]:
    """utils/text.py's order of things: case, punctuation, diacritics, numbers."""
    marks = set()
    for item in DATATROVE_PUNCTUATION.split():
        low, _, high = item.partition("-")
        marks |= set(map(chr, range(int(low, 16), int(high or low, 16) + 1)))
    # White space comes first there, and some of it is among the marks.
    bare = "".join(" " if c.isspace() else c for c in folded(text) if c.isspace() or c not in marks)
    plain = "".join(c for c in bare if unicodedata.category(c) != "Mn")
    plain = "".join(
        d for c in plain for d in unicodedata.normalize("NFD", c) if unicodedata.category(d) != "Mn"
    )
    return re.sub(r"\d+", "0", plain).split(" ") if plain.strip(" ") else []


@given(texts)
def test_words_between_white_space_lose_case_and_punctuation(text: str) -> None:
    assert [word for word, _ in words_of(text, Normalization("whitespace"))] == gpt3(text)


@given(texts)
def test_datatroves_words_lose_diacritics_and_what_a_number_is_too(text: str) -> None:
    how = Normalization("whitespace", "datatrove", diacritics=True, numbers=True)
    assert [word for word, _ in words_of(text, how)] == [word for word in datatrove(text) if word]


@given(texts)
def test_unicode_words_are_those_of_split_words_in_lower_case(text: str) -> None:
    split = split_words(pa.array([text]), "unicode")
    raw = text.encode()
    expected = [raw[a:b].decode() for a, b in zip(split.start, split.stop, strict=True)]
    found = words_of(text, Normalization("unicode"))
    # An underscore is a word character and punctuation.
    left = [word for word in expected if set(word) - {c for c in word if unicodedata.category(c) == "Pc"}]
    assert [raw for _, raw in found] == left
    assert [word for word, _ in found] == [
        "".join(c for c in folded(word) if unicodedata.category(c) != "Pc") for word in left
    ]


@given(texts)
def test_equal_words_and_no_others_have_equal_hashes(text: str) -> None:
    found = normal_words(pa.array([text, text.upper()]), Normalization())
    names = [bytes(found.data[a:b]) for a, b in zip(found.edge, found.edge[1:], strict=False)]
    hashes: dict[bytes, int] = {}
    for name, hash_ in zip(names, found.hash.tolist(), strict=True):
        assert hashes.setdefault(name, hash_) == hash_
    assert len(set(hashes.values())) == len(hashes)


@pytest.mark.parametrize(
    ("text", "how", "expected"),
    [
        ("Don't “panic” - it's 1,000.50 €!", Normalization("whitespace"), "dont panic its 100050 €"),
        ("Don't “panic” - it's 1,000.50!", Normalization("unicode"), "don t panic it s 1 000 50"),
        ("ΟΔΟΣ οδός", Normalization("unicode", diacritics=True), "οδοσ οδοσ"),
        ("naïve nai\u0308ve", Normalization("unicode", diacritics=True), "naive naive"),
        ("a 12 b3c45 1,000", Normalization("whitespace", numbers=True), "a 0 b0c0 0"),
        ("中文 ok", Normalization("unicode"), "中 文 ok"),
        ("a\0b \0", Normalization("whitespace"), "a\0b \0"),
        ("_emphasis_ __ snake_case", Normalization("unicode"), "emphasis snakecase"),
    ],
)
def test_words_of_a_few_texts(text: str, how: Normalization, expected: str) -> None:
    assert [word for word, _ in words_of(text, how)] == expected.split()


def test_a_null_has_no_words_and_bytes_that_are_no_utf8_stay_what_they_are() -> None:
    assert words_of(None, Normalization()) == []
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\x05\0\0\0"), pa.py_buffer(b"a \xff\xe4b")]
    )
    found = normal_words(broken, Normalization("whitespace"))
    assert bytes(found.data) == b"a\xff\xe4b"
