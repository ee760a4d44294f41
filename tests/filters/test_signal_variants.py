"""Names of variants, their options, and that one call serves them all."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.filters.signal_options import OPTIONS, problem_of
from thresher.filters.signals import (
    SIGNALS,
    SignalOptions,
    compute_signals,
    inputs_of,
    options_of,
    parse_variant,
    variant_name,
)

WORD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4).filter(
    lambda word: not any(map(str.isspace, word))
)
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "words": st.sampled_from(["whitespace", "unicode", "wordpunct", "segmented"]),
        "normalize": st.sampled_from(["none", "redpajama"]),
        "ngrams": st.sampled_from(["gopher", "redpajama"]),
        "stop_words": st.one_of(st.just("by_language"), st.lists(WORD, max_size=3).map(tuple)),
        "bullets": st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
        "short_line": st.integers(0, 99),
        "uppercase_line": st.floats(0, 1),
        "comments": st.sampled_from(["guess", "hash"]),
    },
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(SIGNALS)), CHOICES)
def test_a_name_says_the_options_that_matter(signal: str, choices: dict[str, Any]) -> None:
    options = SignalOptions(**choices)
    name = variant_name(signal, options)
    parsed, read = parse_variant(name)
    assert parsed == signal
    for option in OPTIONS:
        matters = option in SIGNALS[signal].options
        assert read.canonical(option) == (options if matters else SignalOptions()).canonical(option)
    assert variant_name(parsed, read) == name


def test_names_are_readable_and_equal_choices_share_one() -> None:
    german = SignalOptions(stop_words=("und", "die", "der", "die"), words="unicode", short_line=99)
    assert variant_name("stop_word_count", german) == "stop_word_count@stop_words=der,die,und&words=unicode"
    assert variant_name("char_count", german) == "char_count"
    assert variant_name("bullet_line_fraction", SignalOptions(bullets="-*•")) == "bullet_line_fraction"
    assert variant_name("stop_word_count", SignalOptions(stop_words=())) == "stop_word_count@stop_words="


@pytest.mark.parametrize(
    "name",
    [
        "word_count@",
        "word_count@unicode",
        "word_count@words=whitespace",
        "word_count@words=letters",
        "word_count@bullets=-",
        "word_count@words=unicode&normalize=redpajama",
        "word_count@words=unicode&words=unicode",
        "short_line_fraction@short_line=many",
    ],
)
def test_other_ways_of_writing_a_name_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_variant(name)


def test_a_variant_of_no_signal_is_refused() -> None:
    with pytest.raises(KeyError):
        parse_variant("word_cuont@words=unicode")


def test_one_call_serves_variants_that_contradict_each_other() -> None:
    text = pa.array(["Der Hund, die Katze", None])
    options = [
        {},
        {"words": "unicode"},
        {"words": "wordpunct"},
        {"normalize": "redpajama"},
        {"stop_words": ("die", "Der")},
    ]
    names = [variant_name(s, SignalOptions(**o)) for o in options for s in ("word_count", "stop_word_count")]
    found = compute_signals(text, list(dict.fromkeys(names)))
    for chosen in options:
        for signal in ("word_count", "stop_word_count"):
            alone = compute_signals(text, [signal], **chosen)[signal]
            assert found[variant_name(signal, SignalOptions(**chosen))] == alone
    assert found["word_count@words=wordpunct"].to_pylist() == [5, None]
    assert found["stop_word_count@stop_words=Der,die"].to_pylist() == [2, None]


def test_stop_words_by_language_follow_each_record_and_are_null_where_there_is_no_list() -> None:
    columns = {
        "text": pa.array(["der Hund und die Katze", "the dog and the cat", "the dog", "the dog", None]),
        "lang": pa.array(["de", "en", None, "tlh", "en"]),
    }
    count = variant_name("stop_word_count", SignalOptions(stop_words="by_language"))
    assert count == "stop_word_count@stop_words=by_language"
    assert inputs_of(count) == ("text", "lang")
    share = "stop_word_fraction@stop_words=by_language"
    found = compute_signals(pa.RecordBatch.from_pydict(columns), [count, share, "word_count"])
    assert found[count].to_pylist() == [3, 2, None, None, None]
    assert found[share].to_pylist() == [3 / 5, 3 / 5, None, None, None]
    assert found["word_count"].to_pylist() == [5, 5, 2, 2, None]
    with pytest.raises(KeyError, match="lang"):
        compute_signals(columns["text"], [count])


def test_options_are_those_that_some_signal_depends_on() -> None:
    assert options_of(["stop_word_count", "short_line_fraction", "score"]) == {
        "words", "normalize", "stop_words", "short_line",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("words", "unicode", ""),
        ("words", "letters", "is not one of"),
        ("stop_words", ["der"], ""),
        ("stop_words", "by_language", ""),
        ("stop_words", "der", "neither a list"),
        ("stop_words", ["zum Beispiel"], "is no word"),
        ("short_line", 20, ""),
        ("short_line", 2.5, "whole number"),
        ("short_line", True, "whole number"),
        ("uppercase_line", 1, ""),
        ("bullets", ["-"], "is not text"),
    ],
)
def test_a_wrong_value_from_a_job_is_told(name: str, value: Any, problem: str) -> None:
    told = problem_of(name, value)
    assert problem in told
    assert bool(told) == bool(problem)
