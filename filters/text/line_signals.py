"""Signals of single lines, and what they say of the document.

Here a line ends after each "\\n", as in RedPajama-V2, and blank lines count in the lists, which so have the
same length whatever the options. In means and fractions a line counts if it holds more than white space.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from ..signal_spec import SignalSpec
from .signal_specs import REDPAJAMA

_SOURCE = f"{REDPAJAMA}/lines.py"
_REFINEDWEB = "Penedo et al. 2023, arXiv:2306.01116, appendix G.2"


def _each(name: str, unit: str, doc: str, options: tuple[str, ...]) -> SignalSpec:
    return SignalSpec(name, pa.list_(pa.float64()), unit, doc, _SOURCE, "lines", options=options)


def _share(
    name: str, doc: str, options: tuple[str, ...], unit: str = "share, 0 to 1", source: str = _SOURCE
) -> SignalSpec:
    return SignalSpec(name, pa.float64(), unit, doc, source, "lines", options=options)


def line_signals() -> Iterator[SignalSpec]:
    """The signals of the family `lines`: lists with a number for each line, then numbers for the document."""
    words, normalize = ("normalize", "words"), ("normalize",)
    yield _each("line_word_counts", "words, a list", "Words of each line.", words)
    doc = "Share of each line's characters, with its line end, that are upper-case letters (str.isupper)."
    yield _each("line_uppercase_fractions", "shares, a list", doc, normalize)
    doc = "Share of each line's characters, without its line end, that are numeric (str.isnumeric)."
    yield _each("line_numeric_fractions", "shares, a list", doc, normalize)
    doc = 'Whether (1 or 0) each line ends, before white space, in ".", "!", "?" or "”".'
    yield _each("line_terminal_marks", "0 or 1, a list", doc, normalize)
    doc = "Whether (1 or 0) the first character of each line, after white space, is a bullet."
    yield _each("line_bullets", "0 or 1, a list", doc, (*normalize, "bullets"))
    doc = 'How often "javascript" in small letters stands between white space in each line.'
    yield _each("line_javascript_counts", "occurrences, a list", doc, normalize)

    yield _share("mean_line_word_count", "Words per line.", words, "words")
    doc = "Share of lines of at most `few_words` words."
    yield _share("few_word_line_fraction", doc, (*words, "few_words"), source=_REFINEDWEB)
    doc = "Mean over lines of the share of upper-case letters."
    yield _share("mean_line_uppercase_fraction", doc, normalize)
    doc = "Share of lines with more upper-case letters than the share `uppercase_line`."
    yield _share("uppercase_line_fraction", doc, (*normalize, "uppercase_line"), source=_REFINEDWEB)
    doc = "Mean over lines of the share of numeric characters."
    yield _share("mean_line_numeric_fraction", doc, normalize)
    doc = "Share of lines with more numeric characters than the share `numeric_line`."
    yield _share("numeric_line_fraction", doc, (*normalize, "numeric_line"), source=_REFINEDWEB)
