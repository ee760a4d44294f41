"""Stop words of 42 languages, and how many of its language's a text has.

Each list is in the spirit of Gopher's eight English words (Rae et al. 2021, arXiv:2112.11446, section A.1.1:
the, be, to, of, and, that, have, with): words so common that running text has several, while a list of names
or keywords has none. English is Gopher's list. For the others we took, from the frequent words of each
language's Wikipedia as FineWeb2's configurations record them (Penedo et al. 2025, arXiv:2506.20920; configs/
of github.com/huggingface/fineweb-2), those that are function words: articles, particles, conjunctions,
prepositions, pronouns, auxiliaries. Years, months, names and punctuation, which are frequent there too, are
left out, and so are elided articles (l', d'), which our words do not keep whole. Where few were left, or an
obvious one was missing, we added ours. The Korean list is ours altogether, for FineWeb2's is of morphemes.
The choice is by hand; no list was fitted to a downstream result.

FineWeb2 also derives each language's thresholds from data; a job gives such numbers as parameters of its
rules.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..kernels import kernel
from .hashing import hash_bytes
from .words import WordKind, split_words

STOP_WORDS_VERSION: Final = 1  # changes whenever a list or the counts of some text do
MOST_WORDS: Final = 64  # of one list: the counting keeps a bit for each

_LISTS: Final = {
    "ar": "في من على إلى أن مع أو هو عن التي كان بين ما كانت هي بعد لا هذا",
    "bg": "на и в е от за се с през да по не че са",
    # The third is the second with its last letter as one code point, as keyboards write it.
    "bn": "এবং \u09b9\u09af\u09bc \u09b9\u09df ও করে একটি তিনি করা থেকে এই না",
    "ca": "de el la a i en que va els per un les una amb es no del",
    "cs": "v a se na je z s do že to si o",
    "da": "i og af en til er den at som på for med det blev var der fra de han et ikke",
    "de": "der und die in von im den des mit das er dem als wurde für ist nicht zu ein eine auf",
    "el": "του και το της η την από ο με τον να που των στην για στο σε είναι τη τα οι",
    "en": "the be to of and that have with",
    "es": "de la en el y a que del los se por un con una las su no es para",
    "et": "ja on oli ta ka ning et mis kui ei või see oma tema",
    "fa": "در و به از که است این را با یک آن برای",
    "fi": "ja on oli hän myös joka se ei sen ovat sekä mutta että tai kanssa hänen jälkeen kun niin",
    "fr": "de la le et à en des du les est un une il dans par au que qui pour pas ne",
    "he": "של את על הוא עם גם היה היא לאחר לא בין או כי זה",
    "hi": "के में है की और से का को एक हैं पर यह नहीं ने",
    "hr": "je u i se na su za od s a da",
    "hu": "a az és is egy volt hogy nem meg de el között csak ha",
    "id": "dan yang di pada dari ini dengan adalah untuk dalam itu tidak",
    "it": "di e il la in a del che è della un per nel con da i una non si le",
    "ja": "の に を は た て が と で し れ さ も な",
    "ko": "이 그 및 등 수 것 더 또는 그리고 하지만 있는 있다 한 대한 위해",
    "lt": "ir buvo į nuo iš su yra iki kaip kad apie po ne bet",
    "lv": "un ir no ar par bija arī kas uz ka",
    "nl": "de van in het een en is op voor met door zijn werd hij uit dat niet te",
    "no": "i og av som en er til på for ble med den det var han de å fra ikke at",
    "pl": "w i na z do się od a jest przez po jako oraz o był nie że to",
    "pt": "de a e o em do da que um no uma com para na é foi os não se",
    "ro": "de în a și şi din la o cu este un pe fost care al nu să",
    "ru": "в и на с по из был к не от что за для его как а он также до после это",
    "sk": "v a na sa je z s do že to o",
    "sl": "je v in na so se ki za z da pa s",
    "sr_Cyrl": "у је и на се од су да за из са не што",
    "sr_Latn": "u je i na se od su da za iz sa ne što",
    "sv": "i och är av en som den med på till att för det inte de",
    "sw": "ya na wa katika kwa ni la za cha kuwa",
    "ta": "மற்றும் ஒரு இந்த இது என்ற இவர் உள்ள ஆகும் அல்லது என்று மேலும் பல",
    "th": "ใน ที่ และ ของ เป็น มี การ ได้ ไม่ ให้ จะ กับ",
    "tr": "ve bir olarak bu ile için olan da de tarafından sonra en daha çok gibi",
    "uk": "у в на і з та до за що не це як",
    "ur": "کے میں کی اور ہے سے کا نے اس پر کو ایک یہ ہیں",
    "vi": "là và của một được trong các có này đã cho không với",
    "zh": "的 在 是 和 了 于 於 为 為 有 被 他 与 與 也 而 由 不",
}

# Lower case, by ISO 639-1 code (`no`: Norwegian Bokmål); Serbian, which is written in two scripts, also by
# either of them. Composed characters (NFC), but for one Bengali form.
STOP_WORDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {language: tuple(words.split()) for language, words in _LISTS.items()}
    | {"sr": tuple(f"{_LISTS['sr_Cyrl']} {_LISTS['sr_Latn']}".split())}
)

# Scripts (ISO 15924) of the lists that are not Latin.
_SCRIPTS: Final = {
    "ar": "Arab",
    "bg": "Cyrl",
    "bn": "Beng",
    "el": "Grek",
    "fa": "Arab",
    "he": "Hebr",
    "hi": "Deva",
    "ja": "Jpan Hira Kana Hani",
    "ko": "Hang Kore",
    "ru": "Cyrl",
    "ta": "Taml",
    "th": "Thai",
    "uk": "Cyrl",
    "ur": "Arab",
    "zh": "Hani Hans Hant",
}

# ISO 639-3 codes of these languages, those of macrolanguages and of their members that models name, and `nb`.
_CODES: Final = {
    code: language
    for language, codes in {
        "ar": "ara arb",
        "bg": "bul",
        "bn": "ben",
        "ca": "cat",
        "cs": "ces",
        "da": "dan",
        "de": "deu",
        "el": "ell",
        "en": "eng",
        "es": "spa",
        "et": "est ekk",
        "fa": "fas pes prs",
        "fi": "fin",
        "fr": "fra",
        "he": "heb",
        "hi": "hin",
        "hr": "hrv",
        "hu": "hun",
        "id": "ind",
        "it": "ita",
        "ja": "jpn",
        "ko": "kor",
        "lt": "lit",
        "lv": "lav lvs",
        "nl": "nld",
        "no": "nor nob nb",
        "pl": "pol",
        "pt": "por",
        "ro": "ron",
        "ru": "rus",
        "sk": "slk",
        "sl": "slv",
        "sr": "srp",
        "sv": "swe",
        "sw": "swa swh",
        "ta": "tam",
        "th": "tha",
        "tr": "tur",
        "uk": "ukr",
        "ur": "urd",
        "vi": "vie",
        "zh": "zho cmn",
    }.items()
    for code in codes.split()
}


def stop_words_for(language: str) -> tuple[str, ...]:
    """The stop words of a language, in lower case; none where there is no list.

    `language` is an ISO 639-1 or 639-3 code, alone or with a script, as language models write it: de, deu,
    deu_Latn, zh-Hans. A language in a script that the list is not written in (hi_Latn) has none.
    """
    code, _, script = language.replace("-", "_").partition("_")
    code = _CODES.get(code, code)
    if f"{code}_{script}" in STOP_WORDS:
        return STOP_WORDS[f"{code}_{script}"]
    if script and script not in _SCRIPTS.get(code, "Latn").split():
        return ()
    return STOP_WORDS.get(code, ())


@dataclass(frozen=True)
class StopWordCounts:
    """Of each text: int64, null where the text or its language is null, or the language has no list."""

    distinct: pa.Array  # different stop words among the words
    occurrences: pa.Array  # words that are stop words
    words: pa.Array


@dataclass(frozen=True)
class StopWordTables:
    """The hashes of lists of stop words, for kernels.

    keys[row] is a hash table without chains, 0 where empty; number[row] tells which word a slot holds.
    """

    keys: npt.NDArray[np.uint64]  # [lists, slots], slots a power of two
    number: npt.NDArray[np.int8]  # [lists, slots]
    rows: npt.NDArray[np.int64]  # [documents]: whose list; -1 for none


def count_stop_words(
    text: pa.Array,
    lang: pa.Array,
    words: WordKind = "unicode",
    lists: Mapping[str, Collection[str]] | None = None,
) -> pa.Array:
    """How many different stop words of its own language each text has: see `stop_word_counts`."""
    return stop_word_counts(text, lang, words, lists).distinct


def stop_word_counts(
    text: pa.Array,
    lang: pa.Array,
    words: WordKind = "unicode",
    lists: Mapping[str, Collection[str]] | None = None,
) -> StopWordCounts:
    """Counts the stop words of each text in the list of its language.

    `text` and `lang` are string arrays of one length; `lists` replaces the lists of the languages it names,
    as they are written in `lang`. A stop word is found in lower case, capitalised and in capitals. Thai words
    exist only with words of kind `segmented`. Raises ValueError for arrays of different lengths and for a
    list of more than 64 words; otherwise as `split_words`.
    """
    if len(text) != len(lang):
        raise ValueError(f"{len(text)} texts, but {len(lang)} languages")
    found = split_words(text, words)
    tables = stop_word_tables(lang, lists)
    counts = np.zeros((2, len(text)), np.int64)
    _count(found.first, found.hash, tables.keys, tables.number, tables.rows, counts)
    null = (tables.rows < 0) | text.is_null().to_numpy(zero_copy_only=False)
    columns = (counts[0], counts[1], np.diff(found.first))
    return StopWordCounts(*(pa.array(column, pa.int64(), mask=null) for column in columns))


def stop_word_tables(lang: pa.Array, lists: Mapping[str, Collection[str]] | None = None) -> StopWordTables:
    """The lists that the languages of a batch need, and which one each document has.

    Raises ValueError for a list of more than 64 words.
    """
    encoded = lang.cast(pa.string()).dictionary_encode()
    rows_of: list[int] = []
    forms: list[dict[str, int]] = []
    for language in encoded.dictionary.to_pylist():
        chosen = tuple((lists or {}).get(language, ())) or stop_words_for(language)
        if len(set(chosen)) > MOST_WORDS:
            raise ValueError(f"stop words of {language}: {len(set(chosen))}; at most {MOST_WORDS}")
        rows_of.append(len(forms) if chosen else -1)
        if chosen:
            forms.append(_written_forms(chosen, language))
    slots = 16
    while slots < 4 * max(map(len, forms), default=0):
        slots *= 2
    keys = np.zeros((len(forms), slots), np.uint64)
    number = np.zeros((len(forms), slots), np.int8)
    for row, numbers in enumerate(forms):
        for form, n in numbers.items():
            encoded_form = np.frombuffer(form.encode(), np.uint8)
            key = int(hash_bytes(encoded_form, 0, len(encoded_form)))
            slot = key % slots
            while keys[row, slot]:
                slot = (slot + 1) % slots
            keys[row, slot], number[row, slot] = key, n
    places = encoded.indices.fill_null(len(rows_of)).to_numpy(zero_copy_only=False)
    return StopWordTables(keys, number, np.array([*rows_of, -1], np.int64)[places])


def _written_forms(words: Collection[str], language: str) -> dict[str, int]:
    """The forms of each word by the word's number, each form once."""
    forms: dict[str, int] = {}
    for n, word in enumerate(dict.fromkeys(words)):
        plain = word.replace("i", "İ") if language.startswith("tr") else word
        for form in (word, plain[0].upper() + word[1:], plain.upper()):
            forms.setdefault(form, n)
    return forms


@kernel("UniTuple(int64, 2)(uint64[::1], int64, int64, uint64[:, ::1], int8[:, ::1], int64)")
def find_stop_words(hashes: Any, begin: int, end: int, keys: Any, number: Any, row: int) -> Any:
    """Different stop words, and words that are one, of the list `row` among hashes[begin:end]."""
    mask = np.uint64(keys.shape[1] - 1)
    seen = np.uint64(0)
    occurrences = 0
    for word in range(begin, end):
        key = hashes[word]
        slot = key & mask
        while keys[row, slot] != 0:
            if keys[row, slot] == key:
                occurrences += 1
                seen |= np.uint64(1) << np.uint64(number[row, slot])
                break
            slot = (slot + np.uint64(1)) & mask
    distinct = 0
    while seen:
        distinct += 1
        seen &= seen - np.uint64(1)
    return distinct, occurrences


@kernel("void(int64[::1], uint64[::1], uint64[:, ::1], int8[:, ::1], int64[::1], int64[:, ::1])")
def _count(first: Any, hashes: Any, keys: Any, number: Any, rows: Any, counts: Any) -> None:
    for document in range(len(rows)):
        if rows[document] >= 0:
            counts[0, document], counts[1, document] = find_stop_words(
                hashes, first[document], first[document + 1], keys, number, rows[document]
            )
