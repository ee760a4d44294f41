"""RedPajama-V2's signals against its own formulas, restated here in plain Python from its published code."""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from thresher.filters.signals import SIGNALS, compute_signals, parse_variant
from thresher.filters.text.redpajama import BULLETS, ELSEWHERE, REDPAJAMA_V2
from thresher.filters.text.redpajama_text import normalize
from thresher.filters.text.stop_words import stop_words_for

Value = float | list[float]


def normalized(text: str) -> str:
    for mark in string.punctuation:
        text = text.replace(mark, "")
    return unicodedata.normalize("NFD", re.sub(r"\s+", " ", text.lower().strip()))


def ngrams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def top(words: list[str], n: int) -> float:
    for ngram, count in Counter(ngrams(words, n)).most_common(1):
        if count > 1:
            return sum(map(len, ngram)) * count / sum(map(len, words))
    return 0.0


def duplicate(words: list[str], n: int) -> float:
    counts = Counter(ngrams(words, n))
    inside = {i + k for i, ngram in enumerate(ngrams(words, n)) if counts[ngram] > 1 for k in range(n)}
    return sum(len(words[i]) for i in inside) / sum(map(len, words)) if words else 0.0


def share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def published(text: str, language: str) -> Mapping[str, Value]:
    content = normalized(text)
    words, raw_words = content.split(), re.findall(r"\w+|[^\w\s]+", text)
    lines = re.findall(r"[^\n]*\n|[^\n]+$", text)
    normal_lines = list(map(normalized, lines))
    filled = [line for line in re.split("\r\n|\r|\n", text) if line.strip()]
    entropy = sum(-n / len(words) * math.log(n / len(words)) for n in Counter(words).values())
    stop_words = set(stop_words_for(language))
    return {
        "ccnet_length": len(text),
        "ccnet_nlines": len(re.findall("\r\n|\r|\n", text)),
        "rps_doc_num_sentences": len(re.findall(r"\b[^.!?]+[.!?]*", text)),
        "rps_doc_word_count": len(words),
        "rps_doc_mean_word_length": share(sum(map(len, words)), len(words)),
        "rps_doc_symbol_to_word_ratio": share(
            text.count("#") + text.count("...") + text.count("…"), len(raw_words)
        ),
        "rps_doc_frac_lines_end_with_ellipsis": share(
            sum(line.rstrip().endswith(("...", "…")) for line in filled), len(filled)
        ),
        "rps_doc_frac_no_alph_words": share(
            sum(not re.search("[a-zA-Z]", word) for word in raw_words), len(raw_words)
        ),
        "rps_doc_frac_unique_words": share(len(set(words)), len(words)),
        "rps_doc_unigram_entropy": entropy,
        "rps_doc_frac_all_caps_words": share(sum(map(str.isupper, raw_words)), len(raw_words)),
        "rps_doc_lorem_ipsum": share(content.count("lorem ipsum"), len(content)),
        "rps_doc_curly_bracket": share(text.count("{") + text.count("}"), len(text)),
        "rps_doc_stop_word_fraction": share(sum(word in stop_words for word in raw_words), len(raw_words)),
        **{f"rps_doc_frac_chars_top_{n}gram": top(words, n) for n in (2, 3, 4)},
        **{f"rps_doc_frac_chars_dupe_{n}grams": duplicate(words, n) for n in range(5, 11)},
        "rps_lines_num_words": [len(line.split()) for line in normal_lines],
        "rps_lines_uppercase_letter_fraction": [sum(map(str.isupper, line)) / len(line) for line in lines],
        "rps_lines_numerical_chars_fraction": [
            share(sum(map(str.isnumeric, line)), len(line)) for line in normal_lines
        ],
        "rps_lines_ending_with_terminal_punctution_mark": [
            float(line.rstrip().endswith((".", "!", "?", "”"))) for line in lines
        ],
        "rps_lines_start_with_bulletpoint": [
            float(line.lstrip().startswith(tuple(BULLETS))) for line in lines
        ],
        "rps_lines_javascript_counts": [line.split().count("javascript") for line in normal_lines],
    }


PIECES = (
    "a b the der und Javascript java-script lorem Lorem, ipsum IPSUM. 12 ½ 三 # … ... . ! ? ” • – {x} É "
    "İSTANBUL ΟΔΟΣ ΣΣ e\u0301 ǅ _ ' \x00 \u2028 \x1c \u00a0 \u1d2c ⅷ 😀 spam spam spam"
)
WORDS = st.sampled_from(PIECES.split(" "))
GAPS = st.sampled_from([" ", " ", " ", "", "\n", "\n\n", "\r\n", "\t"])
PROSE = st.lists(st.tuples(WORDS, GAPS), max_size=50).map(lambda parts: "".join(a + b for a, b in parts))
TEXTS = st.one_of(
    PROSE,
    st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=80).map(" ".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=3))
@example(["a b c d e f a b c d e f", "x x x x x", "Lorem\nipsum lorem -- ipsum", "İ Σ ΑΣ\n\n"])
def test_each_counterpart_is_what_the_published_code_computes(texts: list[str]) -> None:
    languages = ["en", "de", "en"][: len(texts)] + ["en"] * (len(texts) - 3)
    columns = {"text": pa.array(texts, pa.string()), "lang": pa.array(languages)}
    found = compute_signals(columns, {counterpart.column for counterpart in REDPAJAMA_V2.values()})
    for i, text in enumerate(texts):
        expected = published(text, languages[i])
        assert set(expected) == set(REDPAJAMA_V2)
        for name, value in expected.items():
            ours = found[REDPAJAMA_V2[name].column][i].as_py()
            assert ours == pytest.approx(value, rel=1e-12, abs=1e-12), name


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.none(), TEXTS), max_size=4))
def test_normalised_text_has_the_published_words_and_lines(texts: list[str | None]) -> None:
    found = normalize(pa.array(["skipped", *texts], pa.string()).slice(1)).to_pylist()
    for text, ours in zip(texts, found, strict=True):
        if text is None:
            assert ours is None
            continue
        assert ours.split("\n") == [normalized(line) for line in text.split("\n")]
        assert ours.split() == normalized(text).split()


def test_every_column_of_the_mapping_is_a_signal_and_no_name_is_claimed_twice() -> None:
    for counterpart in REDPAJAMA_V2.values():
        assert parse_variant(counterpart.column)[0] in SIGNALS
    assert not set(REDPAJAMA_V2) & set(ELSEWHERE)


def test_overlapping_top_ngrams_make_a_share_above_one_only_as_redpajama_counts() -> None:
    text = pa.array(["spam spam spam spam"])
    name = "top_2gram_char_fraction"
    assert compute_signals(text, [name])[name].to_pylist() == [1.0]
    assert compute_signals(text, [name], ngrams="redpajama")[name].to_pylist() == [1.5]
