"""Text signals: what can be measured of a text without a model, for a whole array in one compiled pass.

Words are those of `split_words`, of the kind that the caller chooses. A line is a piece between line ends
("\\n", "\\r\\n" or "\\r") that holds more than white space; a paragraph is a run of lines with no blank one
between them. Characters are Unicode code points. A fraction or ratio of nothing is 0. Null text has null
signals; the empty text has zeros.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from . import counters as c
from .buffers import text_buffers
from .counters import (
    CHARACTERS,
    DUPLICATE_NGRAMS,
    DUPLICATE_SIZES,
    LINES_AND_PARAGRAPHS,
    READING,
    TOP_NGRAMS,
    TOP_SIZES,
    WORD_SHAPES,
)

if TYPE_CHECKING:
    from .words import WordKind

SIGNALS_VERSION: Final = 1  # changes whenever a signal of some text does

_READING = READING | WORD_SHAPES | LINES_AND_PARAGRAPHS
_GOPHER = "Rae et al. 2021, arXiv:2112.11446"
_C4 = "Raffel et al. 2020, arXiv:1910.10683, section 2.2; tensorflow_datasets, text/c4_utils.py"
_FINEWEB = "Penedo et al. 2024, arXiv:2406.17557; datatrove, filters/fineweb_quality_filter.py"


@dataclass(frozen=True)
class SignalSpec:
    """A signal: its column's name and type, what it is (with its unit), and where it was first described.

    It is the counter `of`, divided by the counter `per` where there is one; `needs` are the parts of the
    pass that fill them.
    """

    name: str
    type: pa.DataType
    doc: str
    source: str
    of: int
    per: int | None
    needs: int


@dataclass(frozen=True)
class SignalOptions:
    """What the definitions of some signals leave open.

    `stop_words`: at most 64, compared as they are written. `bullets`: characters that open an item of a list;
    the paper names none, datatrove takes "•" and "-", Dolma "*" and "-". `short_line`: the most characters of
    a short line. `c4_min_line_words`, `c4_max_word_length`: C4 drops lines of fewer words, and those with a
    longer word; 5 and 1000 in c4_utils.py, 3 and 1000 in datatrove.
    """

    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")
    bullets: str = "•*-"
    short_line: int = 30
    c4_min_line_words: int = 5
    c4_max_word_length: int = 1000

    def __post_init__(self) -> None:
        if len(set(self.stop_words)) > 64:
            raise ValueError(f"stop_words: {len(set(self.stop_words))} words; at most 64 can be looked for")
        if "" in self.stop_words:
            raise ValueError("stop_words: the empty string is no word")


def _count(name: str, of: int, needs: int, doc: str, source: str = "") -> SignalSpec:
    return SignalSpec(name, pa.int64(), doc, source, of, None, needs)


def _ratio(name: str, of: int, per: int, needs: int, doc: str, source: str = "") -> SignalSpec:
    return SignalSpec(name, pa.float64(), doc, source, of, per, needs)


def _general() -> Iterator[SignalSpec]:
    yield _count("byte_count", c.BYTES, 0, "Bytes of the text in UTF-8.")
    yield _count("char_count", c.CHARS, CHARACTERS, "Characters.")
    yield _count("word_count", c.WORDS, WORD_SHAPES, "Words.", f"{_GOPHER}, section A.1.1")
    yield _count("line_count", c.LINES, LINES_AND_PARAGRAPHS, "Lines.")
    yield _count("paragraph_count", c.PARAGRAPHS, LINES_AND_PARAGRAPHS, "Paragraphs.")
    yield _count("sentence_count", c.SENTENCES, _READING, "Sentences; see sentences.py for what ends one.")
    yield _count("max_word_length", c.LONGEST_WORD, WORD_SHAPES, "Characters of the longest word.")
    for name, counter, what in (
        ("letter", c.LETTERS, "letters (category L)"),
        ("digit", c.DIGITS, "decimal digits (category Nd)"),
        ("uppercase", c.UPPERCASE, "upper- and title-case letters (categories Lu and Lt)"),
        ("whitespace", c.SPACES, "white space (str.isspace)"),
        ("punctuation", c.PUNCTUATION_MARKS, "punctuation (category P)"),
    ):
        yield _ratio(
            f"{name}_char_ratio", counter, c.CHARS, CHARACTERS, f"Share of characters that are {what}."
        )


def _gopher_quality() -> Iterator[SignalSpec]:
    source = f"{_GOPHER}, section A.1.1"
    words, lines = WORD_SHAPES, LINES_AND_PARAGRAPHS
    yield _ratio("mean_word_length", c.WORD_CHARS, c.WORDS, words, "Characters per word.", source)
    yield _ratio("hash_word_ratio", c.HASHES, c.WORDS, words | CHARACTERS, '"#" per word.', source)
    yield _ratio(
        "ellipsis_word_ratio",
        c.ELLIPSES,
        c.WORDS,
        _READING,
        '"…" and "..." (not overlapping) per word.',
        source,
    )
    doc = "Share of words with at least one letter."
    yield _ratio("alphabetic_word_fraction", c.ALPHABETIC_WORDS, c.WORDS, words, doc, source)
    doc = "How many different stop words are among the words, case as written."
    yield _count("stop_word_count", c.STOP_WORDS, words, doc, source)
    doc = "Share of lines whose first character, after white space, is a bullet."
    yield _ratio("bullet_line_fraction", c.BULLET_LINES, c.LINES, lines, doc, source)
    doc = 'Share of lines that end, before white space, in "..." or "…".'
    yield _ratio("ellipsis_line_fraction", c.ELLIPSIS_LINES, c.LINES, lines, doc, source)


def _gopher_repetition() -> Iterator[SignalSpec]:
    source = f"{_GOPHER}, table A1"
    needs = LINES_AND_PARAGRAPHS
    doc = "Share of lines equal to an earlier one, white space included."
    yield _ratio("duplicate_line_fraction", c.DUPLICATE_LINES, c.LINES, needs, doc, source)
    doc = "Share of paragraphs whose lines are those of an earlier paragraph."
    yield _ratio("duplicate_paragraph_fraction", c.DUPLICATE_PARAGRAPHS, c.PARAGRAPHS, needs, doc, source)
    doc = "Share of the lines' characters that are in lines equal to an earlier one."
    yield _ratio("duplicate_line_char_fraction", c.DUPLICATE_LINE_CHARS, c.LINE_CHARS, needs, doc, source)
    doc = "Share of the lines' characters that are in paragraphs equal to an earlier one."
    yield _ratio(
        "duplicate_paragraph_char_fraction", c.DUPLICATE_PARAGRAPH_CHARS, c.LINE_CHARS, needs, doc, source
    )
    for n in TOP_SIZES:
        doc = f"Share of the words' characters inside the most frequent {n}-gram; see ngrams.py."
        counter = c.TOP_2GRAM_CHARS + n - TOP_SIZES[0]
        yield _ratio(
            f"top_{n}gram_char_fraction", counter, c.WORD_CHARS, WORD_SHAPES | TOP_NGRAMS, doc, source
        )
    for n in DUPLICATE_SIZES:
        doc = f"Share of the words' characters inside {n}-grams that occurred before; see ngrams.py."
        counter = c.DUPLICATE_5GRAM_CHARS + n - DUPLICATE_SIZES[0]
        yield _ratio(
            f"duplicate_{n}gram_char_fraction",
            counter,
            c.WORD_CHARS,
            WORD_SHAPES | DUPLICATE_NGRAMS,
            doc,
            source,
        )


def _c4() -> Iterator[SignalSpec]:
    doc = '"lorem ipsum", the case of ASCII letters aside.'
    yield _count("lorem_ipsum_count", c.LOREM_IPSUM, _READING, doc, _C4)
    yield _count("curly_bracket_count", c.CURLY_BRACKETS, CHARACTERS, '"{" and "}".', _C4)
    doc = 'Share of lines that mention "javascript", the case of ASCII letters aside.'
    yield _ratio("javascript_line_fraction", c.JAVASCRIPT_LINES, c.LINES, _READING, doc, _C4)
    doc = "Share of lines with a phrase of cookie and privacy notices (sentences.PHRASES)."
    yield _ratio("policy_line_fraction", c.POLICY_LINES, c.LINES, _READING, doc, _C4)
    doc = (
        "Sentences in the lines that C4 keeps: enough words, none too long, no JavaScript, no policy notice, "
        'and an end in terminal punctuation that is not "...".'
    )
    yield _count("c4_sentence_count", c.C4_SENTENCES, _READING, doc, _C4)
    doc = "The same without the condition on how a line ends."
    yield _count("c4_sentence_count_any_ending", c.C4_SENTENCES_ANY_ENDING, _READING, doc, _C4)


def _fineweb() -> Iterator[SignalSpec]:
    lines = LINES_AND_PARAGRAPHS
    doc = (
        "Share of lines that end, before white space, in a sentence terminal (Unicode property "
        "Sentence_Terminal) or a closing quotation mark."
    )
    yield _ratio("terminal_punctuation_line_fraction", c.TERMINAL_LINES, c.LINES, lines, doc, _FINEWEB)
    doc = "Share of lines of at most `short_line` characters, white space included."
    yield _ratio("short_line_fraction", c.SHORT_LINES, c.LINES, lines, doc, _FINEWEB)
    doc = "Line ends per word, blank lines included."
    yield _ratio("newline_word_ratio", c.NEWLINES, c.WORDS, lines | WORD_SHAPES, doc, _FINEWEB)


SIGNALS: Final[Mapping[str, SignalSpec]] = MappingProxyType(
    {
        spec.name: spec
        for group in (_general, _gopher_quality, _gopher_repetition, _c4, _fineweb)
        for spec in group()
    }
)


def compute_signals(
    text: pa.Array, names: Collection[str], words: WordKind = "whitespace", **options: Any
) -> dict[str, pa.Array]:
    """The named signals of each text of a string array, in the order of `names`; null for null.

    Only the parts of the pass that these signals need are run. `options` are those of SignalOptions.
    Raises KeyError for a signal that does not exist, TypeError for an unknown option or for an array that is
    not text, ValueError for another kind of words.
    """
    from .characters import character_classes
    from .measure import measure
    from .sentences import interest_table, phrase_table
    from .words import is_unicode

    chosen = SignalOptions(**options)
    specs = [SIGNALS[name] for name in names]
    buffers = text_buffers(text)
    wanted = 0
    for spec in specs:
        wanted |= spec.needs
    counters = np.zeros((len(buffers), c.COUNTERS), np.int64)
    measure(
        buffers.data,
        buffers.offsets,
        buffers.valid,
        character_classes(),
        interest_table(),
        phrase_table(),
        wanted,
        is_unicode(words),
        _hashes(chosen.stop_words),
        np.array(sorted(set(map(ord, chosen.bullets))), np.uint32),
        chosen.short_line,
        chosen.c4_min_line_words,
        chosen.c4_max_word_length,
        counters,
    )
    null = None if buffers.valid.all() else ~buffers.valid
    return {spec.name: pa.array(_values(counters, spec), spec.type, mask=null) for spec in specs}


def _values(counters: npt.NDArray[np.int64], spec: SignalSpec) -> npt.NDArray[Any]:
    of = counters[:, spec.of]
    if spec.per is None:
        return np.ascontiguousarray(of)
    return of / np.maximum(counters[:, spec.per], 1)


def _hashes(words: tuple[str, ...]) -> npt.NDArray[np.uint64]:
    from .hashing import hash_bytes

    encoded = [np.frombuffer(word.encode(), np.uint8) for word in sorted(set(words))]
    return np.array([hash_bytes(word, 0, len(word)) for word in encoded], np.uint64)
