"""ALIGN's rules for one pair (Jia et al. 2021, arXiv:2102.05918)."""

from __future__ import annotations

from typing import Final

from ...schemas.rules import Rule, RuleSet

_IMAGES: Final = "Jia et al. 2021, arXiv:2102.05918, section 3, image-based filtering"
_TEXTS: Final = "the same section, text-based filtering"

# What counts over the corpus are steps of the job: `frequency` and `vocabulary`.
ALIGN: Final = RuleSet(
    "align",
    source="Jia et al. 2021, arXiv:2102.05918, section 3",
    rules=[
        Rule("too_small", "min_side > side_over", source=_IMAGES, side_over=200),
        Rule("too_elongated", "aspect < aspect_under", source=_IMAGES, aspect_under=3.0),
        Rule("too_few_words", "word_count >= min_words", source=_TEXTS, min_words=3),
        Rule("too_many_words", "word_count <= max_words", source=_TEXTS, max_words=20),
    ],
)
