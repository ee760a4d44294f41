"""DataComp's basic filtering (Gadre et al. 2023, arXiv:2304.14108)."""

from __future__ import annotations

from typing import Final

from ...schemas.rules import Rule, RuleSet

_CODE: Final = "mlfoundations/datacomp, baselines/apply_filter.py, load_uids_with_basic_filter_helper"

# English by fastText is the fifth condition: a step `language` of the job.
DATACOMP_BASIC: Final = RuleSet(
    "datacomp_basic",
    source="Gadre et al. 2023, arXiv:2304.14108, basic filtering",
    rules=[
        Rule("too_few_words", "word_count > words_over", source=_CODE, words_over=2),
        Rule("too_few_chars", "char_count > chars_over", source=_CODE, chars_over=5),
        Rule("too_small", "min_side >= min_side_pixels", source=_CODE, min_side_pixels=200),
        Rule("too_elongated", "aspect <= max_aspect", source=_CODE, max_aspect=3.0),
    ],
)
