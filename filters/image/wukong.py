"""Wukong's rules for one pair (Gu et al. 2022, arXiv:2202.06767)."""

from __future__ import annotations

from typing import Final

from ...schemas.rules import Rule, RuleSet

_UNCHECKED: Final = "Gu et al. 2022, arXiv:2202.06767, dataset collection; not checked against the paper"

WUKONG: Final = RuleSet(
    "wukong",
    source="Gu et al. 2022, arXiv:2202.06767, section on how the data were collected",
    rules=[
        Rule("too_small", "min_side > side_over", source=_UNCHECKED, side_over=200),
        Rule("too_elongated", "aspect <= max_aspect", source=_UNCHECKED, max_aspect=3.0),
        Rule("too_few_chinese", "han_char_count >= min_chinese", source=_UNCHECKED, min_chinese=1),
        Rule(
            "too_many_chars",
            "char_count <= max_chars",
            source=f"{_UNCHECKED}, nor whether all characters count or the Chinese ones",
            max_chars=31,
        ),
        Rule(
            "file_name",
            "not caption_is_file_name",
            source=f"{_UNCHECKED}; the patterns are ours, the paper's is not published",
        ),
    ],
)
