"""What kind of character a code point is: one table that every text kernel looks things up in.

Classes follow the Unicode database of the running Python (`unicodedata.unidata_version`), so a signal can
change for newly assigned characters with a new Python.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..kernels import kernel

# The bits of a class.
SPACE: Final = 1  # str.isspace(), which is what str.split() splits at; the lowest bit
LETTER: Final = 2  # category L, which is str.isalpha()
MARK: Final = 4  # category M
DIGIT: Final = 8  # category Nd, which is str.isdecimal()
WORD: Final = 16  # categories L, M, N and the underscore
UNSPACED: Final = 32  # a letter of a script that is written without spaces between words
UPPER: Final = 64  # categories Lu and Lt
LOWER: Final = 128  # category Ll
PUNCTUATION: Final = 256  # category P
TERMINAL: Final = 512  # Unicode property Sentence_Terminal: . ! ? and their like
CLOSING: Final = 1024  # categories Pe and Pf, " and ': what may follow the end of a sentence
QUOTE: Final = 2048  # the closing quotation marks " ' ” ’ » 」 』
LINE_END: Final = 4096  # \n and \r
KANA: Final = 8192  # a letter of Hiragana or Katakana

CLASSES_TYPE: Final = "Array(uint16, 1, 'C', readonly=True)"
BYTES_TYPE: Final = "Array(uint8, 1, 'C', readonly=True)"

# Blocks of Han, Hiragana, Thai, Lao, Myanmar and Khmer (Unicode Blocks.txt). Katakana is not here, for a run
# of it is mostly one word, nor is Hangul, for Korean puts spaces.
UNSPACED_BLOCKS: Final = (
    "E00-EFF 1000-109F 1780-17FF 2E80-2FDF 3005-3007 3021-3029 3038-303B 3041-309F 3400-4DBF 4E00-9FFF "
    "A9E0-A9FF AA60-AA7F F900-FAFF 1B000-1B0FF 20000-3FFFF"
)

# Blocks of Hiragana and Katakana.
KANA_BLOCKS: Final = "3041-30FF 31F0-31FF FF66-FF9F 1AFF0-1AFFF 1B000-1B16F"

# Unicode PropList.txt, property Sentence_Terminal.
SENTENCE_TERMINALS: Final = (
    "21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736 "
    "17D4-17D5 1803 1809 1944-1945 1AA8-1AAB 1B4E-1B4F 1B5A-1B5B 1B5E-1B5F 1B7D-1B7F 1C3B-1C3C 1C7E-1C7F "
    "2024 203C-203D 2047-2049 2CF9-2CFB 2E2E 2E3C 2E53-2E54 2E60-2E61 3002 A4FF A60E-A60F A6F3 A6F7 "
    "A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE12 FE15-FE16 FE52 FE56-FE57 FF01 FF0E "
    "FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD "
    "111DE-111DF 11238-11239 1123B-1123C 112A9 113D4-113D5 1144B-1144C 115C2-115C3 115C9-115D7 "
    "11641-11642 1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 "
    "16A6E-16A6F 16AF5 16B37-16B38 16B44 16D6E-16D6F 16E98 1BC9F 1DA88"
)

CLOSING_QUOTES: Final = "\"'”’»」』"

# Planes with no assigned character but those of private use are left out, for they are in no class.
_ASSIGNED: Final = "0-3FFFF E0000-E0FFF"


def _code_points(ranges: str) -> Iterable[int]:
    for item in ranges.split():
        first, _, last = item.partition("-")
        yield from range(int(first, 16), int(last or first, 16) + 1)


def _category_classes() -> dict[str, int]:
    """The bits that follow from the two letters of a general category."""
    first = {"L": LETTER | WORD, "M": MARK | WORD, "N": WORD, "P": PUNCTUATION}
    second = {"Lu": UPPER, "Lt": UPPER, "Ll": LOWER, "Nd": DIGIT, "Pe": CLOSING, "Pf": CLOSING}
    names = [a + b for a in "LMNPSZC" for b in "ultmoncdespifk"]
    return {name: first.get(name[0], 0) | second.get(name, 0) for name in names}


@functools.cache
def character_classes() -> npt.NDArray[np.uint16]:
    """The class of each code point: uint16[0x110000], read-only, made on first use."""
    table = np.zeros(0x110000, np.uint16)
    of_category = _category_classes()
    for plane in _ASSIGNED.split():
        points = list(_code_points(plane))
        characters = [chr(point) for point in points]
        classes = map(of_category.__getitem__, map(unicodedata.category, characters))
        table[points[0] : points[-1] + 1] = np.fromiter(classes, np.uint16, len(points))
        spaces = np.fromiter(map(str.isspace, characters), np.bool_, len(points))
        table[points[0] : points[-1] + 1][spaces] |= SPACE
    table[ord("_")] |= WORD
    unspaced = np.fromiter(_code_points(UNSPACED_BLOCKS), np.int64)
    table[unspaced[(table[unspaced] & LETTER) != 0]] |= UNSPACED
    kana = np.fromiter(_code_points(KANA_BLOCKS), np.int64)
    table[kana[(table[kana] & LETTER) != 0]] |= KANA
    table[np.fromiter(_code_points(SENTENCE_TERMINALS), np.int64)] |= TERMINAL
    table[[ord(character) for character in CLOSING_QUOTES]] |= QUOTE | CLOSING
    table[[ord("\n"), ord("\r")]] |= LINE_END
    table.flags.writeable = False
    return table


@kernel(f"UniTuple(int64, 2)({BYTES_TYPE}, int64, int64)", forceinline=True)
def decode(data: npt.NDArray[np.uint8], at: int, stop: int) -> Any:
    """The code point that begins at byte `at`, and where the next one begins.

    A byte that begins no sequence, or whose sequence does not end before `stop`, is U+FFFD of one byte: Arrow
    does not check the text that it carries.
    """
    lead = np.int64(data[at])
    if lead < 0x80:
        return lead, at + 1
    if lead < 0xC0 or lead >= 0xF8:
        return 0xFFFD, at + 1
    size = 2 + (lead >= 0xE0) + (lead >= 0xF0)
    if at + size > stop:
        return 0xFFFD, at + 1
    point = lead & (0x7F >> size)
    for k in range(1, size):
        point = point << 6 | (np.int64(data[at + k]) & 0x3F)
    if point > 0x10FFFF:
        return 0xFFFD, at + 1
    return point, at + size
