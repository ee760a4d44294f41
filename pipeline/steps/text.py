"""Operators over the text of a record: extraction, language, address, signals, rules, sampling."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ...filters import expressions, signals
from ...filters.text import extraction
from ...schemas.verbs import Extractor
from ..draws import drawn
from ..operator import Operator, Output

# What extraction leaves in `meta`, and under which name.
KEPT = {"title": "title", "date": "published", "canonical_url": "canonical_url"}


# The module of each library of extraction that imports what is used of it.
_LIBRARIES: Final = {"resiliparse": "resiliparse.extract.html2text", "trafilatura": "trafilatura"}


class Extract(Operator):
    """Turns payloads into text; records that came with text pass as they are.

    A page without any text is dropped as `empty_extraction`; one that cannot be parsed is an error.
    `library` names the extractor's version, for the fingerprint.
    """

    def __init__(self, step: str, method: Extractor, library: str) -> None:
        self._step, self._method = step, method

    @classmethod
    def kernels_with(cls, arguments: Mapping[str, Any]) -> tuple[str, ...]:
        method = arguments["method"]
        compiled = ("thresher.filters.text.main_content",) if method == "hybrid" else ()
        return (*compiled, *(_LIBRARIES[name] for name in extraction.LIBRARIES[method]))

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        pages = pc.is_valid(batch.column("payload"))
        if pc.any(pages).as_py():
            batch = self._extract(batch, pages)
        else:
            batch = _set(batch, {"extraction_error": pa.nulls(len(batch), pa.string())})
        error = batch.column("extraction_error")
        verdicts = pc.if_else(pc.equal(error, "empty_extraction"), "dropped", "error")
        kept = out.drop(self._step, batch, error, None, verdicts)
        return kept.drop_columns(["payload", "content_type", "extraction_error"])

    def _extract(self, batch: pa.RecordBatch, pages: pa.Array) -> pa.RecordBatch:
        there = batch.filter(pages)
        found = extraction.extract(
            there.column("payload"), there.column("content_type"), there.column("url"), self._method
        )
        # Rows of pages get their place among the rows that came with text.
        place = pc.if_else(pages, pc.subtract(pc.cumulative_sum(pages.cast(pa.int64())), 1), None)
        texts = pc.if_else(pages, found.column("text").take(place), batch.column("text"))
        metas = _merge_meta(
            batch.column("meta"), {KEPT[name]: found.column(name).take(place) for name in KEPT}
        )
        columns = {name: batch.column(name) for name in batch.schema.names} | {"text": texts, "meta": metas}
        return pa.RecordBatch.from_pydict(columns | {"extraction_error": found.column("error").take(place)})


def _merge_meta(meta: pa.Array, additions: Mapping[str, pa.Array]) -> pa.Array:
    merged: list[str | None] = []
    columns = {name: column.to_pylist() for name, column in additions.items()}
    for row, text in enumerate(meta.to_pylist()):
        more = {name: values[row] for name, values in columns.items() if values[row] is not None}
        if not more:
            merged.append(text)
            continue
        known = json.loads(text) if text else {}
        merged.append(json.dumps({**more, **known}, ensure_ascii=False, separators=(",", ":")))
    return pa.array(merged, pa.string())


class Language(Operator):
    """Adds `lang` and `lang_score`, and keeps the languages that the job names.

    `checksum` is of the model file, for the fingerprint.
    """

    def __init__(
        self,
        step: str,
        keep: Sequence[str],
        min_score: float,
        model: str,
        checksum: str,
        options: Mapping[str, Any],
    ) -> None:
        from ...filters.text.language import LanguageIdentifier

        self._step, self._keep, self._least = step, pa.array(list(keep), pa.string()), min_score
        self._identifier = LanguageIdentifier(model, **options)

    def open(self) -> None:
        self._identifier.open()

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        language, score = self._identifier.identify(batch.column("text"))
        known = pc.fill_null(pc.is_in(language, value_set=self._keep), False)
        sure = pc.fill_null(pc.greater_equal(score, pa.scalar(self._least, pa.float32())), False)
        reasons = pc.if_else(known, pc.if_else(sure, None, "low_score"), "other_language")
        said = pc.binary_join_element_wise(pc.fill_null(language, "none"), _shown(score), " ")
        batch = _set(batch, {"lang": language, "lang_score": score})
        return out.drop(self._step, batch, reasons, said)


def _shown(numbers: pa.Array) -> pa.Array:
    return pa.array([None if n is None else f"{n:.6g}" for n in numbers.to_pylist()], pa.string()).fill_null(
        "null"
    )


class Url(Operator):
    """Drops records whose address is on a list; `checksum` is of the lists, for the fingerprint."""

    def __init__(self, step: str, arguments: Mapping[str, Any], checksum: str) -> None:
        from ...filters.text.url import UrlFilter

        self._step, self._filter = step, UrlFilter(**arguments)

    def open(self) -> None:
        self._filter.open()

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        reasons, values = self._filter.check(batch.column("url"))
        return out.drop(self._step, batch, reasons, values)


# What computes each family of signals, where that is compiled.
_KERNELS: Final = {
    "measure": "thresher.filters.text.measure",
    "lines": "thresher.filters.text.line_values",
    "code": "thresher.filters.text.source_code",
    "pii": "thresher.filters.text.pii.scan",
}


class Signals(Operator):
    """Computes signals, by the names of their variants, for every record that reaches it: also a sidecar.

    `versions` are of what they are made with, for the fingerprint.
    """

    version = signals.SIGNALS_VERSION

    def __init__(self, stream: str, names: Sequence[str], versions: Mapping[str, Any]) -> None:
        self._stream, self._names = stream, list(names)

    @classmethod
    def kernels_with(cls, arguments: Mapping[str, Any]) -> tuple[str, ...]:
        families = {signals.SIGNALS[name.partition("@")[0]].family for name in arguments["names"]}
        return tuple(_KERNELS[family] for family in sorted(families) if family in _KERNELS)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        columns = signals.compute_signals(batch, self._names)
        out.emit(self._stream, _set(batch.select(["position"]), columns))
        return _set(batch, columns)


class Publish(Operator):
    """Adds columns that go out with the record: copies of signals, under names of their own."""

    def __init__(self, step: str, columns: Mapping[str, str]) -> None:
        self._step, self._columns = step, dict(columns)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        batch = _set(batch, {name: batch.column(signal) for name, signal in self._columns.items()})
        return out.drop(self._step, batch, pa.nulls(len(batch), pa.string()))


class Rules(Operator):
    """Drops a record at the first rule that it breaks."""

    version = 2

    def __init__(
        self,
        step: str,
        rules: Sequence[tuple[str, str]],
        parameters: Mapping[str, Any],
        on_null: str,
        columns: Mapping[str, str],
    ) -> None:
        self._step, self._on_null, self._columns = step, on_null, columns
        # A list that has been through JSON is no tuple any more.
        parameters = {name: tuple(v) if isinstance(v, list) else v for name, v in parameters.items()}
        self._rules = [(reason, expressions.parse(expression, parameters)) for reason, expression in rules]

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        columns = {name: batch.column(column) for name, column in self._columns.items()}
        reasons, values = expressions.evaluate_rules(self._rules, columns, self._on_null)  # type: ignore[arg-type]
        return out.drop(self._step, batch, reasons, values)


class Sample(Operator):
    """Keeps the share of records whose hash of (seed, id, step) is smallest: a random but fixed choice."""

    def __init__(self, step: str, fraction: float, seed: int) -> None:
        self._step, self._fraction, self._seed = step, fraction, seed

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        kept = drawn(batch.column("id"), self._fraction, self._seed, self._step)
        reasons = pc.if_else(pa.array(kept), None, "not_sampled")
        return out.drop(self._step, batch, reasons)


def _set(batch: pa.RecordBatch, columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """The batch with columns added, or replaced where it has them."""
    return pa.RecordBatch.from_pydict(
        {name: batch.column(name) for name in batch.schema.names} | dict(columns)
    )
