"""What one pass over a document counts: one row of int64, of which signals are ratios.

Each name is the index of its column in that row.
"""

from __future__ import annotations

from typing import Final

(
    # Characters are Unicode code points.
    BYTES,  # of the text in UTF-8
    CHARS,
    LETTERS,
    DIGITS,
    UPPERCASE,
    SPACES,
    PUNCTUATION_MARKS,
    NEWLINES,  # line ends: \n, \r\n and \r
    HASHES,  # "#"
    CURLY_BRACKETS,  # "{" and "}"
    # Words, of the kind that the caller chose.
    WORDS,
    WORD_CHARS,  # characters in words
    SPACED_CHARS,  # the same with one space between words
    LONGEST_WORD,  # in characters
    ALPHABETIC_WORDS,  # with at least one letter
    STOP_WORDS,  # how many of the stop words occur
    STOP_WORD_OCCURRENCES,  # words that are stop words
    DISTINCT_WORDS,
    ALL_CAPS_WORDS,  # whose letters are all upper-case, and that have one (str.isupper)
    WORDS_WITHOUT_ASCII_LETTER,
    LOREM_IPSUM_WORDS,  # a word that ends in "lorem" before one that begins with "ipsum"
    PUNCTUATED_SENTENCES,  # up to a run of ".", "!" and "?"
    # Lines are the pieces between line ends that hold more than white space.
    LINES,
    LINE_CHARS,  # characters in lines
    BULLET_LINES,
    ELLIPSIS_LINES,
    TERMINAL_LINES,
    SHORT_LINES,
    DUPLICATE_LINES,  # lines equal to an earlier one
    DUPLICATE_LINE_CHARS,
    # Paragraphs are runs of lines with no blank one between them.
    PARAGRAPHS,
    DUPLICATE_PARAGRAPHS,
    DUPLICATE_PARAGRAPH_CHARS,  # characters in the lines of such paragraphs
    # What is found by reading each line.
    ELLIPSES,  # "..." and "…"
    SYMBOLS,  # "#" and ellipses
    SENTENCES,
    C4_SENTENCES,  # in the lines that C4 keeps
    C4_SENTENCES_ANY_ENDING,  # in the lines that C4 would keep if it did not ask how they end
    JAVASCRIPT_LINES,
    POLICY_LINES,
    LOREM_IPSUM,
    # Characters of words inside n-grams.
    TOP_2GRAM_CHARS,
    TOP_3GRAM_CHARS,
    TOP_4GRAM_CHARS,
    DUPLICATE_5GRAM_CHARS,
    DUPLICATE_6GRAM_CHARS,
    DUPLICATE_7GRAM_CHARS,
    DUPLICATE_8GRAM_CHARS,
    DUPLICATE_9GRAM_CHARS,
    DUPLICATE_10GRAM_CHARS,
) = range(50)

COUNTERS: Final = 50

TOP_SIZES: Final = (2, 3, 4)  # n of the top n-grams
DUPLICATE_SIZES: Final = (5, 6, 7, 8, 9, 10)  # n of the duplicate n-grams

# What a caller may ask for, as bits; each needs those before the arrow.
CHARACTERS: Final = 1
WORD_SHAPES: Final = 2
LINES_AND_PARAGRAPHS: Final = 4
READING: Final = 8  # needs WORD_SHAPES and LINES_AND_PARAGRAPHS
TOP_NGRAMS: Final = 16  # needs WORD_SHAPES
DUPLICATE_NGRAMS: Final = 32  # needs WORD_SHAPES
VOCABULARY: Final = 64  # needs WORD_SHAPES
WORD_CASES: Final = 128  # needs WORD_SHAPES
PUNCTUATED: Final = 256
STOP_LIST: Final = 512  # needs WORD_SHAPES
