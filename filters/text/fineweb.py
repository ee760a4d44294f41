"""FineWeb's own rules for web pages (Penedo et al. 2024, arXiv:2406.17557)."""

from __future__ import annotations

from typing import Final

from ...schemas.rules import Rule, RuleSet

_CODE: Final = "datatrove, pipeline/filters/fineweb_quality_filter.py"

FINEWEB: Final = RuleSet(
    "fineweb",
    source="Penedo et al. 2024, arXiv:2406.17557, section on FineWeb's own heuristic filters",
    rules=[
        Rule(
            "too_few_terminal_lines",
            "terminal_punctuation_line_fraction > min_terminal_lines",
            source="the paper drops pages at or under 0.12",
            min_terminal_lines=0.12,
        ),
        Rule(
            "too_many_short_lines",
            "short_line_fraction < max_short_lines",
            source="the paper drops pages at or over 0.67",
            max_short_lines=0.67,
        ),
        Rule(
            "duplicate_line_chars",
            "duplicate_line_char_fraction < max_duplicate_line_chars",
            source=f"the paper drops pages at or over 0.1; {_CODE} has 0.01",
            max_duplicate_line_chars=0.1,
        ),
        Rule(
            "too_many_newlines",
            "newline_word_ratio <= max_newline_ratio",
            source=f"{_CODE}; not in the paper",
            max_newline_ratio=0.3,
        ),
    ],
)
