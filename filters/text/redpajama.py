"""RedPajama-V2's quality signals (Weber et al. 2024, arXiv:2411.12372) and which of our columns hold them.

The reference is the code of the data set (github.com/togethercomputer/RedPajama-Data, branch rp_v2,
app/src/core): quality_signals/{natural_language,lines,repetitions,content}.py, document.py and
utilities/text/normalization.py. It rounds to eight digits, and has null where a document has no words or
lines; ours is not rounded, and 0 there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ..signal_options import DEFAULTS, SignalOptions
from ..signals import variant_name

# quality_signals/lines.py, RPS_Lines_Start_With_Bulletpoint.
BULLETS: Final = "\u2022\u2023\u25b6\u25c0\u25e6\u25a0\u25a1\u25aa\u25ab\u2013"


@dataclass(frozen=True)
class Counterpart:
    """The column of ours that holds a signal of RedPajama-V2, and where the two differ ("" where nowhere)."""

    column: str
    difference: str = ""


def _counterparts() -> Iterator[tuple[str, Counterpart]]:
    normalized = SignalOptions(normalize="redpajama", ngrams="redpajama")
    raw = SignalOptions(words="wordpunct")
    words = SignalOptions(normalize="redpajama")
    bullets = SignalOptions(bullets=BULLETS)

    def ours(signal: str, options: SignalOptions = DEFAULTS, difference: str = "") -> Counterpart:
        return Counterpart(variant_name(signal, options), difference)

    yield "ccnet_length", ours("char_count")
    yield (
        "ccnet_nlines",
        ours("newline_count", difference='CCNet\'s is one more, and only "\\n" ends its lines'),
    )
    yield "rps_doc_num_sentences", ours("punctuated_sentence_count")
    yield "rps_doc_word_count", ours("word_count", words)
    yield "rps_doc_mean_word_length", ours("mean_word_length", words)
    yield "rps_doc_symbol_to_word_ratio", ours("symbol_word_ratio", raw)
    lines = "theirs is a share of all lines, blank ones too; ours of those that hold more than white space"
    yield "rps_doc_frac_lines_end_with_ellipsis", ours("ellipsis_line_fraction", difference=lines)
    yield "rps_doc_frac_no_alph_words", ours("no_ascii_letter_word_fraction", raw)
    yield "rps_doc_frac_unique_words", ours("unique_word_fraction", words)
    yield "rps_doc_unigram_entropy", ours("unigram_entropy", words)
    yield "rps_doc_frac_all_caps_words", ours("all_caps_word_fraction", raw)
    yield "rps_doc_lorem_ipsum", ours("lorem_ipsum_char_ratio", words)
    yield "rps_doc_curly_bracket", ours("curly_bracket_char_ratio")
    stop_words = (
        "theirs are the lists of github.com/6/stopwords-json in full, ours function words only "
        "(stop_words.py), or those that the job gives"
    )
    by_language = SignalOptions(words="wordpunct", stop_words="by_language")
    yield "rps_doc_stop_word_fraction", ours("stop_word_fraction", by_language, stop_words)
    for n in (2, 3, 4):
        yield f"rps_doc_frac_chars_top_{n}gram", ours(f"top_{n}gram_char_fraction", normalized)
    for n in range(5, 11):
        yield f"rps_doc_frac_chars_dupe_{n}grams", ours(f"duplicate_{n}gram_char_fraction", normalized)
    numbers = "a list of numbers; theirs has the span of each line beside it"
    yield "rps_lines_num_words", ours("line_word_counts", words, numbers)
    yield "rps_lines_uppercase_letter_fraction", ours("line_uppercase_fractions", difference=numbers)
    yield "rps_lines_numerical_chars_fraction", ours("line_numeric_fractions", words, numbers)
    yield "rps_lines_ending_with_terminal_punctution_mark", ours("line_terminal_marks", difference=numbers)
    yield "rps_lines_start_with_bulletpoint", ours("line_bullets", bullets, numbers)
    yield "rps_lines_javascript_counts", ours("line_javascript_counts", words, numbers)


REDPAJAMA_V2: Final[Mapping[str, Counterpart]] = MappingProxyType(dict(_counterparts()))

# These need a list or a model, and so are made by steps of their own: `score` with the scorer named here, or
# `url`.
ELSEWHERE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rps_doc_ldnoobw_words": "scorer word_list, unit count, over the normalised text",
        "rps_doc_ut1_blacklist": "step url with lists: it drops, and the ledger names the category",
        "ccnet_perplexity": "scorer kenlm",
        "ccnet_language_score": "lang_score, of the step language",
    }
)
