"""Text signals: what can be measured of a record without a model, for a whole batch in one call.

Words are those of `split_words`, of the kind that the options choose. A line is a piece between line ends
("\\n", "\\r\\n" or "\\r") that holds more than white space; a paragraph is a run of lines with no blank one
between them. Characters are Unicode code points. A fraction or ratio of nothing is 0. Null text has null
signals; the empty text has zeros.

A signal that is measured with other options than the defaults is a *variant*, and its column's name says so:
`stop_word_count@stop_words=der,die&words=unicode`. Only options that the signal depends on are in the name,
in one order, so that equal choices share a column.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from . import counters as c
from .buffers import text_buffers
from .code import code_signals
from .line_signals import line_signals
from .pii.find import PII_SIGNALS
from .signal_options import BY_LANGUAGE, DEFAULTS, SignalOptions, read_suffix, write_suffix
from .signal_specs import ENTROPY, Family, SignalSpec, measured
from .url_signals import url_signals

if TYPE_CHECKING:
    from .words import WordKind

__all__ = [
    "SIGNALS",
    "SIGNALS_VERSION",
    "SignalOptions",
    "SignalSpec",
    "compute_signals",
    "inputs_of",
    "options_of",
    "parse_variant",
    "variant_name",
    "versions_of",
]

SIGNALS_VERSION: Final = 1  # changes whenever a signal of some text does


def _pii() -> Iterable[SignalSpec]:
    for name, doc in PII_SIGNALS.items():
        yield SignalSpec(name, pa.int64(), "occurrences", doc, "", "pii")


SIGNALS: Final[Mapping[str, SignalSpec]] = MappingProxyType(
    {
        spec.name: spec
        for specs in (measured(), line_signals(), code_signals(), url_signals(), _pii())
        for spec in specs
    }
)

Columns = Mapping[str, pa.Array]
_Request = tuple[str, SignalSpec]  # the name of a column, and the signal in it


def variant_name(signal: str, options: SignalOptions = DEFAULTS) -> str:
    """The name of the column that holds a signal measured with these options.

    Raises KeyError for a signal that does not exist.
    """
    return signal + write_suffix(options, SIGNALS[signal].options)


def parse_variant(name: str) -> tuple[str, SignalOptions]:
    """The signal and the options that a column's name says: `variant_name` backwards.

    Raises KeyError for a signal that does not exist, ValueError where its options are not as written by
    `variant_name`.
    """
    signal, at, suffix = name.partition("@")
    options = read_suffix(suffix) if at else DEFAULTS
    if variant_name(signal, options) != name:
        raise ValueError(f'"{name}": options that {signal} does not depend on, or not in their order')
    return signal, options


def inputs_of(name: str) -> tuple[str, ...]:
    """The columns that a variant is computed from. Raises as `parse_variant` does."""
    signal, options = parse_variant(name)
    return (*SIGNALS[signal].inputs, *options.inputs)


def options_of(names: Iterable[str]) -> frozenset[str]:
    """The options that some of these columns depend on; names that are no signals count for nothing."""
    return frozenset(option for name in names if name in SIGNALS for option in SIGNALS[name].options)


def versions_of(names: Iterable[str]) -> dict[str, Any]:
    """Versions of what some of these columns are made with beside SIGNALS_VERSION.

    Raises AssetError where a package that segments words is missing.
    """
    chosen = [parse_variant(name)[1] for name in names if "@" in name]
    made: dict[str, Any] = {}
    if any(options.words == "segmented" for options in chosen):
        from .segmentation import require_segmenters, segmentation_version

        require_segmenters()
        made["segmentation"] = segmentation_version()
    if any(options.stop_words == BY_LANGUAGE for options in chosen):
        from .stop_words import STOP_WORDS_VERSION

        made["stop_words"] = STOP_WORDS_VERSION
    return made


def compute_signals(
    columns: pa.Array | pa.RecordBatch | Columns,
    names: Collection[str],
    words: str = DEFAULTS.words,
    **options: Any,
) -> dict[str, pa.Array]:
    """The named signals of each record, in the order of `names`, under these names.

    `columns` is a batch, or columns by name, or the texts alone. A name is that of a variant; `words` and
    `options` (those of SignalOptions) hold for the names that say nothing. Null where the input is null. Only
    the parts of the passes that these signals need are run, and one pass serves all variants whose options do
    not contradict each other.

    Raises KeyError for a signal, or for an input, that does not exist; TypeError for an unknown option or for
    an input that is not text; ValueError for an option's value that cannot be.
    """
    given = SignalOptions.of({"words": words, **options})
    found: dict[str, pa.Array] = {}
    for family, chosen, requests in _passes(names, given):
        found |= _FAMILIES[family](_by_name(columns), requests, chosen)
    return {name: found[name] for name in names}


def _by_name(columns: pa.Array | pa.RecordBatch | Columns) -> Columns:
    if isinstance(columns, pa.RecordBatch):
        return {name: columns.column(name) for name in columns.schema.names}
    return columns if isinstance(columns, Mapping) else {"text": columns}


def _passes(names: Iterable[str], given: SignalOptions) -> list[tuple[Family, SignalOptions, list[_Request]]]:
    """The signals of each pass: those of one family whose options agree where they share them."""
    groups: list[tuple[Family, dict[str, Any], list[_Request]]] = []
    for name in names:
        signal, options = parse_variant(name) if "@" in name else (name, given)
        spec = SIGNALS[signal]
        wanted = {option: options.canonical(option) for option in spec.options}
        for family, chosen, requests in groups:
            if family == spec.family and all(
                chosen.get(key, value) == value for key, value in wanted.items()
            ):
                chosen |= wanted
                requests.append((name, spec))
                break
        else:
            groups.append((spec.family, wanted, [(name, spec)]))
    return [(family, SignalOptions(**chosen), requests) for family, chosen, requests in groups]


def _measure(columns: Columns, requests: Sequence[_Request], options: SignalOptions) -> dict[str, pa.Array]:
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


def _lines(columns: Columns, requests: Sequence[_Request], options: SignalOptions) -> dict[str, pa.Array]:
    from .line_values import measure_lines

    return measure_lines(columns["text"], requests, options)


def _code(columns: Columns, requests: Sequence[_Request], options: SignalOptions) -> dict[str, pa.Array]:
    from .source_code import measure_code

    return measure_code(columns["text"], requests, options)


def _url(columns: Columns, requests: Sequence[_Request], options: SignalOptions) -> dict[str, pa.Array]:
    from .url_signals import measure_urls

    return measure_urls(columns["url"], requests)


def _count_pii(columns: Columns, requests: Sequence[_Request], options: SignalOptions) -> dict[str, pa.Array]:
    from .pii.find import PII_KINDS, count_pii

    # A span counts for the first of the kinds that are looked for: a number must not depend on what else is.
    counts = count_pii(columns["text"], PII_KINDS)
    return {name: counts[spec.name] for name, spec in requests}


_NO_CASES: Final = np.zeros(1, np.uint8)
_NO_CASES.flags.writeable = False
_FAMILIES: Final[
    Mapping[str, Callable[[Columns, Sequence[_Request], SignalOptions], dict[str, pa.Array]]]
] = {"measure": _measure, "lines": _lines, "code": _code, "url": _url, "pii": _count_pii}
