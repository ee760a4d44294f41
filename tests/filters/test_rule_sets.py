"""The published rule sets: thresholds as published, and documents that break each rule."""

from __future__ import annotations

import pyarrow as pa
import pytest
from thresher.filters.expressions import evaluate_rules, parse
from thresher.filters.rule_sets import RULE_SETS
from thresher.filters.signals import SIGNALS, compute_signals
from thresher.schemas.rules import Parameter

SENTENCE = "The miller of {0} walked with {1} to the market and sold {2} there, for that was his trade."
NAMES = [
    "Anna",
    "Bert",
    "Carl",
    "Dora",
    "Emil",
    "Fritz",
    "Gerda",
    "Hans",
    "Ida",
    "Jutta",
    "Kurt",
    "Lena",
    "Max",
    "Nora",
]
PROSE = "\n\n".join(SENTENCE.format(a, b, c) for a, b, c in zip(NAMES, NAMES[3:], NAMES[7:], strict=False))


def reasons(rule_set: str, text: str | None, **overrides: Parameter) -> str | None:
    rules = RULE_SETS[rule_set]
    parameters = {**rules.parameters, **overrides}
    parsed = [(rule.reason, parse(rule.expression, parameters)) for rule in rules.rules]
    names = sorted(set().union(*(expression.columns for _, expression in parsed)))
    signals = compute_signals(pa.array([text], pa.string()), names)
    reason: str | None = evaluate_rules(parsed, signals, "drop")[0].to_pylist()[0]
    return reason


def test_rule_sets_read_only_signals_and_each_rule_names_its_source() -> None:
    published = {"gopher_quality", "gopher_repetition", "c4", "fineweb"}
    of_code = {"code", "starcoder", "santacoder_comments", "starcoder2"}
    of_images = {"datacomp_basic", "laion", "align", "wukong", "metaclip"}
    assert set(RULE_SETS) == published | of_code | of_images
    for rules in RULE_SETS.values():
        for rule in rules.rules:
            assert rule.source
            expression = parse(rule.expression, rules.parameters)
            assert expression.columns
            assert expression.columns <= set(SIGNALS)


def test_thresholds_are_those_of_table_a1() -> None:
    published = [0.30, 0.30, 0.20, 0.20, 0.20, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.10]
    assert list(RULE_SETS["gopher_repetition"].parameters.values()) == published


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        ("the end of it", "too_few_words"),
        ("", "too_few_words"),
        (None, "too_few_words"),
        ("with the " * 50_001, "too_many_words"),
        ("a to " * 100, "words_too_short"),
        ("incomprehensibly the " + "incomprehensibilities " * 60, "words_too_long"),
        ("the hound and # the cats of " * 20, "too_many_hashes"),
        ("the dog and… the cat of " * 20, "too_many_ellipses"),
        ("- the hounds and the horses of the farm\n" * 20, "too_many_bullet_lines"),
        ("the cat of the farm walks\n" * 20 + "with the end still open...\n" * 9, "too_many_ellipsis_lines"),
        ("the 10000 of 20000 and 30000 " * 20, "too_few_alphabetic_words"),
        ("der Hund jagt eine Katze " * 20, "too_few_stop_words"),
    ],
)  # fmt: skip
def test_gopher_quality_names_what_is_wrong(text: str | None, reason: str | None) -> None:
    assert reasons("gopher_quality", text) == reason


LINES = "\n".join(f"{a} {b}" for a, b in zip(NAMES, reversed(NAMES), strict=True))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE.replace("The miller of", "").replace("for that was his trade", ""), "top_2gram"),
        (LINES, None),
        (f"{LINES}\n{LINES}", "duplicate_lines"),
        (f"{LINES}\n\nx\n\nx\n\nx\n\nx\n\nx", "duplicate_paragraphs"),
        (f"{LINES}\n{'y' * 99}\n{'y' * 99}", "duplicate_line_chars"),
        (f"{LINES}\n\n{'y' * 30}\n{'z' * 30}\n\n{'y' * 30}\n{'z' * 30}", "duplicate_paragraph_chars"),
    ],
)
def test_gopher_repetition_names_what_is_repeated(text: str, reason: str | None) -> None:
    alone = ["max_duplicate_paragraphs", "max_duplicate_line_chars"] if "zzz" in text else []
    assert reasons("gopher_repetition", text, **dict.fromkeys(alone, 1.0)) == reason


def test_a_page_of_one_repeated_sentence_breaks_every_ngram_rule_alone() -> None:
    text = "spam and eggs for breakfast with tea and more of that " * 30
    for name in RULE_SETS["gopher_repetition"].parameters:
        if "gram" in name and "top" not in name:
            others = {other: 1.0 for other in RULE_SETS["gopher_repetition"].parameters if other != name}
            assert reasons("gopher_repetition", text, **others) == name.removeprefix("max_")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        (PROSE + "\nLorem Ipsum dolor sit amet.", "lorem_ipsum"),
        (PROSE + "\nfunction f() {", "curly_bracket"),
        ("The one sentence of this page is here.", "too_few_sentences"),
        (PROSE.replace(".", ""), "too_few_sentences"),
        (PROSE.replace(".", "..."), "too_few_sentences"),
        ("Too short.\n" * 9, "too_few_sentences"),
        ("Please enable JavaScript in your browser settings.\n" * 9, "too_few_sentences"),
        ("We use cookies on this page to know you.\n" * 9, "too_few_sentences"),
    ],
)
def test_c4_names_what_is_wrong_with_a_page(text: str, reason: str | None) -> None:
    assert reasons("c4", text) == reason


def test_c4_lets_lines_end_as_they_like_where_the_job_says_so() -> None:
    assert reasons("c4", PROSE.replace(".", ""), line_ending=False) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        (PROSE.replace(".", ""), "too_few_terminal_lines"),
        ("A line that is long enough not to count.\n" + "Short one.\n" * 3, "too_many_short_lines"),
        ("A line that is long enough not to count as short.\n" * 2, "duplicate_line_chars"),
        (f"One{'o' * 40}.\nTwo{'o' * 40}.\n", "too_many_newlines"),
    ],
)  # fmt: skip
def test_fineweb_names_what_is_wrong(text: str, reason: str | None) -> None:
    assert reasons("fineweb", text) == reason
