"""Stop words: the lists against the words that we find, and the counts against sets of strings."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from importlib.util import find_spec
from typing import get_args

import pyarrow as pa
import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st
from thresher.filters.text.segmentation import LIBRARIES
from thresher.filters.text.stop_words import (
    STOP_WORDS,
    count_stop_words,
    stop_word_counts,
    stop_words_for,
)
from thresher.filters.text.words import WordKind, split_words

# The first sentence of article 1 of the Universal Declaration of Human Rights.
ARTICLE_1 = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and "
    "conscience and should act towards one another in a spirit of brotherhood.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und "
    "Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison "
    "et de conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de "
    "razón y conciencia, deben comportarse fraternalmente los unos con los otros.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и "
    "совестью и должны поступать в отношении друг друга в духе братства.",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "ja": "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler ve "
    "birbirlerine karşı kardeşlik zihniyeti ile hareket etmelidirler.",
}


def words_of(text: str, kind: WordKind) -> list[str]:
    words = split_words(pa.array([text]), kind)  # has a test of its own
    return [bytes(words.data[a:b]).decode() for a, b in zip(words.start, words.stop, strict=True)]


def test_forty_two_languages_have_eight_words_or_more_and_none_twice() -> None:
    assert len({language.partition("_")[0] for language in STOP_WORDS}) == 42
    for language, words in STOP_WORDS.items():
        assert 8 <= len(words) <= 64, language
        assert len(set(words)) == len(words), language
        assert all(word == word.lower() for word in words), language


def test_words_are_in_nfc_but_for_the_second_spelling_of_one() -> None:
    odd = [
        word for words in STOP_WORDS.values() for word in words if not unicodedata.is_normalized("NFC", word)
    ]
    assert odd == ["\u09b9\u09df"]
    assert unicodedata.normalize("NFC", odd[0]) in STOP_WORDS["bn"]


def test_english_is_the_list_of_gopher() -> None:
    assert STOP_WORDS["en"] == ("the", "be", "to", "of", "and", "that", "have", "with")


def test_each_list_is_written_in_the_script_of_its_language() -> None:
    scripts = {
        "Arabic": "ar fa ur",
        "Bengali": "bn",
        "Cyrillic": "bg ru uk sr_Cyrl",
        "Devanagari": "hi",
        "Greek": "el",
        "Han": "zh",
        "Hangul": "ko",
        "Hebrew": "he",
        "Hiragana": "ja",
        "Tamil": "ta",
        "Thai": "th",
    }
    by_language = {language: script for script, all_ in scripts.items() for language in all_.split()}
    for language, words in STOP_WORDS.items():
        if language != "sr":
            letters = rf"[\p{{Script={by_language.get(language, 'Latin')}}}\p{{M}}]+"
            assert all(regex.fullmatch(letters, word) for word in words), language


@pytest.mark.parametrize("kind", get_args(WordKind))
def test_every_stop_word_is_one_word_of_every_kind_but_in_thai(kind: WordKind) -> None:
    if kind == "segmented" and not all(map(find_spec, LIBRARIES)):
        pytest.skip("the libraries of the extra `languages` are not installed")
    divided = {language for language, words in STOP_WORDS.items() for w in words if words_of(w, kind) != [w]}
    assert divided == ({"th"} if kind == "unicode" else set())


def test_a_language_is_known_by_the_codes_of_every_model() -> None:
    german = STOP_WORDS["de"]
    assert [stop_words_for(code) for code in ("de", "deu", "deu_Latn", "de-Latn")] == [german] * 4
    assert (
        stop_words_for("cmn_Hani")
        == stop_words_for("zho_Hant")
        == stop_words_for("zh_Hans")
        == STOP_WORDS["zh"]
    )
    assert stop_words_for("nob_Latn") == stop_words_for("nb") == STOP_WORDS["no"]
    assert stop_words_for("srp_Latn") == STOP_WORDS["sr_Latn"]
    assert set(stop_words_for("sr")) == {*STOP_WORDS["sr_Latn"], *STOP_WORDS["sr_Cyrl"]}
    assert stop_words_for("kor_Hang") == STOP_WORDS["ko"]


def test_a_language_without_a_list_or_in_another_script_has_none() -> None:
    assert [stop_words_for(code) for code in ("tlh", "hi_Latn", "rus_Latn", "de_Cyrl", "")] == [()] * 5


def test_each_language_finds_its_own_words_and_few_of_a_strangers() -> None:
    for language, text in ARTICLE_1.items():
        own, other = pa.array([text, text]), pa.array([language, "hu"])
        found, strange = count_stop_words(own, other).to_pylist()
        assert found >= 2, language
        assert strange < 2, language


LETTER = st.sampled_from(
    [
        "The",
        "quick",
        "Der",
        "UND",
        "of",
        "the",
        "und",
        "TO",
        "be.",
        "的",
        "i",
        "İ",
        "ve",
        "VE",
        "İLE",
        "ile",
        "x",
    ]
)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.lists(LETTER, max_size=12).map(" ".join)),
            st.sampled_from(["en", "de", "zh", "tr", "xx", None]),
        ),
        max_size=6,
    )
)
@example([("The the THE of", "en"), ("the", "xx"), (None, "en"), ("the", None), ("VE İLE", "tr")])
def test_counts_are_those_of_sets_of_strings(rows: list[tuple[str | None, str | None]]) -> None:
    texts, languages = (
        pa.array([t for t, _ in rows], pa.string()),
        pa.array([code for _, code in rows], pa.string()),
    )
    counts = stop_word_counts(texts, languages, "unicode")
    for row, (text, language) in enumerate(rows):
        expected: tuple[int | None, ...] = (None, None, None)
        if text is not None and language not in ("xx", None):
            words = words_of(text, "unicode")
            turkish = str.maketrans("iİ", "İİ") if language == "tr" else {}
            upper = {word: word.translate(turkish).upper() for word in STOP_WORDS[language]}  # type: ignore[index]
            matches = [
                stop
                for word in words
                for stop, capitals in upper.items()
                if word in (stop, capitals[0] + stop[1:], capitals)
            ]
            expected = (len(set(matches)), len(matches), len(words))
        assert expected == tuple(
            column[row].as_py() for column in (counts.distinct, counts.occurrences, counts.words)
        )


def test_a_job_may_name_lists_of_its_own() -> None:
    lists: Mapping[str, list[str]] = {"tlh": ["ghaH", "je"], "en": ["quick"]}
    texts = pa.array(["qaSpu' ghaH je", "the quick", "und der"])
    counts = stop_word_counts(texts, pa.array(["tlh", "en", "de"]), "whitespace", lists)
    assert counts.distinct.to_pylist() == [2, 1, 2]


def test_sixty_four_words_can_be_counted_and_no_more() -> None:
    words = [f"w{number}" for number in range(65)]
    text, lang = pa.array([" ".join(words)]), pa.array(["xx"])
    assert count_stop_words(text, lang, lists={"xx": words[:64]}).to_pylist() == [64]
    with pytest.raises(ValueError, match="stop words of xx: 65; at most 64"):
        count_stop_words(text, lang, lists={"xx": words})


def test_languages_of_another_number_than_the_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="2 texts, but 1 languages"):
        count_stop_words(pa.array(["a", "b"]), pa.array(["en"]))


def test_thai_stop_words_are_found_among_segmented_words() -> None:
    if not all(map(find_spec, LIBRARIES)):
        pytest.skip("the libraries of the extra `languages` are not installed")
    text = "ประเทศไทยเป็นประเทศที่ตั้งอยู่ในภูมิภาคเอเชียตะวันออกเฉียงใต้และมีการพัฒนา"
    assert count_stop_words(pa.array([text]), pa.array(["th"]), "segmented").to_pylist() == [5]
    assert count_stop_words(pa.array([]).cast(pa.string()), pa.array([]).cast(pa.string())).to_pylist() == []
