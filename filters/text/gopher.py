"""MassiveText's rules for web pages (Rae et al. 2021, arXiv:2112.11446, section A.1.1 and table A1)."""

from __future__ import annotations

from typing import Final

from ...schemas.rules import Rule, RuleSet

_QUALITY: Final = "section A.1.1, quality filtering"
_REPETITION: Final = "table A1"

GOPHER_QUALITY: Final = RuleSet(
    "gopher_quality",
    source="Rae et al. 2021, arXiv:2112.11446, section A.1.1",
    rules=[
        Rule("too_few_words", "word_count >= min_words", source=_QUALITY, min_words=50),
        Rule("too_many_words", "word_count <= max_words", source=_QUALITY, max_words=100_000),
        Rule(
            "words_too_short",
            "mean_word_length >= min_mean_word_length",
            source=_QUALITY,
            min_mean_word_length=3.0,
        ),
        Rule(
            "words_too_long",
            "mean_word_length <= max_mean_word_length",
            source=_QUALITY,
            max_mean_word_length=10.0,
        ),
        Rule("too_many_hashes", "hash_word_ratio <= max_hash_ratio", source=_QUALITY, max_hash_ratio=0.1),
        Rule(
            "too_many_ellipses",
            "ellipsis_word_ratio <= max_ellipsis_ratio",
            source=_QUALITY,
            max_ellipsis_ratio=0.1,
        ),
        Rule(
            "too_many_bullet_lines",
            "bullet_line_fraction <= max_bullet_lines",
            source=_QUALITY,
            max_bullet_lines=0.9,
        ),
        Rule(
            "too_many_ellipsis_lines",
            "ellipsis_line_fraction <= max_ellipsis_lines",
            source=_QUALITY,
            max_ellipsis_lines=0.3,
        ),
        Rule(
            "too_few_alphabetic_words",
            "alphabetic_word_fraction >= min_alphabetic_words",
            source=_QUALITY,
            min_alphabetic_words=0.8,
        ),
        Rule("too_few_stop_words", "stop_word_count >= min_stop_words", source=_QUALITY, min_stop_words=2),
    ],
)


def _at_most(reason: str, signal: str, parameter: str, threshold: float) -> Rule:
    return Rule(reason, f"{signal} <= {parameter}", source=_REPETITION, **{parameter: threshold})


GOPHER_REPETITION: Final = RuleSet(
    "gopher_repetition",
    source="Rae et al. 2021, arXiv:2112.11446, table A1",
    rules=[
        _at_most("duplicate_lines", "duplicate_line_fraction", "max_duplicate_lines", 0.30),
        _at_most("duplicate_paragraphs", "duplicate_paragraph_fraction", "max_duplicate_paragraphs", 0.30),
        _at_most("duplicate_line_chars", "duplicate_line_char_fraction", "max_duplicate_line_chars", 0.20),
        _at_most(
            "duplicate_paragraph_chars",
            "duplicate_paragraph_char_fraction",
            "max_duplicate_paragraph_chars",
            0.20,
        ),
        _at_most("top_2gram", "top_2gram_char_fraction", "max_top_2gram", 0.20),
        _at_most("top_3gram", "top_3gram_char_fraction", "max_top_3gram", 0.18),
        _at_most("top_4gram", "top_4gram_char_fraction", "max_top_4gram", 0.16),
        _at_most("duplicate_5grams", "duplicate_5gram_char_fraction", "max_duplicate_5grams", 0.15),
        _at_most("duplicate_6grams", "duplicate_6gram_char_fraction", "max_duplicate_6grams", 0.14),
        _at_most("duplicate_7grams", "duplicate_7gram_char_fraction", "max_duplicate_7grams", 0.13),
        _at_most("duplicate_8grams", "duplicate_8gram_char_fraction", "max_duplicate_8grams", 0.12),
        _at_most("duplicate_9grams", "duplicate_9gram_char_fraction", "max_duplicate_9grams", 0.11),
        _at_most("duplicate_10grams", "duplicate_10gram_char_fraction", "max_duplicate_10grams", 0.10),
    ],
)
