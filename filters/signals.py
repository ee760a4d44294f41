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

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa

from .image.families import IMAGE_FAMILIES, image_versions
from .image.signals import image_signals
from .signal_options import BY_LANGUAGE, DEFAULTS, SignalOptions, read_suffix, write_suffix
from .signal_spec import Columns, Family, SignalSpec
from .text.code import code_signals
from .text.families import TEXT_FAMILIES
from .text.line_signals import line_signals
from .text.pii.find import PII_SIGNALS
from .text.signal_specs import measured
from .text.url_signals import url_signals

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
        for specs in (measured(), line_signals(), code_signals(), url_signals(), _pii(), image_signals())
        for spec in specs
    }
)

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

    Raises AssetError where a package that segments words or decodes images is missing.
    """
    names = list(names)
    chosen = [parse_variant(name)[1] for name in names if "@" in name]
    made: dict[str, Any] = {}
    if any(options.words == "segmented" for options in chosen):
        from .text.segmentation import require_segmenters, segmentation_version

        require_segmenters()
        made["segmentation"] = segmentation_version()
    if any(options.stop_words == BY_LANGUAGE for options in chosen):
        from .text.stop_words import STOP_WORDS_VERSION

        made["stop_words"] = STOP_WORDS_VERSION
    families = {name: SIGNALS[name].family for name in names if name in SIGNALS}
    made |= image_versions(families)
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


_FAMILIES: Final = MappingProxyType({**TEXT_FAMILIES, **IMAGE_FAMILIES})
