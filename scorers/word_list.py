"""Scores from lists of words that the job names: C4's and RedPajama's bad words, RefinedWeb's URL score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, get_args
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..schemas.contracts import AssetError, Assets, Scorer

if TYPE_CHECKING:
    from ..filters.text.word_lists import WordList

Unit = Literal["count", "fraction", "distinct"]

_TYPES: Final[dict[str, pa.DataType]] = {
    "count": pa.int64(),
    "fraction": pa.float32(),
    "distinct": pa.int64(),
}


class WordListScorer(Scorer):
    """How much of a text, or of its URL, is on a list of words and phrases, one per line of the file `path`.

    `unit` is `count` (occurrences), `distinct` (different entries that occur) or `fraction` (the share of the
    words, of kind `unicode`, that are in occurrences; 0 where there is no word). What an occurrence is says
    filters/text/word_lists.py. With `whole_words: false` entries occur also inside words. `on: url` reads the
    URL after percent-decoding, where "_" separates words. Null for null.

    C4 drops a page with a bad word (Raffel et al. 2020, section 2.2): `rule: "bad_words == 0"`. There a digit
    ends a word and a word at either end of a line is overlooked (tensorflow_datasets, text/c4_utils.py).
    RedPajama-V2's `rps_doc_ldnoobw_words` is `count`, but that phrases inside longer ones count there too.
    Raises AssetError for a file that is not such a list, the line in its message.
    """

    version: ClassVar[int] = 1
    inputs = ("text",)
    kernels = ("thresher.filters.text.word_lists",)

    def __init__(
        self,
        path: str,
        on: Literal["text", "url"] = "text",
        unit: Unit = "count",
        lowercase: bool = True,
        whole_words: bool = True,
    ) -> None:
        if on not in ("text", "url"):
            raise ValueError(f"on: {on!r} is not text or url")
        if unit not in _TYPES:
            raise ValueError(f"unit: {unit!r} is not one of {', '.join(get_args(Unit))}")
        self.assets = (path,)
        self.inputs = (on,)
        self._column, self._unit = on, unit
        self._lowercase, self._whole_words = lowercase, whole_words
        self._list: WordList | None = None

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        """One column, named for the unit."""
        return {self._unit: _TYPES[self._unit]}

    def open(self, assets: Assets) -> None:
        """Reads the list."""
        from ..filters.text.word_lists import WordList, distinct, read_word_list

        entries = read_word_list(assets.locate(self.assets[0]))
        self._list = WordList(
            distinct(entries, self._lowercase),
            lowercase=self._lowercase,
            whole_words=self._whole_words,
            underscore=self._column == "text",
        )

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Looks for the entries in each row."""
        from ..filters.text.word_lists import COUNT, COVERED, DISTINCT, WORDS

        assert self._list is not None, "score before open"
        text = batch.column(self._column)
        found = self._list.find(_decoded(text) if self._column == "url" else text)
        values: Any
        if self._unit == "fraction":
            values = found.counts[:, COVERED] / np.maximum(found.counts[:, WORDS], 1)
        else:
            values = found.counts[:, COUNT if self._unit == "count" else DISTINCT]
        return {self._unit: pa.array(values, mask=~found.valid).cast(_TYPES[self._unit])}


class UrlWordsScorer(Scorer):
    """The sum of the weights of listed words in a URL (Penedo et al. 2023, arXiv:2306.01116, appendix G.1).

    The file `path` has `word<TAB>weight` on each line. Words are compared in lower case after
    percent-decoding and count each time they occur; "_" separates words; `whole_words: false` finds them also
    inside words, as the paper's strictest list is meant. The paper's own lists and weights are not published.
    Null for null.
    Raises AssetError for a file that is not such a list, the line in its message.
    """

    version: ClassVar[int] = 1
    inputs = ("url",)
    kernels = ("thresher.filters.text.word_lists",)

    def __init__(self, path: str, whole_words: bool = True) -> None:
        self.assets = (path,)
        self._whole_words = whole_words
        self._list: WordList | None = None

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        """`score`: 0 where no listed word occurs."""
        return {"score": pa.float32()}

    def open(self, assets: Assets) -> None:
        """Reads the list."""
        from ..filters.text.word_lists import WordList, distinct, read_weighted_words

        path = assets.locate(self.assets[0])
        words, weights = read_weighted_words(path)
        if len(distinct(words, lowercase=True)) < len(words):
            raise AssetError(f"{path}: the same word in upper and lower case")
        self._list = WordList(words, weights, whole_words=self._whole_words, underscore=False)

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Adds up the weights in each row."""
        assert self._list is not None, "score before open"
        found = self._list.find(_decoded(batch.column("url")))
        return {"score": pa.array(found.weights, mask=~found.valid).cast(pa.float32())}


def _decoded(urls: pa.Array) -> pa.Array:
    """URLs without percent-encoding; what is no UTF-8 becomes U+FFFD."""
    if pa.types.is_null(urls.type):
        return urls.cast(pa.string())
    encoded = pc.fill_null(pc.match_substring(urls, "%"), False)
    if not pc.any(encoded).as_py():
        return urls
    plain = [unquote(url) for url in urls.filter(encoded).to_pylist()]
    return pc.replace_with_mask(urls, encoded, pa.array(plain, urls.type))
