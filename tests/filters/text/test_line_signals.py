"""Signals of lines against plain definitions; the lists themselves are checked in test_redpajama.py."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from thresher.filters.signals import SIGNALS, compute_signals

NAMES = [name for name, spec in SIGNALS.items() if spec.family == "lines"]
PIECES = st.sampled_from(
    [
        "A",
        "b",
        "CD",
        "Éa",
        "12",
        "3",
        "½",
        "三",
        "word,",
        "WORDS",
        "x-y",
        "_",
        ".",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        "\t",
    ]
)
TEXTS = st.one_of(
    st.lists(PIECES, max_size=40).map(" ".join),
    st.lists(PIECES, max_size=40).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
)


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def definition(text: str, few_words: int, uppercase: float, numeric: float) -> dict[str, float]:
    lines = [line for line in re.findall(r"[^\n]*\n|[^\n]+$", text) if line.strip()]
    words = [len(line.split()) for line in lines]
    upper = [sum(map(str.isupper, line)) / len(line) for line in lines]
    numbers = [sum(map(str.isnumeric, line)) / len(line.removesuffix("\n")) for line in lines]
    return {
        "mean_line_word_count": mean(words),
        "few_word_line_fraction": mean([n <= few_words for n in words]),
        "mean_line_uppercase_fraction": mean(upper),
        "uppercase_line_fraction": mean([n > uppercase for n in upper]),
        "mean_line_numeric_fraction": mean(numbers),
        "numeric_line_fraction": mean([n > numeric for n in numbers]),
    }


@settings(max_examples=400, deadline=None)
@given(st.lists(TEXTS, max_size=3), st.integers(0, 3), st.floats(0, 1), st.floats(0, 1))
@example(["", "\n", "\n\nA", "AB\n", "1\n2\nx"], 1, 0.5, 0.5)
def test_what_a_document_has_of_its_lines(
    texts: list[str], few_words: int, uppercase: float, numeric: float
) -> None:
    options = {"few_words": few_words, "uppercase_line": uppercase, "numeric_line": numeric}
    names = [name for name in NAMES if pa.types.is_floating(SIGNALS[name].type)]
    found = compute_signals(pa.array(texts, pa.string()), names, **options)
    for i, text in enumerate(texts):
        expected = definition(text, few_words, uppercase, numeric)
        assert {name: column[i].as_py() for name, column in found.items()} == pytest.approx(
            expected, rel=1e-12
        )


def test_lists_have_a_number_for_each_line_and_none_for_null() -> None:
    found = compute_signals(pa.array(["One two.\n\n• 3 JAVASCRIPT javascript", None, ""]), NAMES)
    assert {name: column.to_pylist() for name, column in found.items() if name.startswith("line_")} == {
        "line_word_counts": [[2, 0, 4], None, []],
        "line_uppercase_fractions": [[1 / 9, 0, 10 / 25], None, []],
        "line_numeric_fractions": [[0, 0, 1 / 25], None, []],
        "line_terminal_marks": [[1, 0, 0], None, []],
        "line_bullets": [[0, 0, 1], None, []],
        "line_javascript_counts": [[0, 0, 1], None, []],
    }


def test_words_of_lines_are_of_the_kind_that_is_chosen() -> None:
    text = pa.array(["我爱你 x-y.\nz", "plain words\nare plain"])
    counts = [
        compute_signals(text, ["line_word_counts"], kind)["line_word_counts"].to_pylist()
        for kind in ("whitespace", "unicode", "wordpunct")
    ]
    assert counts == [[[2, 1], [2, 2]], [[5, 1], [2, 2]], [[5, 1], [2, 2]]]
    jieba = pytest.importorskip("jieba")
    segmented = compute_signals(text, ["line_word_counts", "word_count"], "segmented")
    expected = len(jieba.lcut("我爱你")) + 2
    assert segmented["line_word_counts"].to_pylist() == [[expected, 1], [2, 2]]
    assert segmented["word_count"].to_pylist() == [expected + 1, 4]
