"""Words against str.split and a definition by general category; the hash against its formula."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from thresher.filters.text import characters
from thresher.filters.text.hashing import hash_bytes
from thresher.filters.text.words import WordKind, split_words

ODD = "aé中がゟกา́ ์_9٣Ⅷ.'\"\n\r\t\x00\x1c\x85\xa0\u2028\u3000\ufeff\u200b😀ﷺ\U00020000Ω"
TEXTS = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(ODD)))


def words_of(text: pa.Array, kind: WordKind) -> list[list[str]]:
    words = split_words(text, kind)
    found = [bytes(words.data[a:b]).decode() for a, b in zip(words.start, words.stop, strict=True)]
    return [found[a:b] for a, b in zip(words.first[:-1], words.first[1:], strict=True)]


def unicode_words(text: str) -> list[str]:
    """The definition, by hand: each character becomes a letter that tells its class."""
    ranges = [part.partition("-") for part in characters.UNSPACED_BLOCKS.split()]

    def class_of(character: str) -> str:
        category = unicodedata.category(character)
        if category[0] == "L" and any(
            int(first, 16) <= ord(character) <= int(last or first, 16) for first, _, last in ranges
        ):
            return "u"
        if category[0] == "M":
            return "m"
        return "w" if category[0] in "LN" or character == "_" else "."

    classes = "".join(map(class_of, text))
    return [text[slice(*match.span())] for match in regex.finditer("um*|[wm]+", classes)]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.none(), TEXTS), max_size=5))
@example(["", None, " ", "a", "a b ", " \n\n\n"])
def test_whitespace_words_are_those_of_str_split(texts: list[str | None]) -> None:
    expected = [(text or "").split() for text in texts]
    assert words_of(pa.array(texts, pa.string()), "whitespace") == expected


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.none(), TEXTS), max_size=5))
@example(["国a国", "กาก้", "a\u0301b", "\u0301", "_x-y", "don't"])
def test_unicode_words_are_runs_of_word_characters_or_single_unspaced_letters(
    texts: list[str | None],
) -> None:
    expected = [unicode_words(text or "") for text in texts]
    assert words_of(pa.array(texts, pa.string()), "unicode") == expected


def test_unicode_words_of_known_texts() -> None:
    array = pa.array(["Don't stop_me 42!", "我爱 Python3", "สวัสดี", "naïve cafe\u0301", "カタカナとひらがな"])
    assert words_of(array, "unicode") == [
        ["Don", "t", "stop_me", "42"],
        ["我", "爱", "Python3"],
        ["ส", "วั", "ส", "ดี"],
        ["naïve", "cafe\u0301"],
        ["カタカナ", "と", "ひ", "ら", "が", "な"],
    ]


@pytest.mark.parametrize("kind", ["whitespace", "unicode"])
def test_slices_and_large_strings_have_the_same_words(kind: WordKind) -> None:
    texts = ["first one", None, "zweiter Text", "третий", "", "四つ目"]
    for type_ in (pa.string(), pa.large_string()):
        array = pa.array(texts, type_)
        assert words_of(array.slice(1, 4), kind) == words_of(array, kind)[1:5]
    assert words_of(pa.array([None, None]), kind) == [[], []]
    assert words_of(pa.array([], pa.string()), kind) == []


def test_bytes_under_a_null_are_not_read() -> None:
    full = pa.array(["hidden words", "seen"])
    masked = pa.Array.from_buffers(pa.string(), 2, [pa.py_buffer(b"\x02"), *full.buffers()[1:]], 1)
    assert words_of(masked, "whitespace") == [[], ["seen"]]


def test_bytes_that_are_not_utf8_have_a_defined_result() -> None:
    raw = b"a\xff\xc3 \xe4\xb8 b\xf0\x9f\x98"
    array = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, len(raw)], pa.int32()).buffers()[1], pa.py_buffer(raw)]
    )
    words = split_words(array, "whitespace")
    assert raw[words.start[0] : words.stop[0]].startswith(b"a\xff")


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="'spacy' is not one of whitespace, unicode, segmented"):
        split_words(pa.array(["a"]), "spacy")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int64"):
        split_words(pa.array([1]), "unicode")


def formula(word: bytes) -> int:
    """The hash as its docstring states it, in Python's integers."""

    def fold(a: int, b: int) -> int:
        return (a * b) % 2**64 ^ (a * b) >> 64

    h = 0x6A09E667F3BCC908 ^ len(word)
    for at in range(0, len(word), 8):
        h = fold(h ^ int.from_bytes(word[at : at + 8], "little"), 0xBB67AE8584CAA73B)
    return fold(h, 0x3C6EF372FE94F82B)


@given(st.binary(max_size=40), st.binary(max_size=9), st.binary(max_size=9))
def test_the_hash_follows_its_formula_wherever_the_word_lies(
    word: bytes, before: bytes, after: bytes
) -> None:
    data = np.frombuffer(before + word + after, np.uint8)
    assert int(hash_bytes(data, len(before), len(before) + len(word))) == formula(word)


def test_hashes_of_words_never_change() -> None:
    words = split_words(pa.array(["the quick brown fox jumped over incomprehensibilities"]), "whitespace")
    assert [f"{h:016x}" for h in words.hash.tolist()] == [
        "640da94c2937429d",
        "4e0a689d7c3563ff",
        "3ad979a736f99878",
        "82984a7a2ff2eb26",
        "28be1b3fe3b317b3",
        "7d2c11237298fe68",
        "a1065d05d117d354",
    ]


def test_every_bit_of_the_hash_is_set_for_half_of_many_similar_words() -> None:
    text = " ".join(f"w{i}" for i in range(1 << 14))
    hashes = split_words(pa.array([text]), "whitespace").hash
    assert len(set(hashes.tolist())) == 1 << 14
    bits = np.unpackbits(hashes.view(np.uint8)).reshape(-1, 64).mean(axis=0)
    assert np.all(np.abs(bits - 0.5) < 0.03)  # seven standard deviations


def test_the_table_of_classes_agrees_with_the_unicode_database_everywhere() -> None:
    table = characters.character_classes()
    points = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    texts = [chr(point) for point in points]
    classes = table[points]
    for bit, expected in (
        (characters.SPACE, map(str.isspace, texts)),
        (characters.LETTER, map(str.isalpha, texts)),
        (characters.DIGIT, map(str.isdecimal, texts)),
        (characters.PUNCTUATION, (unicodedata.category(text)[0] == "P" for text in texts)),
        (characters.LOWER, (unicodedata.category(text) == "Ll" for text in texts)),
        (characters.UPPER, (unicodedata.category(text) in ("Lu", "Lt") for text in texts)),
    ):
        assert np.array_equal((classes & bit) != 0, np.fromiter(expected, np.bool_, len(points)))


def test_terminals_are_the_sentence_terminals_of_the_unicode_standard() -> None:
    table = characters.character_classes()
    points = [p for p in range(0x110000) if unicodedata.category(chr(p)) not in ("Cn", "Cs", "Co")]
    terminal = regex.compile(r"\p{Sentence_Terminal}")
    assert [p for p in points if table[p] & characters.TERMINAL] == [
        p for p in points if terminal.match(chr(p))
    ]


def test_kana_are_the_letters_of_hiragana_and_katakana_of_the_unicode_standard() -> None:
    table = characters.character_classes()
    points = [p for p in range(0x110000) if unicodedata.category(chr(p))[0] == "L"]
    # The marks of long and voiced sounds are in no script, for Hiragana and Katakana share them.
    kana = regex.compile(r"[\p{Script=Hiragana}\p{Script=Katakana}\u30fc\uff70\uff9e\uff9f]")
    assert [p for p in points if table[p] & characters.KANA] == [p for p in points if kana.match(chr(p))]
    assert not any(table[p] & characters.KANA for p in range(0x110000) if not table[p] & characters.LETTER)
