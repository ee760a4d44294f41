"""CCNet's normal form against a restatement of its rules in plain Python."""

from __future__ import annotations

import re
import sys
import unicodedata

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from thresher.filters.text.ccnet import normalize

# CCNet's table of punctuation, as pairs.
PAIRS = "，, 。. 、, ´' ∶: ：: ？? ！! （( ）) ；; –- ～~ ’' ━- 〈< 〉> 【[ 】] ％% ►-"
QUOTES = "„”“«»」「《》"
REPLACED = {
    **{pair[0]: pair[1] for pair in PAIRS.split(" ")},
    **dict.fromkeys(QUOTES, '"'),
    "—": " - ",
    "．": ". ",
    "…": "...",
}


def in_plain_python(text: str) -> str:
    """One step after the other over the whole text."""
    text = text.strip().lower()
    text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    text = re.sub(r"\d", "0", text)
    text = "".join(REPLACED.get(c, c) for c in text)
    return re.sub("[\0-\x1f\x7f-\x9f]", "", text)


def normalized(texts: list[str | None]) -> list[str | None]:
    found = normalize(pa.array(texts, pa.string()))
    found.validate(full=True)
    return found.to_pylist()


# What changes, what is deleted, what depends on its neighbours, and plain letters between.
HARD = st.text(
    st.sampled_from("aZ9 \n\t\x1c\x85\xa0\u2003\u3000éÉİıßΣσςΟ'ʰ…—．１٣한글が\u0301\u0345\u302e")
    | st.sampled_from("\U0001d165\U0001d166\U0001d16d\U0001d15e\U00016ff0\U00016ff1\U0001f984")
)


@settings(max_examples=400)
@given(st.lists(st.none() | HARD | st.text(), max_size=5))
@example(["ΟΔΟΣ ΟΔΟΣ", None, "a\U0001d16d\u302e\u0301\U0001d165b", "plain"])
def test_every_text_becomes_what_the_rules_say(texts: list[str | None]) -> None:
    assert normalized(texts) == [None if text is None else in_plain_python(text) for text in texts]


def test_every_character_becomes_what_the_rules_say_at_the_ends_and_within() -> None:
    points = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    blocks = ["a".join(points[start : start + 64]) for start in range(0, len(points), 64)]
    texts = [*blocks, *points]
    assert normalized(texts) == [in_plain_python(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  Crème Brûlée, 2019!\n", "creme brulee, 0000!"),
        ("one line\nand the next", "one lineand the next"),
        ("“Quoted” — it’s…", '"quoted"  -  it\'s...'),
        ("０２３４ | ٣", "0000 | 0"),
        ("\x00\x1f \u3000", ""),
        ("ΣΟΦΟΣ", "σοφος"),
        ("각", "\u1100\u1161\u11a8"),
    ],
)
def test_the_rules_by_example(text: str, normal: str) -> None:
    assert normalized([text]) == [normal]


def test_slices_and_both_widths_of_text_give_the_same() -> None:
    texts = ["A\nb", None, "", "Σ", "Über … 12"] * 3
    for kind in (pa.string(), pa.large_string()):
        found = normalize(pa.array(texts, kind).slice(2, 11)).to_pylist()
        assert found == normalized(texts)[2:13]
    assert normalize(pa.array([], pa.string())).to_pylist() == []
    assert normalize(pa.nulls(2)).to_pylist() == [None, None]
