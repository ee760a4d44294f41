"""C4's rules for whole pages (Raffel et al. 2020, arXiv:1910.10683, section 2.2).

The constants are those of the reference implementation (tensorflow_datasets, text/c4_utils.py): 3
sentences, in lines of at least 5 words. datatrove's C4QualityFilter asks for 5 sentences in lines of at
least 3 words (here `min_sentences: 5` and the signal option `c4_min_line_words`). FineWeb's
recipe lets lines end as they like (`line_ending: false`). C4's list of bad words is not among these rules.
"""

from __future__ import annotations

from typing import Final

from ...schemas.rules import Rule, RuleSet

_PAPER: Final = "section 2.2; tensorflow_datasets, text/c4_utils.py, clean_page"

C4: Final = RuleSet(
    "c4",
    source="Raffel et al. 2020, arXiv:1910.10683, section 2.2",
    rules=[
        Rule("lorem_ipsum", "lorem_ipsum_count <= max_lorem_ipsum", source=_PAPER, max_lorem_ipsum=0),
        Rule(
            "curly_bracket",
            "curly_bracket_count <= max_curly_brackets",
            source=f"{_PAPER}; the code looks for the opening bracket only, the paper names both alike",
            max_curly_brackets=0,
        ),
        Rule(
            "too_few_sentences",
            "(c4_sentence_count if line_ending else c4_sentence_count_any_ending) >= min_sentences",
            source=f"{_PAPER}, _MIN_NUM_SENTENCES",
            line_ending=True,
            min_sentences=3,
        ),
    ],
)
