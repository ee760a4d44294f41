"""The definitions of the signals that one compiled pass over the text counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from ..signal_spec import SignalSpec
from . import counters as c
from .counters import (
    CHARACTERS,
    DUPLICATE_NGRAMS,
    DUPLICATE_SIZES,
    LINES_AND_PARAGRAPHS,
    PUNCTUATED,
    READING,
    STOP_LIST,
    TOP_NGRAMS,
    TOP_SIZES,
    VOCABULARY,
    WORD_CASES,
    WORD_SHAPES,
)

_READING = READING | WORD_SHAPES | LINES_AND_PARAGRAPHS
_GOPHER = "Rae et al. 2021, arXiv:2112.11446"
_C4 = "Raffel et al. 2020, arXiv:1910.10683, section 2.2; tensorflow_datasets, text/c4_utils.py"
_FINEWEB = "Penedo et al. 2024, arXiv:2406.17557; datatrove, filters/fineweb_quality_filter.py"
REDPAJAMA = "Weber et al. 2024, arXiv:2411.12372; github.com/togethercomputer/RedPajama-Data, quality_signals"
_WORDS = ("words",)
ENTROPY: Final = -1  # in place of a counter: the entropy, which is no whole number


def _count(
    name: str, of: int, needs: int, doc: str, source: str = "", options: tuple[str, ...] = (), unit: str = ""
) -> SignalSpec:
    unit = unit or "occurrences"
    options = ("normalize", *options)
    return SignalSpec(name, pa.int64(), unit, doc, source, options=options, of=of, needs=needs)


def _ratio(
    name: str,
    of: int,
    per: int,
    needs: int,
    doc: str,
    source: str = "",
    options: tuple[str, ...] = (),
    unit: str = "",
) -> SignalSpec:
    unit = unit or ("per word" if "per word" in doc.lower() else "share, 0 to 1")
    options = ("normalize", *options)
    return SignalSpec(name, pa.float64(), unit, doc, source, options=options, of=of, per=per, needs=needs)


def _general() -> Iterator[SignalSpec]:
    yield _count("byte_count", c.BYTES, 0, "Bytes of the text in UTF-8.", unit="bytes")
    yield _count("char_count", c.CHARS, CHARACTERS, "Characters.", unit="characters")
    source = f"{_GOPHER}, section A.1.1"
    yield _count("word_count", c.WORDS, WORD_SHAPES, "Words.", source, _WORDS, "words")
    yield _count("line_count", c.LINES, LINES_AND_PARAGRAPHS, "Lines.", unit="lines")
    yield _count("paragraph_count", c.PARAGRAPHS, LINES_AND_PARAGRAPHS, "Paragraphs.", unit="paragraphs")
    doc = "Sentences; see sentences.py for what ends one."
    yield _count("sentence_count", c.SENTENCES, _READING, doc, unit="sentences")
    doc = "Characters of the longest word."
    yield _count("max_word_length", c.LONGEST_WORD, WORD_SHAPES, doc, "", _WORDS, "characters")
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
    doc = "Characters per word."
    yield _ratio("mean_word_length", c.WORD_CHARS, c.WORDS, words, doc, source, _WORDS, "characters")
    yield _ratio("hash_word_ratio", c.HASHES, c.WORDS, words | CHARACTERS, '"#" per word.', source, _WORDS)
    doc = '"…" and "..." (not overlapping) per word.'
    yield _ratio("ellipsis_word_ratio", c.ELLIPSES, c.WORDS, _READING, doc, source, _WORDS)
    doc = "Share of words with at least one letter."
    yield _ratio("alphabetic_word_fraction", c.ALPHABETIC_WORDS, c.WORDS, words, doc, source, _WORDS)
    doc = "How many different stop words are among the words, case as written."
    options = ("words", "stop_words")
    yield _count("stop_word_count", c.STOP_WORDS, words | STOP_LIST, doc, source, options)
    doc = "Share of lines whose first character, after white space, is a bullet."
    yield _ratio("bullet_line_fraction", c.BULLET_LINES, c.LINES, lines, doc, source, ("bullets",))
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
    options = ("words", "ngrams")
    needs = WORD_SHAPES | TOP_NGRAMS
    for n in TOP_SIZES:
        doc = f"Share of the words' characters inside the most frequent {n}-gram; see ngrams.py."
        counter = c.TOP_2GRAM_CHARS + n - TOP_SIZES[0]
        yield _ratio(f"top_{n}gram_char_fraction", counter, c.WORD_CHARS, needs, doc, source, options)
    needs = WORD_SHAPES | DUPLICATE_NGRAMS
    for n in DUPLICATE_SIZES:
        doc = f"Share of the words' characters inside {n}-grams that occurred before; see ngrams.py."
        counter = c.DUPLICATE_5GRAM_CHARS + n - DUPLICATE_SIZES[0]
        yield _ratio(f"duplicate_{n}gram_char_fraction", counter, c.WORD_CHARS, needs, doc, source, options)


def _c4() -> Iterator[SignalSpec]:
    doc = '"lorem ipsum", the case of ASCII letters aside.'
    yield _count("lorem_ipsum_count", c.LOREM_IPSUM, _READING, doc, _C4)
    yield _count("curly_bracket_count", c.CURLY_BRACKETS, CHARACTERS, '"{" and "}".', _C4, unit="brackets")
    doc = 'Share of lines that mention "javascript", the case of ASCII letters aside.'
    yield _ratio("javascript_line_fraction", c.JAVASCRIPT_LINES, c.LINES, _READING, doc, _C4)
    doc = "Share of lines with a phrase of cookie and privacy notices (sentences.PHRASES)."
    yield _ratio("policy_line_fraction", c.POLICY_LINES, c.LINES, _READING, doc, _C4)
    doc = (
        "Sentences in the lines that C4 keeps: enough words, none too long, no JavaScript, no policy notice, "
        'and an end in terminal punctuation that is not "...".'
    )
    options = ("words", "c4_min_line_words", "c4_max_word_length")
    yield _count("c4_sentence_count", c.C4_SENTENCES, _READING, doc, _C4, options, "sentences")
    doc = "The same without the condition on how a line ends."
    yield _count(
        "c4_sentence_count_any_ending", c.C4_SENTENCES_ANY_ENDING, _READING, doc, _C4, options, "sentences"
    )


def _fineweb() -> Iterator[SignalSpec]:
    lines = LINES_AND_PARAGRAPHS
    doc = (
        "Share of lines that end, before white space, in a sentence terminal (Unicode property "
        "Sentence_Terminal) or a closing quotation mark."
    )
    yield _ratio("terminal_punctuation_line_fraction", c.TERMINAL_LINES, c.LINES, lines, doc, _FINEWEB)
    doc = "Share of lines of at most `short_line` characters, white space included."
    yield _ratio("short_line_fraction", c.SHORT_LINES, c.LINES, lines, doc, _FINEWEB, ("short_line",))
    doc = "Line ends per word, blank lines included."
    yield _ratio("newline_word_ratio", c.NEWLINES, c.WORDS, lines | WORD_SHAPES, doc, _FINEWEB, _WORDS)


def _redpajama() -> Iterator[SignalSpec]:
    words, source = WORD_SHAPES, REDPAJAMA
    doc = 'Line ends ("\\n", "\\r\\n", "\\r").'
    yield _count("newline_count", c.NEWLINES, LINES_AND_PARAGRAPHS, doc, unit="line ends")
    doc = "Different words for each word."
    needs = words | VOCABULARY
    yield _ratio("unique_word_fraction", c.DISTINCT_WORDS, c.WORDS, needs, doc, source, _WORDS)
    yield SignalSpec(
        "unigram_entropy",
        pa.float64(),
        "nats",
        "Entropy of the words' frequencies: the sum of -p log p over different words.",
        source,
        options=("normalize", "words"),
        of=ENTROPY,
        needs=needs,
    )
    doc = "Share of words with a cased letter whose cased letters are all upper-case (str.isupper)."
    needs = words | WORD_CASES
    yield _ratio("all_caps_word_fraction", c.ALL_CAPS_WORDS, c.WORDS, needs, doc, source, _WORDS)
    doc = "Share of words without any of the letters a to z and A to Z."
    counter = c.WORDS_WITHOUT_ASCII_LETTER
    yield _ratio("no_ascii_letter_word_fraction", counter, c.WORDS, needs, doc, source, _WORDS)
    doc = "Share of words that are stop words, case as written."
    counter, options = c.STOP_WORD_OCCURRENCES, ("words", "stop_words")
    yield _ratio("stop_word_fraction", counter, c.WORDS, words | STOP_LIST, doc, source, options)
    doc = '"#", "…" and "..." (not overlapping) per word.'
    yield _ratio("symbol_word_ratio", c.SYMBOLS, c.WORDS, _READING | CHARACTERS, doc, source, _WORDS)
    doc = '"{" and "}" for each character.'
    yield _ratio("curly_bracket_char_ratio", c.CURLY_BRACKETS, c.CHARS, CHARACTERS, doc, source)
    doc = (
        'A word that ends in "lorem" before one that begins with "ipsum", the case of ASCII letters aside, '
        "for each character of the words and of single spaces between them."
    )
    counter, per = c.LOREM_IPSUM_WORDS, c.SPACED_CHARS
    yield _ratio("lorem_ipsum_char_ratio", counter, per, needs, doc, source, _WORDS, "per character")
    doc = 'Stretches from a letter, number or underscore to the end of the next run of ".", "!" and "?".'
    counter = c.PUNCTUATED_SENTENCES
    yield _count("punctuated_sentence_count", counter, PUNCTUATED, doc, source, unit="sentences")


def measured() -> Iterator[SignalSpec]:
    """The signals of the family `measure`."""
    for group in (_general, _gopher_quality, _gopher_repetition, _c4, _fineweb, _redpajama):
        yield from group()
