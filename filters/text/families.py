"""The families of text signals: what computes each of them for a batch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..signal_options import SignalOptions
from ..signal_spec import Columns, Compute, Family, Requests, SignalSpec
from . import counters as c
from .buffers import text_buffers
from .signal_specs import ENTROPY

if TYPE_CHECKING:
    from .words import WordKind


def _measure(columns: Columns, requests: Requests, options: SignalOptions) -> dict[str, pa.Array]:
    from .characters import character_classes
    from .measure import kind_of_words, measure
    from .sentences import interest_table, phrase_table
    from .vocabulary import letter_cases
    from .words import cuts_of

    text = columns["text"]
    if options.normalize == "redpajama":
        from .redpajama_text import normalize

        text = normalize(text)
    buffers = text_buffers(text)
    wanted = 0
    for _, spec in requests:
        wanted |= spec.needs
    counters = np.zeros((len(buffers), c.COUNTERS), np.int64)
    entropies = np.zeros(len(buffers), np.float64)
    cuts = cuts_of(buffers, cast("WordKind", options.words))
    lists, of_document, known = _stop_lists(columns, options, len(buffers))
    measure(
        buffers.data,
        buffers.offsets,
        buffers.valid,
        character_classes(),
        letter_cases() if wanted & c.WORD_CASES else _NO_CASES,
        interest_table(),
        phrase_table(),
        wanted,
        kind_of_words(options.words),
        cuts.first,
        cuts.at,
        options.ngrams == "redpajama",
        lists,
        of_document,
        np.array(sorted(set(map(ord, options.bullets))), np.uint32),
        options.short_line,
        options.c4_min_line_words,
        options.c4_max_word_length,
        counters,
        entropies,
    )
    found = {}
    for name, spec in requests:
        valid = buffers.valid & known if "stop_words" in spec.options else buffers.valid
        values = entropies if spec.of == ENTROPY else _values(counters, spec)
        found[name] = pa.array(values, spec.type, mask=None if valid.all() else ~valid)
    return found


def _values(counters: npt.NDArray[np.int64], spec: SignalSpec) -> npt.NDArray[Any]:
    of = counters[:, spec.of]
    if spec.per is None:
        return np.ascontiguousarray(of)
    return of / np.maximum(counters[:, spec.per], 1)


def _stop_lists(
    columns: Columns, options: SignalOptions, rows: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Tables of stop words in a row; where each record's begins and ends; which records have one."""
    from .vocabulary import stop_table

    if not isinstance(options.stop_words, str):
        table = stop_table(options.stop_words)
        return table, np.full((rows, 2), (0, len(table)), np.int64), np.ones(rows, np.bool_)
    from .stop_words import stop_words_for

    languages = columns["lang"].dictionary_encode()
    lists = [stop_words_for(language) for language in languages.dictionary.to_pylist()]
    tables = [stop_table(tuple(words or ())) for words in (*lists, ())]
    ends = np.cumsum([len(table) for table in tables])
    places = np.array([(end - len(table), end) for table, end in zip(tables, ends, strict=True)], np.int64)
    index = languages.indices.fill_null(len(lists)).to_numpy(zero_copy_only=False)
    known = np.array([bool(words) for words in (*lists, ())], np.bool_)
    return np.concatenate(tables), places[index], known[index]


def _lines(columns: Columns, requests: Requests, options: SignalOptions) -> dict[str, pa.Array]:
    from .line_values import measure_lines

    return measure_lines(columns["text"], requests, options)


def _code(columns: Columns, requests: Requests, options: SignalOptions) -> dict[str, pa.Array]:
    from .source_code import measure_code

    return measure_code(columns["text"], requests, options)


def _url(columns: Columns, requests: Requests, options: SignalOptions) -> dict[str, pa.Array]:
    from .url_signals import measure_urls

    return measure_urls(columns["url"], requests)


def _count_pii(columns: Columns, requests: Requests, options: SignalOptions) -> dict[str, pa.Array]:
    from .pii.find import PII_KINDS, count_pii

    # A span counts for the first of the kinds that are looked for: a number must not depend on what else is.
    counts = count_pii(columns["text"], PII_KINDS)
    return {name: counts[spec.name] for name, spec in requests}


_NO_CASES: Final = np.zeros(1, np.uint8)
_NO_CASES.flags.writeable = False
TEXT_FAMILIES: Final[Mapping[Family, Compute]] = MappingProxyType(
    {"measure": _measure, "lines": _lines, "code": _code, "url": _url, "pii": _count_pii}
)
