"""Words in scripts written without spaces: who divides a run of letters, and where.

A run is a maximal sequence of letters of one script (Han, Hiragana and Katakana count as one) with their
marks, in which at least one letter is of a script without spaces: a name in Katakana alone stays one word.
Each run is divided by itself:

- Han and kana: in a text where at least a tenth of these letters are kana, MeCab with UniDic (fugashi,
  unidic-lite), which gives short units (食べ, まし, た); in any other text as jieba does (chinese.py), whose
  dictionary is of simplified characters, so that traditional ones rely more on its statistics;
- Thai: pythainlp, newmm (the fewest dictionary words, on boundaries of character clusters);
- Lao, Khmer, Myanmar: nothing that we know is both small and sound, so each letter is a word with its marks.

The words of a text follow from that text alone, not from a language that somebody found for it. A run longer
than MAX_RUN characters is divided there before a library sees it, for their time and memory grow faster than
the run. A library that cannot read a run, or does not give all of it back, leaves one letter to a word.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...schemas.contracts import AssetError
from ..kernels import kernel
from .buffers import VALID_TYPE, Cuts, TextBuffers
from .characters import BYTES_TYPE, CLASSES_TYPE, KANA, MARK, UNSPACED, character_classes, decode
from .hashing import load_block

Int64s = npt.NDArray[np.int64]
Segmenter = Callable[[str], Iterable[str]]

SEGMENTATION_VERSION: Final = 1  # changes whenever our part of the cuts of some text does
MAX_RUN: Final = 1000

# Import names and the distributions that bring them.
LIBRARIES: Final = {
    "jieba": "jieba",
    "fugashi": "fugashi",
    "unidic_lite": "unidic-lite",
    "pythainlp": "pythainlp",
}

_CHINESE: Final = 0
_JAPANESE: Final = 1
_THAI: Final = 2
_LETTERS: Final = 3
_NO_RUN: Final = -1

_HIGH_BITS: Final = np.uint64(0x8080808080808080)
_INTS: Final = "int64[::1]"


def require_segmenters() -> None:
    """Raises AssetError, saying what to install, if a library is missing.

    All are asked for at once: a job should not fail at its first Thai page after a day of Chinese ones.
    """
    missing = [name for module, name in LIBRARIES.items() if find_spec(module) is None]
    if missing:
        raise AssetError(
            f"words: segmented needs {', '.join(missing)}; run `pip install 'thresher[languages]'`, or "
            "choose words: unicode"
        )


def segmentation_version() -> str:
    """What the words of kind `segmented` depend on besides the text: for fingerprints and digests."""
    require_segmenters()
    libraries = [f"{name}={version(name)}" for name in LIBRARIES.values()]
    return " ".join([f"segmentation={SEGMENTATION_VERSION}", *libraries])


def find_cuts(buffers: TextBuffers) -> Cuts:
    """Where the words of kind `segmented` begin and end in the runs of each text.

    Raises AssetError if a library is missing.
    """
    require_segmenters()
    start, stop, script = _runs(buffers)
    found = [start, stop]
    if np.any(script == _CHINESE):
        from .chinese import cut_chinese

        chinese = script == _CHINESE
        found.append(cut_chinese(buffers.data, start[chinese], stop[chinese]))
    as_letters = [script == _LETTERS]
    for kind, open_segmenter in ((_JAPANESE, _japanese), (_THAI, _thai)):
        chosen = np.flatnonzero(script == kind)
        if len(chosen):
            cuts, failed = _cut_by(open_segmenter(), buffers.data, start[chosen], stop[chosen])
            found.append(cuts)
            as_letters.append(np.isin(np.arange(len(script)), chosen[failed]))
    letters = np.logical_or.reduce(as_letters)
    found.append(_cut_letters(buffers.data, start[letters], stop[letters]))
    at = np.sort(np.concatenate(found), kind="stable")  # which merges what is in order already
    at = at[np.diff(at, prepend=-1) > 0]
    return Cuts(np.searchsorted(at, buffers.offsets).astype(np.int64), at)


def _runs(buffers: TextBuffers) -> tuple[Int64s, Int64s, npt.NDArray[np.int8]]:
    room = int(np.diff(buffers.offsets)[buffers.valid].sum()) // 3 + 1  # a letter of a run takes three bytes
    start, stop, script = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int8)
    n = _find_runs(buffers.data, buffers.offsets, buffers.valid, character_classes(), start, stop, script)
    return start[:n], stop[:n], script[:n]


def _cut_by(segment: Segmenter, data: Any, start: Int64s, stop: Int64s) -> tuple[Int64s, list[int]]:
    """The byte offsets where words end, and which runs the segmenter could not divide."""
    cuts: list[int] = []
    failed: list[int] = []
    view = memoryview(data)
    for run, (begin, end) in enumerate(zip(start.tolist(), stop.tolist(), strict=True)):
        try:
            text = str(view[begin:end], "utf-8")
        except UnicodeDecodeError:
            failed.append(run)
            continue
        at = begin
        for piece in range(0, len(text), MAX_RUN):
            for word in segment(text[piece : piece + MAX_RUN]):
                at += len(word.encode())
                cuts.append(at)
        if at != end:
            while cuts and cuts[-1] > begin:
                cuts.pop()
            failed.append(run)
    return np.array(cuts, np.int64), failed


@functools.cache
def _japanese() -> Segmenter:
    import fugashi  # type: ignore[import-untyped]
    import unidic_lite  # type: ignore[import-untyped]

    folder = unidic_lite.DICDIR
    tagger = fugashi.GenericTagger(f'-Owakati -d "{folder}" -r "{os.path.join(folder, "mecabrc")}"')
    return lambda run: tagger.parse(run).split(" ")


@functools.cache
def _thai() -> Segmenter:
    # Else pythainlp makes a folder in the user's home when it is imported.
    if not {"PYTHAINLP_READ_ONLY", "PYTHAINLP_READ_MODE"} & os.environ.keys():
        os.environ["PYTHAINLP_READ_ONLY"] = "1"
    from pythainlp.tokenize import newmm

    return lambda run: newmm.segment(run, safe_mode=True)


def _cut_letters(data: Any, start: Int64s, stop: Int64s) -> Int64s:
    cuts = np.empty(int((stop - start).sum()) // 3 + len(start), np.int64)
    n = _find_letters(data, start, stop, character_classes(), cuts)
    return cuts[:n]


@kernel(f"int64({BYTES_TYPE}, {_INTS}, {_INTS}, {CLASSES_TYPE}, {_INTS})")
def _find_letters(data: Any, start: Any, stop: Any, classes: Any, cuts: Any) -> int:
    count = 0
    for run in range(len(start)):
        at: Any = start[run]
        while at < stop[run]:
            point, after = decode(data, at, stop[run])
            if classes[point] & (UNSPACED | KANA):
                cuts[count] = at
                count += 1
            at = after
    return count


@kernel("int8(int64)", forceinline=True)
def _script_of(point: int) -> Any:
    """Which scripts' segmenter a letter of a run needs; Han and kana are told apart by document."""
    if point >= 0x2E80 and (point < 0xA9E0 or point >= 0xF900):
        return np.int8(_CHINESE)
    if 0xE00 <= point < 0xE80:
        return np.int8(_THAI)
    return np.int8(_LETTERS)


@kernel(f"int64({BYTES_TYPE}, {_INTS}, {VALID_TYPE}, {CLASSES_TYPE}, {_INTS}, {_INTS}, int8[::1])")
def _find_runs(data: Any, offsets: Any, valid: Any, classes: Any, start: Any, stop: Any, script: Any) -> int:
    """Writes the runs of all documents, in order; returns how many there are."""
    count = 0
    for document in range(len(valid)):
        if not valid[document]:
            continue
        at, end = offsets[document], offsets[document + 1]
        first, kana, han = count, 0, 0
        begin, now, unspaced = at, np.int8(_NO_RUN), False
        while at < end:
            if now == _NO_RUN and at + 8 <= end and (load_block(data, at) & _HIGH_BITS) == 0:
                at += 8
                continue
            after: Any = at + 1
            point: Any = np.int64(data[at])
            if point >= 0x80:
                point, after = decode(data, at, end)
            kind = classes[point]
            letter = (kind & (UNSPACED | KANA)) != 0
            if not letter and (kind & MARK) != 0 and now != _NO_RUN:
                at = after
                continue
            kind_of_run = _script_of(point) if letter else np.int8(_NO_RUN)
            if kind_of_run != now:
                if now != _NO_RUN and unspaced:
                    start[count], stop[count], script[count] = begin, at, now
                    count += 1
                begin, now, unspaced = at, kind_of_run, False
            unspaced |= (kind & UNSPACED) != 0
            if now == _CHINESE:
                kana += (kind & KANA) != 0
                han += (kind & KANA) == 0
            at = after
        if now != _NO_RUN and unspaced:
            start[count], stop[count], script[count] = begin, end, now
            count += 1
        if 10 * kana >= kana + han:
            for run in range(first, count):
                if script[run] == _CHINESE:
                    script[run] = _JAPANESE
    return count
