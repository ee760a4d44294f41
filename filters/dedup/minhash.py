"""MinHash: from text to signatures and to the keys of bands, by which near copies meet.

Broder, On the resemblance and containment of documents, 1997; bands as in Leskovec, Rajaraman, Ullman, Mining
of Massive Datasets, section 3.4. Signatures equal those of datasketch 2 for the same shingles and the same
hash of a shingle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..kernels import kernel
from ..text.buffers import text_buffers
from ..text.characters import BYTES_TYPE, CLASSES_TYPE, SPACE, character_classes, decode
from ..text.words import WORD_KINDS, WORDS_VERSION, WordKind, Words, split_words
from .clusters import mix
from .exact import row_slices
from .permutations import minima, optimal_bands, permutations

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Uint64s = npt.NDArray[np.uint64]
Uint32s = npt.NDArray[np.uint32]
Int64s = npt.NDArray[np.int64]

VERSION: Final = 1  # changes whenever the signature or the band keys of some text do

_PIECE = 1 << 19  # bytes of text that are shingled at once: what is made of them stays in the cache


@dataclass(frozen=True)
class MinHashScheme:
    """How text becomes band keys: all that two runs must have in common for their keys to be comparable.

    A shingle is `ngram` consecutive units: words of kind `words` (see `split_words`), or characters (Unicode
    code points, white space among them). A shorter document is one shingle of all its units, so that equal
    short documents meet and others do not. One without a word (with characters: without any that is not white
    space) has no shingle and is a duplicate of nothing.

    `hash` makes 32 bits of a shingle: `thresher` combines the 64-bit hashes of its units; `datasketch` takes
    the first four bytes, little-endian, of the SHA-1 of its UTF-8, words joined by one space, as datasketch
    does by default, and is some forty times slower. `lowercase` lowers the text first, character by
    character. `seed` chooses the permutations. Raises ValueError for values out of range.
    """

    bands: int
    rows: int
    ngram: int = 5
    unit: Literal["words", "characters"] = "words"
    words: WordKind = "unicode"
    hash: Literal["thresher", "datasketch"] = "thresher"
    lowercase: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("bands", "rows", "ngram"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name, choices in (
            ("unit", ("words", "characters")),
            ("words", WORD_KINDS),
            ("hash", ("thresher", "datasketch")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be {' or '.join(choices)}, not {getattr(self, name)!r}")
        if not 0 <= self.seed < 1 << 32:
            raise ValueError(f"seed must be at least 0 and below 2**32, not {self.seed}")

    @classmethod
    def for_threshold(
        cls,
        threshold: float,
        num_perm: int = 112,
        *,
        ngram: int = 5,
        unit: Literal["words", "characters"] = "words",
        words: WordKind = "unicode",
        hash: Literal["thresher", "datasketch"] = "thresher",
        lowercase: bool = False,
        seed: int = 1,
    ) -> MinHashScheme:
        """The scheme whose bands and rows suit a Jaccard similarity of `threshold`: see `optimal_bands`."""
        bands, rows = optimal_bands(threshold, num_perm)
        return cls(bands, rows, ngram, unit, words, hash, lowercase, seed)

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that identify the scheme and the versions of what computes it."""
        made_of = {**asdict(self), "version": VERSION, "words_version": WORDS_VERSION}
        if self.unit == "characters":
            del made_of["words"], made_of["words_version"]
        elif self.words == "segmented":
            from ..text.segmentation import segmentation_version

            made_of["segmentation"] = segmentation_version()
        described = " ".join(f"{name}={value}" for name, value in sorted(made_of.items()))
        return hashlib.sha256(described.encode()).hexdigest()[:32]


def signatures(text: pa.Array, scheme: MinHashScheme, words: Words | None = None) -> Uint32s:
    """The MinHash signature of each text: uint32, shape (n, bands * rows).

    Row i equals `datasketch.MinHash(bands * rows, seed, hashfunc=...).hashvalues` after `update_batch` of the
    shingles of text i; 0xFFFFFFFF everywhere for null and for a text without a shingle. `text` is string or
    large_string. `words` are the words of `text` where they have been split already, of the kind that the
    scheme names. Raises TypeError for another type of text, ValueError for words that cannot serve.
    """
    made = np.empty((len(text), scheme.bands * scheme.rows), np.uint32)
    multipliers, offsets = permutations(scheme.bands * scheme.rows, scheme.seed)
    for rows, first, hashes in _pieces(text, scheme, words):
        minima(first, hashes, multipliers, offsets, made[rows])
    return made


def band_keys(text: pa.Array, scheme: MinHashScheme, words: Words | None = None) -> pa.FixedSizeListArray:
    """The keys of each text, one per band: fixed_size_list<uint64>[bands]; null where there is no shingle.

    Two texts share the key of a band if their signatures agree in all its rows; that two other keys, of
    whatever bands, are equal has probability 2**-64. Keys are spread evenly over 64 bits. `text` and `words`
    are those of `signatures`.
    """
    keys = np.empty((len(text), scheme.bands), np.uint64)
    null = np.ones(len(text), np.bool_)
    multipliers, offsets = permutations(scheme.bands * scheme.rows, scheme.seed)
    for rows, first, hashes in _pieces(text, scheme, words):
        made = np.empty((rows.stop - rows.start, scheme.bands * scheme.rows), np.uint32)
        minima(first, hashes, multipliers, offsets, made)
        _keys(made, scheme.rows, keys[rows])
        null[rows] = first[1:] == first[:-1]
    return pa.FixedSizeListArray.from_arrays(pa.array(keys.reshape(-1)), scheme.bands, mask=pa.array(null))


def shingle_hashes(text: pa.Array, scheme: MinHashScheme) -> tuple[Int64s, Uint32s]:
    """The hashes of the shingles of each text: (first, hashes), int64 of shape (n + 1,) and uint32.

    Text i has hashes[first[i]:first[i + 1]], in the order of the text, repeated ones as often as they occur.
    """
    made = [(first, hashes) for _, first, hashes in _pieces(text, scheme)]
    counts = [np.diff(first) for first, _ in made]
    total = np.concatenate([np.zeros(1, np.int64), *counts]).cumsum()
    return total, np.concatenate([np.empty(0, np.uint32), *(hashes for _, hashes in made)])


def _pieces(
    text: pa.Array, scheme: MinHashScheme, words: Words | None = None
) -> Iterator[tuple[slice, Int64s, Uint32s]]:
    """Slices of the rows, each with the offsets and the hashes of its shingles."""
    if words is not None:
        if scheme.unit != "words" or scheme.lowercase or len(words.first) != len(text) + 1:
            raise ValueError("words given to MinHash must be those of the same text, as it is written")
        yield slice(0, len(text)), *_shingles(words, scheme)
        return
    for rows in row_slices(text_buffers(text).offsets, _PIECE):
        some = text.slice(rows.start, rows.stop - rows.start)
        if scheme.lowercase:
            some = pc.utf8_lower(some.cast(pa.string()) if pa.types.is_null(some.type) else some)
        units = _characters(some) if scheme.unit == "characters" else split_words(some, scheme.words)
        yield rows, *_shingles(units, scheme)


def _shingles(units: Words, scheme: MinHashScheme) -> tuple[Int64s, Uint32s]:
    counts = np.diff(units.first)
    counts = np.where(counts > 0, np.maximum(counts - scheme.ngram + 1, 1), 0)
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    if scheme.hash == "datasketch":
        return first, _sha1_hashes(units, first, scheme)
    hashes = np.empty(first[-1], np.uint32)
    _combine_hashes(units.first, units.hash, scheme.ngram, first, hashes)
    return first, hashes


def _sha1_hashes(units: Words, first: Int64s, scheme: MinHashScheme) -> Uint32s:
    view, start, stop = units.data.data, units.start.tolist(), units.stop.tolist()
    digests = []
    for document, (begin, end) in enumerate(pairwise(units.first.tolist())):
        for unit in range(begin, begin + int(first[document + 1] - first[document])):
            last = min(unit + scheme.ngram, end)
            if scheme.unit == "characters":
                shingle = bytes(view[start[unit] : stop[last - 1]])
            else:
                shingle = b" ".join([view[start[word] : stop[word]] for word in range(unit, last)])
            digests.append(hashlib.sha1(shingle, usedforsecurity=False).digest()[:4])
    return np.frombuffer(b"".join(digests), "<u4").astype(np.uint32)


def _characters(text: pa.Array) -> Words:
    """The characters of each text in place of its words; none for a text of white space."""
    buffers = text_buffers(text)
    room = int(buffers.offsets[-1] - buffers.offsets[0])
    start, stop, hashes = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.uint64)
    first = np.empty(len(buffers) + 1, np.int64)
    valid = np.array(buffers.valid)
    _find_characters(buffers.data, buffers.offsets, valid, character_classes(), first, start, stop, hashes)
    found = int(first[-1])
    return Words(first, start[:found], stop[:found], hashes[:found], buffers.data)


@kernel(
    f"void({BYTES_TYPE}, int64[::1], boolean[::1], {CLASSES_TYPE}, int64[::1], int64[::1], int64[::1],"
    " uint64[::1])"
)
def _find_characters(
    data: Bytes,
    offsets: Int64s,
    valid: Bools,
    classes: npt.NDArray[np.uint16],
    first: Int64s,
    start: Int64s,
    stop: Int64s,
    hashes: Uint64s,
) -> None:
    count = first[0] = 0
    for document in range(len(valid)):
        blank = True
        at, end = offsets[document], offsets[document + 1]
        while valid[document] and at < end:
            point, after = decode(data, at, end)
            blank &= (classes[point] & SPACE) != 0
            start[count], stop[count], hashes[count] = at, after, mix(np.uint64(point))
            count += 1
            at = after
        if blank:
            count = first[document]
        first[document + 1] = count


@kernel("void(int64[::1], uint64[::1], int64, int64[::1], uint32[::1])")
def _combine_hashes(unit_first: Int64s, units: Uint64s, ngram: int, first: Int64s, hashes: Uint32s) -> None:
    """The 32-bit hash of each shingle of units u_1 ... u_n, from s = sum of u_i * BASE**(n - i) mod 2**64."""
    base = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio; any odd number of many bits would do
    leaving = np.uint64(1)
    for _ in range(ngram):
        leaving *= base
    for document in range(len(first) - 1):
        begin, count = unit_first[document], first[document + 1] - first[document]
        total = np.uint64(0)
        for unit in range(begin, min(begin + ngram - 1, unit_first[document + 1])):
            total = np.uint64(total * base + units[unit])
        whole = unit_first[document + 1] - begin >= ngram
        for shingle in range(count):
            if whole:
                total = np.uint64(total * base + units[begin + shingle + ngram - 1])
            if shingle > 0:
                total = np.uint64(total - units[begin + shingle - 1] * leaving)
            # The low bits of the sum know only the low bits of the units: fold, then take the high ones.
            folded = np.uint64((total ^ (total >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93))
            hashes[first[document] + shingle] = np.uint32(folded >> np.uint64(32))


@kernel("void(uint32[:, ::1], int64, uint64[:, ::1])")
def _keys(signatures: Uint32s, rows: int, keys: Uint64s) -> None:
    """The key of each band: its number and its values, absorbed one after the other."""
    for document in range(len(keys)):
        for band in range(keys.shape[1]):
            key = mix(np.uint64(band + 1))
            for row in range(band * rows, band * rows + rows):
                key = np.uint64((key ^ signatures[document, row]) * np.uint64(0x9FB21C651E98DF25))
                key = np.uint64(key ^ (key >> np.uint64(32)))
            keys[document, band] = mix(key)
