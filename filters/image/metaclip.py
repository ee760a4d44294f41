"""What MetaCLIP asks of a caption before it looks for entries in it (Xu et al. 2024, arXiv:2309.16671)."""

from __future__ import annotations

from typing import Final

from ...schemas.rules import Rule, RuleSet

_CODE: Final = "facebookresearch/MetaCLIP, metaclip/cc_matching.py"

# English by fastText is a step `language` of the job, the entries a step `balance`.
METACLIP: Final = RuleSet(
    "metaclip",
    source="facebookresearch/MetaCLIP, metaclip/cc_matching.py",
    rules=[
        Rule(
            "empty_caption",
            "word_count >= min_words",
            source=f"{_CODE}, drops what is empty without white space at its ends",
            min_words=1,
        ),
    ],
)
