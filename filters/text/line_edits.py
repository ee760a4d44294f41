"""Refiners that drop or shorten lines: C4's, and RefinedWeb's as DCLM reproduces them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np
import pyarrow as pa

from ...schemas.contracts import Refiner

# DCLM, baselines/mappers/modifiers.py, counter_line_modifier; the paper gives one example, "3 likes".
COUNTED: Final = (
    "likes",
    "shares",
    "comments",
    "retweets",
    "reposts",
    "quotes",
    "bookmarks",
    "upvotes",
    "downvotes",
    "downloads",
    "views",
    "followers",
)


class C4Lines(Refiner):
    """Keeps the lines that C4 keeps (Raffel et al. 2020, section 2.2; tensorflow_datasets, text/c4_utils.py).

    A line stays if it has at least `min_words` words, none longer than `max_word_length` characters (0: any),
    no "javascript" (`javascript`), no phrase of cookie and privacy notices (`policy`; sentences.PHRASES), and
    ends in an end mark but not in "..." or "…" (`line_ending`). Without `end_marks` these are the sentence
    terminals of Unicode and closing quotation marks, as for the signal `c4_sentence_count`; the reference
    implementation has `end_marks: '.?!"'`. `citations` deletes "[1]", "[]", "[edit]" and "[citation needed]"
    before all but the length of words is looked at. White space at the ends of lines goes, and blank lines.

    Two things differ from the reference: white space that a citation leaves at the end of its line does not
    count as its ending, and lines end only in "\\n", "\\r\\n" and "\\r", not in all that str.splitlines
    knows.
    Conditions on the whole page ("lorem ipsum", brackets, three sentences) are the rule set `c4`.
    """

    version: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    kernels = ("thresher.filters.text.c4_lines",)

    def __init__(
        self,
        min_words: int = 5,
        max_word_length: int = 1000,
        line_ending: bool = True,
        end_marks: str = "",
        javascript: bool = True,
        policy: bool = True,
        citations: bool = True,
    ) -> None:
        _require("min_words", min_words, min_words >= 0, "0 or more")
        _require("max_word_length", max_word_length, max_word_length >= 0, "0 or more")
        self._min_words, self._max_word = min_words, max_word_length
        self._end_marks = np.array(sorted(set(map(ord, end_marks))), np.uint32)
        self._conditions = {
            "ending": line_ending,
            "javascript": javascript,
            "policy": policy,
            "citations": citations,
        }

    def edits(self, batch: pa.RecordBatch) -> pa.ListArray:
        """Deletes all but the kept lines and the line ends between them."""
        from .buffers import text_buffers
        from .c4_lines import CITATIONS, ENDING, c4_spans
        from .characters import character_classes
        from .edits import deletions
        from .sentences import JAVASCRIPT, POLICY, interest_table, phrase_table

        bits = {"ending": ENDING, "javascript": JAVASCRIPT, "policy": POLICY, "citations": CITATIONS}
        buffers = text_buffers(batch.column("text"))
        first = np.empty(len(buffers) + 1, np.int64)
        spans = c4_spans(
            buffers.data,
            buffers.offsets,
            buffers.valid,
            character_classes(),
            interest_table(),
            phrase_table(),
            sum(bits[name] for name, wanted in self._conditions.items() if wanted),
            self._end_marks,
            self._min_words,
            self._max_word,
            first,
        )
        return deletions(buffers, first, spans)


class RefinedWebLines(Refiner):
    """Drops and edits lines as RefinedWeb does (Penedo et al. 2023, arXiv:2306.01116, appendix G.2).

    The paper discards a line that is mainly upper case, only digits, a counter ("3 likes") or one word, and
    edits a line of at most 10 words with a pattern at its beginning ("sign-in"), at its end ("Read more...")
    or anywhere ("items in cart"). It gives no other constants; the defaults are DCLM's (mlfoundations/dclm,
    baselines/mappers/modifiers.py and baselines_configs/dclm_baseline_refinedweb.yaml). A line is discarded

    - if the share of upper-case letters among its characters is above `max_uppercase`;
    - if the share of decimal digits is above `max_digits`;
    - if it has fewer than `min_words` words (blank lines stay);
    - if it is a number (with commas and points, perhaps k, m or b), white space and one of `counted`, with
      nothing but punctuation and white space around.

    From other lines of at most `max_phrase_words` words (0: from none) the phrases `anywhere` go with one
    white space before each, then one of `at_end` likewise, then one of `at_start` with one white space after
    it; the longest phrase first, the case of ASCII letters aside. A line with nothing left is discarded.
    DCLM takes its phrases as regular expressions, so that "Read more..." there ends in any three characters:
    `wildcard: "."` does as it does. Where a text is edited, white space at its ends goes too. Documents that
    lose more than 5 % of their words are dropped by the step's `max_removed`.
    """

    version: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    kernels = ("thresher.filters.text.refinedweb_lines",)

    def __init__(
        self,
        max_uppercase: float = 0.5,
        max_digits: float = 0.999999,
        min_words: int = 2,
        counted: Sequence[str] = COUNTED,
        max_phrase_words: int = 10,
        anywhere: Sequence[str] = ("items in cart",),
        at_end: Sequence[str] = ("Read more...",),
        at_start: Sequence[str] = ("Sign-in",),
        wildcard: str = "",
    ) -> None:
        _require("max_uppercase", max_uppercase, 0 <= max_uppercase <= 1, "from 0 to 1")
        _require("max_digits", max_digits, 0 <= max_digits <= 1, "from 0 to 1")
        _require("min_words", min_words, min_words >= 0, "0 or more")
        _require("max_phrase_words", max_phrase_words, max_phrase_words >= 0, "0 or more")
        _require("wildcard", wildcard, len(wildcard) <= 1, "one character or none")
        lists = {"counted": counted, "anywhere": anywhere, "at_end": at_end, "at_start": at_start}
        for name, phrases in lists.items():
            _require(name, phrases, not isinstance(phrases, str), "a list")
            for phrase in phrases:
                clean = bool(phrase) and phrase == phrase.strip() and not {"\n", "\r"} & set(phrase)
                _require(name, phrase, clean, "of phrases on one line, without white space at their ends")
        self._limits = max_uppercase, max_digits, min_words, max_phrase_words
        self._counted, self._phrases, self._wildcard = counted, (anywhere, at_end, at_start), wildcard

    def edits(self, batch: pa.RecordBatch) -> pa.ListArray:
        """Deletes discarded lines and their line ends, phrases, and white space then left at the ends."""
        from .buffers import text_buffers
        from .characters import character_classes
        from .edits import deletions
        from .refinedweb_lines import phrase_table, refinedweb_spans

        buffers = text_buffers(batch.column("text"))
        first = np.empty(len(buffers) + 1, np.int64)
        anywhere, at_end, at_start = (phrase_table(phrases, self._wildcard) for phrases in self._phrases)
        max_uppercase, max_digits, min_words, max_phrase_words = self._limits
        spans = refinedweb_spans(
            buffers.data,
            buffers.offsets,
            buffers.valid,
            character_classes(),
            max_uppercase,
            max_digits,
            min_words,
            max_phrase_words,
            phrase_table(self._counted),
            anywhere,
            at_end,
            at_start,
            first,
        )
        return deletions(buffers, first, spans)


def _require(name: str, value: object, holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{name}: {value!r} must be {what}")
