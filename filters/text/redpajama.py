"""RedPajama-V2's quality signals (Weber et al. 2024, arXiv:2411.12372) and which of our columns hold them.

The reference is the code of the data set (github.com/togethercomputer/RedPajama-Data, branch rp_v2,
app/src/core): quality_signals/{natural_language,lines,repetitions,content}.py, document.py and
utilities/text/normalization.py. It rounds to eight digits, and has null where a document has no words or
lines; ours is not rounded, and 0 there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..kernels import kernel
from .buffers import text_buffers
from .characters import BYTES_TYPE, CLASSES_TYPE, SPACE, character_classes, decode
from .signal_options import DEFAULTS, SignalOptions
from .signals import variant_name
from .words import VALID_TYPE

# quality_signals/lines.py, RPS_Lines_Start_With_Bulletpoint.
BULLETS: Final = "\u2022\u2023\u25b6\u25c0\u25e6\u25a0\u25a1\u25aa\u25ab\u2013"

_NEWLINE: Final = 0x0A


def normalize(text: pa.Array) -> pa.Array:
    """Each text without ASCII punctuation, in lower case (str.lower), in Unicode's form NFD.

    Line ends ("\\n") stay; in a line, white space at the ends goes and other runs of it become one space. So
    the words and the lines are those of RedPajama-V2's normalised content and normalised lines.
    """
    buffers = text_buffers(text)
    data = np.empty(int(buffers.offsets[-1] - buffers.offsets[0]), np.uint8)
    ends = np.zeros(len(buffers) + 1, np.int64)
    ascii = np.ones(len(buffers), np.bool_)
    strip(buffers.data, buffers.offsets, buffers.valid, character_classes(), data, ends, ascii)
    # A few letters change their length, and what precedes or follows decides how a few are lowered.
    other = np.flatnonzero(~ascii)
    whole = data[: ends[-1]].tobytes()
    made: list[bytes] = []
    done = 0
    shift = np.zeros(len(buffers) + 1, np.int64)
    for row in other.tolist():
        begin, end = int(ends[row]), int(ends[row + 1])
        lowered = unicodedata.normalize("NFD", whole[begin:end].decode("utf-8", "replace").lower()).encode()
        made += (whole[done:begin], lowered)
        done = end
        shift[row + 1] = len(lowered) - (end - begin)
    made.append(whole[done:])
    offsets = ends + np.cumsum(shift)
    joined = b"".join(made)
    mask = None if buffers.valid.all() else pa.array(buffers.valid).buffers()[1]
    return pa.Array.from_buffers(
        pa.large_string(), len(buffers), [mask, pa.py_buffer(offsets), pa.py_buffer(joined)]
    )


@kernel(f"void({BYTES_TYPE}, int64[::1], {VALID_TYPE}, {CLASSES_TYPE}, uint8[::1], int64[::1], boolean[::1])")
def strip(
    data: Any, offsets: Any, valid: Any, classes: Any, out: Any, ends: Any, ascii: npt.NDArray[np.bool_]
) -> None:
    """Writes the texts without ASCII punctuation and with white space as `normalize` has it, ASCII letters
    small; `ends` are the offsets of the result, `ascii` says whether a text is all ASCII."""
    written = 0
    for i in range(len(valid)):
        ends[i] = written
        if not valid[i]:
            continue
        at, end = offsets[i], offsets[i + 1]
        line, gap = written, False  # where the line began, and whether white space is still to be written
        while at < end:
            byte: Any = np.int64(data[at])
            after = at + 1
            spaced = False
            if byte >= 0x80:
                point, after = decode(data, at, end)
                spaced = (classes[point] & SPACE) != 0
                ascii[i] = ascii[i] and spaced
            elif byte == _NEWLINE:
                out[written] = _NEWLINE
                written += 1
                line, gap = written, False
                at = after
                continue
            else:
                spaced = (classes[byte] & SPACE) != 0
                if 0x41 <= byte <= 0x5A:
                    byte += 0x20
                elif (
                    0x21 <= byte <= 0x2F
                    or 0x3A <= byte <= 0x40
                    or 0x5B <= byte <= 0x60
                    or 0x7B <= byte <= 0x7E
                ):
                    at = after
                    continue
            if spaced:
                gap = True
            else:
                if gap and written > line:
                    out[written] = 0x20
                    written += 1
                gap = False
                if byte < 0x80:
                    out[written] = byte
                    written += 1
                else:
                    for k in range(at, after):
                        out[written] = data[k]
                        written += 1
            at = after
    ends[len(valid)] = written


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
