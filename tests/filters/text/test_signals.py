"""Every signal against a slow, obvious definition in Python, on text that people and fuzzers write."""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, cast

import pyarrow as pa
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from thresher.filters.signal_options import OPTIONS
from thresher.filters.signals import SIGNALS, SIGNALS_VERSION, SignalOptions, compute_signals
from thresher.filters.text.families import TEXT_FAMILIES
from thresher.filters.text.words import WordKind, split_words

T = TypeVar("T")

OF_TEXTS = [name for name, spec in SIGNALS.items() if spec.family in TEXT_FAMILIES]
MEASURED = [name for name, spec in SIGNALS.items() if spec.family == "measure"]

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
CLOSING_QUOTES = tuple("\"'”’»」』")
TERMINAL = regex.compile(r"\p{Sentence_Terminal}")
POLICY = ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"]


def fraction(part: float, whole: float) -> float:
    return part / whole if whole else float(part)


def words_of(text: str, kind: str) -> list[str]:
    if kind == "wordpunct":
        return re.findall(r"\w+|[^\w\s]+", text)
    words = split_words(pa.array([text]), cast("WordKind", kind))  # has a test of its own
    return [bytes(words.data[a:b]).decode() for a, b in zip(words.start, words.stop, strict=True)]


def lines_of(text: str) -> list[str]:
    return [line for line in re.split("\r\n|\r|\n", text) if line.strip()]


def paragraphs_of(text: str) -> list[tuple[str, ...]]:
    paragraphs: list[tuple[str, ...]] = [()]
    for line in re.split("\r\n|\r|\n", text):
        if line.strip():
            paragraphs[-1] += (line,)
        else:
            paragraphs.append(())
    return [paragraph for paragraph in paragraphs if paragraph]


def later_copies(items: Sequence[T]) -> list[T]:
    return [item for i, item in enumerate(items) if item in items[:i]]


def characters_inside(starts: list[int], n: int, words: list[str]) -> int:
    inside = {word for start in starts for word in range(start, start + n)}
    return sum(len(words[word]) for word in inside)


def top_ngram(words: list[str], n: int) -> float:
    ngrams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    counts = Counter(ngrams)
    most = max(counts.values(), default=0)
    if most < 2:
        return 0.0
    covered = [
        characters_inside([i for i, other in enumerate(ngrams) if other == ngram], n, words)
        for ngram, count in counts.items()
        if count == most
    ]
    return fraction(max(covered), sum(map(len, words)))


def duplicate_ngrams(words: list[str], n: int) -> float:
    ngrams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    seen, starts = set(), []
    for i, ngram in enumerate(ngrams):
        if ngram in seen:
            starts.append(i)
        seen.add(ngram)
    return fraction(characters_inside(starts, n, words), sum(map(len, words)))


def entropy(words: list[str]) -> float:
    shares = [count / len(words) for count in Counter(words).values()]
    return sum(-share * math.log(share) for share in shares)


def sentences_of(line: str) -> int:
    """Terminals, closing marks, then a space and no lower-case letter; full-width marks need no space."""
    line = line.rstrip()
    count, at = 1, 0
    while at < len(line):
        if not TERMINAL.match(line[at]):
            at += 1
            continue
        marks = ""
        while at < len(line) and TERMINAL.match(line[at]):
            marks += line[at]
            at += 1
        while at < len(line) and (
            unicodedata.category(line[at]) in ("Pe", "Pf") or line[at] in CLOSING_QUOTES
        ):
            at += 1
        rest = line[at:]
        spaced = rest != rest.lstrip() and unicodedata.category(rest.lstrip()[0]) != "Ll"
        if rest and (spaced or any(mark in "。！．？｡" for mark in marks)):
            count += 1
    return count


def lower(text: str) -> str:
    return "".join(character.lower() if character.isascii() else character for character in text)


def c4_keeps(line: str, kind: str, any_ending: bool) -> bool:
    words, last = words_of(line, kind), line.rstrip()[-1]
    ends_well = (TERMINAL.match(last) or last in CLOSING_QUOTES) and not line.rstrip().endswith(("...", "…"))
    return bool(
        len(words) >= 5
        and max(map(len, words)) <= 1000
        and "javascript" not in lower(line)
        and not any(phrase in lower(line) for phrase in POLICY)
        and (any_ending or ends_well)
    )


def share(text: str, categories: str) -> float:
    return fraction(
        sum(unicodedata.category(c).startswith(tuple(categories.split())) for c in text), len(text)
    )


def definition(text: str, kind: str) -> dict[str, float]:
    words, lines, paragraphs = words_of(text, kind), lines_of(text), paragraphs_of(text)
    stripped = [line.strip() for line in lines]
    chars_of_lines = sum(map(len, lines))
    ellipses = sum(line.rstrip().count("...") + line.count("…") for line in lines)
    expected = {
        "byte_count": len(text.encode()),
        "char_count": len(text),
        "word_count": len(words),
        "line_count": len(lines),
        "paragraph_count": len(paragraphs),
        "sentence_count": sum(map(sentences_of, lines)),
        "max_word_length": max(map(len, words), default=0),
        "letter_char_ratio": share(text, "L"),
        "digit_char_ratio": share(text, "Nd"),
        "uppercase_char_ratio": share(text, "Lu Lt"),
        "whitespace_char_ratio": fraction(sum(map(str.isspace, text)), len(text)),
        "punctuation_char_ratio": share(text, "P"),
        "mean_word_length": fraction(sum(map(len, words)), len(words)),
        "hash_word_ratio": fraction(text.count("#"), len(words)),
        "ellipsis_word_ratio": fraction(ellipses, len(words)),
        "alphabetic_word_fraction": fraction(sum(any(map(str.isalpha, word)) for word in words), len(words)),
        "stop_word_count": len(STOP_WORDS.intersection(words)),
        "bullet_line_fraction": fraction(
            sum(line.startswith(("•", "*", "-")) for line in stripped), len(lines)
        ),
        "ellipsis_line_fraction": fraction(sum(line.endswith(("...", "…")) for line in stripped), len(lines)),
        "duplicate_line_fraction": fraction(len(later_copies(lines)), len(lines)),
        "duplicate_paragraph_fraction": fraction(len(later_copies(paragraphs)), len(paragraphs)),
        "duplicate_line_char_fraction": fraction(sum(map(len, later_copies(lines))), chars_of_lines),
        "duplicate_paragraph_char_fraction": fraction(
            sum(len(line) for paragraph in later_copies(paragraphs) for line in paragraph), chars_of_lines
        ),
        "lorem_ipsum_count": sum(lower(line).count("lorem ipsum") for line in lines),
        "curly_bracket_count": text.count("{") + text.count("}"),
        "javascript_line_fraction": fraction(sum("javascript" in lower(line) for line in lines), len(lines)),
        "policy_line_fraction": fraction(
            sum(any(phrase in lower(line) for phrase in POLICY) for line in lines), len(lines)
        ),
        "c4_sentence_count": sum(sentences_of(line) for line in lines if c4_keeps(line, kind, False)),
        "c4_sentence_count_any_ending": sum(
            sentences_of(line) for line in lines if c4_keeps(line, kind, True)
        ),
        "terminal_punctuation_line_fraction": fraction(
            sum(bool(TERMINAL.match(line[-1])) or line.endswith(CLOSING_QUOTES) for line in stripped),
            len(lines),
        ),
        "short_line_fraction": fraction(sum(len(line) <= 30 for line in lines), len(lines)),
        "newline_word_ratio": fraction(len(re.findall("\r\n|\r|\n", text)), len(words)),
        "newline_count": len(re.findall("\r\n|\r|\n", text)),
        "unique_word_fraction": fraction(len(set(words)), len(words)),
        "unigram_entropy": entropy(words),
        "all_caps_word_fraction": fraction(sum(map(str.isupper, words)), len(words)),
        "no_ascii_letter_word_fraction": fraction(
            sum(not re.search("[a-zA-Z]", word) for word in words), len(words)
        ),
        "stop_word_fraction": fraction(sum(word in STOP_WORDS for word in words), len(words)),
        "symbol_word_ratio": fraction(ellipses + text.count("#"), len(words)),
        "curly_bracket_char_ratio": fraction(text.count("{") + text.count("}"), len(text)),
        "lorem_ipsum_char_ratio": fraction(lower(" ".join(words)).count("lorem ipsum"), len(" ".join(words))),
        "punctuated_sentence_count": len(re.findall(r"\b[^.!?]+[.!?]*", text)),
    }
    expected |= {f"top_{n}gram_char_fraction": top_ngram(words, n) for n in (2, 3, 4)}
    expected |= {f"duplicate_{n}gram_char_fraction": duplicate_ngrams(words, n) for n in range(5, 11)}
    return expected


ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"])
SEPARATORS = st.sampled_from(
    [" ", " ", " ", " ", ". ", "! ", "... ", ".", "\n", "\n", "\n\n", "\r\n", "\r", "\t", "  "]
)
WORDS = "a b c the of And word 12 #tag # … ... • -- * 我 爱 你。 句子！ 好？下 ก้ é ñandú Ω “quoted.”"
PHRASES = (
    "(so.) e.g. lorem ipsum "
    "JavaScript Cookie use uses cookies terms of privacy Policy policy { } \x00 \u2028 \x85 \x1c \ufeff 😀"
)
PIECES = st.sampled_from(f"{WORDS} {PHRASES}".split(" "))
PROSE = st.lists(st.tuples(PIECES, SEPARATORS), max_size=60).map(
    lambda parts: "".join(a + b for a, b in parts)
)
REPEATED = st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=80).map(" ".join)
LINES = st.lists(
    st.sampled_from(["x", " x", "one two", "", "  ", "- item.", "Ends…", "Ends...", '"Yes."'])
).map("\n".join)
TEXTS = st.one_of(
    PROSE,
    REPEATED,
    LINES,
    st.text(ASSIGNED, max_size=80),
    st.text(st.sampled_from("a.b \n\r!?'\""), max_size=60),
)


def check(texts: list[str], kind: str) -> None:
    found = compute_signals(pa.array(texts, pa.string()), MEASURED, kind)
    columns = {name: column.to_pylist() for name, column in found.items()}
    for i, text in enumerate(texts):
        expected = definition(text, kind)
        assert set(expected) == set(MEASURED)
        found_here = {name: column[i] for name, column in columns.items()}
        assert found_here == pytest.approx(expected, rel=1e-12, abs=1e-12)


@settings(max_examples=600, deadline=None)
@given(st.lists(TEXTS, max_size=3), st.sampled_from(["whitespace", "unicode", "wordpunct"]))
@example(["", " ", "\n", "\r\n\r\n", "\r", "...", "a\r", "a\r\n\r\nb\r\rc"], "whitespace")
@example(["a a a a a a a a a a a a a a a a", "a b " * 40, "#" * 50], "whitespace")
@example(
    ["We use cookies to. Terms Of Use apply here and now!", "lorem ipsumlorem ipsum JAVASCRIPT"], "unicode"
)
@example(
    ["One two three four five. Six.\nOne two three four five...\nOne two three four " + "x" * 1001 + "."],
    "unicode",
)
def test_signals_equal_their_definitions(texts: list[str], kind: str) -> None:
    check(texts, kind)


@pytest.mark.parametrize("kind", ["whitespace", "unicode", "wordpunct"])
def test_signals_equal_their_definitions_on_this_repository(kind: str) -> None:
    root = Path(__file__).parents[3]
    paths = sorted(root.glob("filters/**/*.py"))[:6] + sorted(root.glob("schemas/*.py"))
    check([path.read_text(encoding="utf-8")[:8000] for path in paths], kind)


def test_null_texts_have_null_signals_and_types_are_as_declared() -> None:
    columns = {name: pa.array(["http://some.text/", None, ""]) for name in ("text", "url")}
    found = compute_signals(columns, OF_TEXTS)
    assert list(found) == OF_TEXTS
    for name, column in found.items():
        assert column.type == SIGNALS[name].type
        # An empty address has no host; every other signal of nothing is a number.
        assert column.is_null().to_pylist() == [False, True, name in ("host", "domain")]


def test_slices_and_large_strings_have_the_same_signals() -> None:
    texts = ["skipped", "One line.\nOne line.", None, "\u6211\u7231\u4f60\u3002", "x " * 300, "skipped too"]
    names = [name for name, spec in SIGNALS.items() if spec.inputs == ("text",)]
    expected = compute_signals(pa.array(texts[1:5]), names)
    for type_ in (pa.string(), pa.large_string()):
        assert compute_signals(pa.array(texts, type_).slice(1, 4), names) == expected
    assert compute_signals(pa.nulls(3), ["word_count"])["word_count"].null_count == 3
    assert len(compute_signals(pa.array([], pa.string()), ["word_count"])["word_count"]) == 0


def test_signals_do_not_depend_on_the_batch_or_on_what_else_is_asked_for() -> None:
    texts = [
        "the end of a b c d e f a b c d e f the",
        "a a a",
        "Cookie policy.\n\nCookie policy.",
        "{" * 20,
    ] * 3
    together = compute_signals({"text": pa.array(texts), "url": pa.array(texts)}, OF_TEXTS)
    for name in OF_TEXTS:
        for i, text in enumerate(texts[:4]):
            alone = {column: pa.array([text]) for column in SIGNALS[name].inputs}
            assert compute_signals(alone, [name])[name].to_pylist() == [together[name][i].as_py()]


def test_a_long_document_of_one_repeated_word_is_all_duplicate() -> None:
    found = compute_signals(pa.array(["spam " * 200_000]), MEASURED)
    assert found["word_count"].to_pylist() == [200_000]
    assert found["top_2gram_char_fraction"].to_pylist() == [1.0]
    assert found["duplicate_10gram_char_fraction"].to_pylist() == [1 - 1 / 200_000]


def test_bytes_that_are_not_utf8_do_not_raise() -> None:
    raw = b"\xff\xfe\xc3(\xe4\xb8\n\xf0\x9f\x98"
    offsets = pa.array([0, len(raw)], pa.int32()).buffers()[1]
    text = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(raw)])
    names = [name for name, spec in SIGNALS.items() if spec.inputs == ("text",)]
    found = compute_signals(text, names)
    compute_signals(text, names, normalize="redpajama")
    assert found["byte_count"].to_pylist() == [len(raw)]
    assert found["line_count"].to_pylist() == [2]


def test_options_change_what_the_definitions_leave_open() -> None:
    text = pa.array(["+ der Hund und die Katze.\n+ die Maus."])
    options = {"stop_words": ("der", "die"), "bullets": "+", "short_line": 12, "c4_min_line_words": 3}
    names = ["stop_word_count", "bullet_line_fraction", "short_line_fraction", "c4_sentence_count"]
    found = compute_signals(text, names, **options)
    assert [found[name].to_pylist() for name in names] == [[2], [1.0], [0.5], [2]]


def test_wrong_options_are_refused() -> None:
    with pytest.raises(KeyError):
        compute_signals(pa.array(["a"]), ["word_cuont"])
    with pytest.raises(TypeError):
        compute_signals(pa.array(["a"]), ["word_count"], no_such_option=1)
    for wrong in ({"words": "letters"}, {"stop_words": ("two words",)}, {"short_line": -1}, {"ngrams": "c4"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SignalOptions(**wrong)


def test_a_list_of_stop_words_may_be_long() -> None:
    listed = [f"w{i}" for i in range(1000)]
    text = pa.array([" ".join([*listed[::3], *listed[::3], "w", "w1000"])])
    found = compute_signals(text, ["stop_word_count", "stop_word_fraction"], stop_words=listed)
    assert found["stop_word_count"].to_pylist() == [334]
    assert found["stop_word_fraction"].to_pylist() == [668 / 670]


def test_every_signal_is_documented() -> None:
    for name, spec in SIGNALS.items():
        assert spec.name == name
        assert spec.doc.endswith(".")
        assert spec.unit
        assert set(spec.options) <= set(OPTIONS)


def test_signals_change_only_with_their_version() -> None:
    """A change of this digest needs a new SIGNALS_VERSION: stored signals would no longer be comparable."""
    texts = [
        "The quick brown fox. And that is it!\nThe quick brown fox...\n\n• The quick brown fox\r\nfox # … of",
        "我爱你。你爱我吗？\n我爱你。" * 5,
        "to be or not to be that is to be or not to be that is to be or not to be that is the {question}",
        "We use cookies. See our Privacy Policy.\nPlease enable JavaScript.\nLorem ipsum dolor sit amet.",
        "",
    ]
    urls = ["http://www.a-b.example.org/x/y2?q=1&r=2#z", "mailto:a@b", None, "https://[::1]:80/", ""]
    digests = {}
    for kind in ("whitespace", "unicode"):
        found = compute_signals({"text": pa.array(texts), "url": pa.array(urls)}, OF_TEXTS, kind)
        rows = {name: column.to_pylist() for name, column in found.items()}
        digests[kind] = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]
    assert (SIGNALS_VERSION, digests) == (
        1,
        {"whitespace": "0eac082120249980", "unicode": "ec555ce0f50cf5f3"},
    )
