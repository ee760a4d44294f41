"""Line edits against definitions in plain Python, and C4's against the signals of the same rules."""

from __future__ import annotations

import functools
import gzip
import json
import re
import unicodedata
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from thresher.filters.signals import compute_signals
from thresher.filters.text.edits import apply_edits
from thresher.filters.text.line_edits import COUNTED, C4Lines, RefinedWebLines
from thresher.schemas.contracts import Refiner

LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n|\Z)")
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")

WORDS = st.sampled_from(
    [
        *(
            "a",
            "Some",
            "WORDS",
            "of",
            "text.",
            "end!",
            '"quoted"',
            "it's...",
            "more…",
            "中文。",
            "É",
            "…",
            "-",
        ),
        *("Javascript", "privacy", "policy", "privacy policy", "use cookies"),
        *("[1]", "[٣]", "[]", "[edit]", "[citation needed]", "[x", "[12"),
        *("3", "1,2.5K", "likes", "Views!", "12", "٣", "#4 shares"),
        *("Sign-in", "sign-in,", "Read more...", "READ MORE!!!", "items in cart"),
    ]
)
SPACES = st.sampled_from([" ", " ", " ", "  ", "\t", "\u3000", ""])
ENDS = st.sampled_from(["\n", "\n", "\n\n", "\r\n", "\r", "\n \n", ". \n", ".\n"])
TEXTS = st.lists(st.one_of(WORDS, SPACES, SPACES, ENDS), max_size=40).map("".join)
PLAIN_LINES = st.lists(st.lists(WORDS, max_size=12).map(" ".join), max_size=6).map("\n".join)


def lines_of(text: str) -> list[tuple[str, str]]:
    """(line, line end), the last of which may lack its end."""
    found = LINE.findall(text)
    return [pair for pair in found if pair != ("", "")]


def refined(refiner: Refiner, texts: list[str | None]) -> list[str | None]:
    batch = pa.record_batch({"text": pa.array(texts, pa.string())})
    return apply_edits(batch.column("text"), refiner.edits(batch)).to_pylist()


@functools.cache
def terminals() -> set[str]:
    pattern = regex.compile(r"\p{Sentence_Terminal}")
    return {chr(point) for point in range(0x30000) if pattern.match(chr(point))} | set("\"'”’»」』")


def c4(
    text: str,
    min_words: int = 5,
    max_word_length: int = 1000,
    line_ending: bool = True,
    end_marks: str = "",
    javascript: bool = True,
    policy: bool = True,
    citations: bool = True,
) -> str:
    """The kept lines, each but the last followed by its own line end."""
    marks = set(end_marks) or terminals()
    kept = []
    for line, end in lines_of(text):
        long = max_word_length and any(len(word) > max_word_length for word in line.split())
        if citations:
            line = re.sub(r"\[\d*\]|\[edit\]|\[citation needed\]", "", line)
        line = line.strip()
        low = line.lower()
        if (
            not line
            or long
            or len(line.split()) < min_words
            or (line_ending and (line[-1] not in marks or line.endswith(("...", "…"))))
            or (javascript and "javascript" in low)
            or (policy and any(phrase in low for phrase in POLICY))
        ):
            continue
        kept.append((line, end))
    return "".join(line + end for line, end in kept).removesuffix(kept[-1][1]) if kept else ""


C4_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "min_words": st.integers(0, 6),
        "max_word_length": st.sampled_from([0, 3, 8, 1000]),
        "line_ending": st.booleans(),
        "end_marks": st.sampled_from(["", '.?!"', "t中"]),
        "javascript": st.booleans(),
        "policy": st.booleans(),
        "citations": st.booleans(),
    },
)


@settings(max_examples=500)
@given(st.lists(st.one_of(st.none(), TEXTS), max_size=4), C4_OPTIONS)
@example(["[1] One two three four five. [2] \r\n[edit]\rsix seven eight nine ten![]"], {})
@example(["privacy [1]policy is one two three.", "javascr[edit]ipt is one two three four."], {})
def test_c4_lines_are_those_of_the_definition(texts: list[str | None], options: dict[str, Any]) -> None:
    expected = [None if text is None else c4(text, **options) for text in texts]
    assert refined(C4Lines(**options), texts) == expected


@settings(max_examples=300)
@given(st.lists(TEXTS, max_size=4))
def test_the_sentences_that_c4_counts_are_those_of_the_lines_that_it_keeps(texts: list[str]) -> None:
    kept = refined(C4Lines(citations=False), texts)
    counted = compute_signals(pa.array(texts, pa.string()), ["c4_sentence_count"])["c4_sentence_count"]
    signals = compute_signals(pa.array(kept, pa.string()), ["sentence_count", "c4_sentence_count"])
    assert signals["sentence_count"].to_pylist() == counted.to_pylist()
    assert signals["c4_sentence_count"].to_pylist() == counted.to_pylist()


def test_c4_lines_keep_sentences_and_drop_what_surrounds_them() -> None:
    page = (
        "Home | About\n"
        "  The river rises in the hills.[1] \n"
        "Please enable JavaScript to read this page.\n"
        "This site uses cookies to serve you better.\n"
        "And so the story goes on...\n"
        "Too short.\n"
        "\n"
        'She said: "It ends in the sea[citation needed]."\n'
    )
    assert refined(C4Lines(), [page]) == ['The river rises in the hills.\nShe said: "It ends in the sea."']


def uppercase(character: str) -> bool:
    return unicodedata.category(character) in ("Lu", "Lt")


def digit(character: str) -> bool:
    return unicodedata.category(character) == "Nd"


def alternatives(phrases: list[str], wildcard: str) -> str:
    ordered = sorted(phrases, key=len, reverse=True)
    escaped = ["".join("." if c == wildcard else re.escape(c) for c in phrase) for phrase in ordered]
    return f"(?ai:{'|'.join(escaped)})" if escaped else "(?!)"


def refinedweb(
    text: str,
    max_uppercase: float = 0.5,
    max_digits: float = 0.999999,
    min_words: int = 2,
    counted: tuple[str, ...] = COUNTED,
    max_phrase_words: int = 10,
    anywhere: tuple[str, ...] = ("items in cart",),
    at_end: tuple[str, ...] = ("Read more...",),
    at_start: tuple[str, ...] = ("Sign-in",),
    wildcard: str = "",
) -> str:
    patterns = [
        rf"\s?{alternatives(list(anywhere), wildcard)}",
        rf"\s?{alternatives(list(at_end), wildcard)}\Z",
        rf"\A{alternatives(list(at_start), wildcard)}\s?",
    ]
    counter = re.compile(rf"\W*\d(?:,|\.|\d)*(?ai:[kmb])?\s+{alternatives(list(counted), '')}\W*")
    out = ""
    for line, end in lines_of(text):
        if not line.strip():
            out += line + end
            continue
        if (
            len(line.split()) < min_words
            or sum(map(uppercase, line)) / len(line) > max_uppercase
            or sum(map(digit, line)) / len(line) > max_digits
            or counter.fullmatch(line)
        ):
            continue
        if len(line.split()) <= max_phrase_words:
            before, inner, after = line.partition(line.strip())
            rest = inner
            for pattern in patterns:
                rest = re.sub(pattern, "", rest)
            if rest != inner and not rest.strip():
                continue
            line = before + rest + after
        out += line + end
    return out if out == text else out.strip()


PHRASES = st.lists(
    st.sampled_from(["items in cart", "Read more...", "more", "e m", "Sign-in", "a", "中", "..", "É"]),
    max_size=3,
).map(tuple)
REFINEDWEB_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "max_uppercase": st.sampled_from([0.0, 0.2, 1.0]),
        "max_digits": st.sampled_from([0.0, 0.5, 1.0]),
        "min_words": st.integers(0, 3),
        "counted": st.sampled_from([(), ("likes", "cart", "li")]),
        "max_phrase_words": st.integers(0, 5),
        "anywhere": PHRASES,
        "at_end": PHRASES,
        "at_start": PHRASES,
        "wildcard": st.sampled_from(["", "."]),
    },
)


@settings(max_examples=700)
@given(st.lists(st.one_of(st.none(), TEXTS, PLAIN_LINES), max_size=4), REFINEDWEB_OPTIONS)
@example(["Read more items in cart...", "x Read more... items in cart", "items in cart Sign-in x"], {})
@example([" \n ", "\n12\n", "a b \n\n", "12\n\na b\n", "a b\n12 likes"], {})
def test_refinedweb_lines_are_those_of_the_definition(
    texts: list[str | None], options: dict[str, Any]
) -> None:
    expected = [None if text is None else refinedweb(text, **options) for text in texts]
    assert refined(RefinedWebLines(**options), texts) == expected


@pytest.mark.parametrize(
    "line",
    [
        "HOME ABOUT Us",
        "12345",
        "٣٤",
        "3 likes",
        "* 1,234.5K  Views!",
        "5 \u3000FOLLOWERS",
        "Menu",
        "Items in cart",
        "Read more... items in cart",
    ],
)
def test_lines_without_content_are_discarded(line: str) -> None:
    text = f"A line that stays.\n{line}\nAnother that stays."
    assert refined(RefinedWebLines(), [text]) == ["A line that stays.\nAnother that stays."]


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("Sign-in to your account", "to your account"),
        ("The flood of 1910 Read more...", "The flood of 1910"),
        ("You have 3 items in cart today", "You have 3 today"),
        ("I like that she likes 3 likes", "I like that she likes 3 likes"),
        ("one two three four five six seven eight items in cart", None),
        ("See the offers, read more now", "See the offers, read more now"),
    ],
)
def test_short_lines_lose_their_phrases_and_long_ones_stay(line: str, left: str | None) -> None:
    assert refined(RefinedWebLines(), [line]) == [left or line]


def test_the_points_of_a_phrase_stand_for_any_character_where_the_job_says_so() -> None:
    text = "The flood of 1910 read more»»»"
    assert refined(RefinedWebLines(), [text]) == [text]
    assert refined(RefinedWebLines(wildcard="."), [text]) == ["The flood of 1910"]


@pytest.mark.parametrize(
    ("refiner", "options", "message"),
    [
        (C4Lines, {"min_words": -1}, "min_words: -1 must be 0 or more"),
        (RefinedWebLines, {"max_uppercase": 1.5}, "max_uppercase: 1.5 must be from 0 to 1"),
        (RefinedWebLines, {"anywhere": "items"}, "anywhere: 'items' must be a list"),
        (RefinedWebLines, {"at_end": [" x"]}, "at_end: ' x' must be of phrases"),
        (RefinedWebLines, {"counted": [""]}, "counted: '' must be of phrases"),
        (RefinedWebLines, {"wildcard": ".."}, "wildcard: '..' must be one character or none"),
    ],
)
def test_wrong_parameters_are_refused(refiner: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        refiner(**options)


def real_texts(shared_data: Path) -> list[str]:
    with gzip.open(sorted((shared_data / "text").glob("*.jsonl.gz"))[0], "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in islice(file, 500)]


def test_real_texts_are_edited_by_the_definitions(shared_data: Path) -> None:
    texts = real_texts(shared_data)
    assert refined(C4Lines(), texts) == [c4(text) for text in texts]
    assert refined(RefinedWebLines(), texts) == [refinedweb(text) for text in texts]
