"""The decontaminate step: an index of the evaluation sets once, then every record against it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..schemas.decontamination import Decontaminate as Options
from .compiled import CorpusStep, add_layer
from .driver import Driver, layer_of, partitions_for
from .evaluation_sets import EvaluationError, check_evaluation_sets, content_of, evaluation_files, set_names
from .sources.source_file import SourceFile
from .stage import Input, OperatorRef, PartRef, Parts, StreamRef
from .steps.decontamination import AddCounts, BuildIndex, CountRecords, Decontaminate, FindCommon, ReadItems
from .steps.reading import Keep

COUNT_ROW_BYTES = 24
_APPLIED = ("action", "min_matches", "min_share", "window", "min_piece", "max_pieces")


@dataclass
class DecontaminateStep(CorpusStep):
    """Looks for evaluation sets in the records."""

    options: Options | None = None
    files: tuple[SourceFile, ...] = ()
    contents: tuple[str, ...] = ()  # of the files, for the fingerprint
    prefix: str = ""
    versions: Mapping[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "exchange" if self.options is not None and self.options.max_records else "map"

    def run(self, driver: Driver, parts: Parts) -> Parts:
        assert self.options is not None
        index = self._index(driver)
        how = _normalization(self.options)
        decontaminate = OperatorRef.of(
            Decontaminate,
            step=self.name,
            index=index.path,
            normalization=how,
            names=set_names(self.files),
            common=self._common(driver, parts, index),
            options={name: getattr(self.options, name) for name in _APPLIED},
            prefix=self.prefix,
            version=self.versions["matches"],
        )
        edited = ("text", "bytes") if self.edits else ()
        keep = OperatorRef.of(Keep, stream="alive", columns=[*edited, *self.types])
        columns = tuple(dict.fromkeys(("id", "source", "text", *edited)))
        commits = driver.run(
            f"{self.stage_name}-apply", {"records": Input(parts, (decontaminate, keep), columns=columns)}
        )
        return add_layer(parts, [layer_of(committed, "alive") for committed in commits])

    def _index(self, driver: Driver) -> StreamRef:
        """The file that holds the index, made where an earlier run has not left it."""
        assert self.options is not None
        options = self.options
        items = OperatorRef.of(
            ReadItems,
            files=[asdict(file) for file in self.files],
            fields=options.fields,
            query=options.query,
        )
        label = "evaluation sets"
        part = PartRef(
            0,
            reader=items,
            label=label,
            bytes=sum(file.size for file in self.files),
            identity=json.dumps([self.contents, options.fields, options.query]),
        )
        selection = {
            "size": options.ngram,
            "query": options.query_ngrams,
            "overlap": options.overlap_ngrams,
            "shortest": options.shortest,
        }
        build = OperatorRef.of(
            BuildIndex,
            normalization=_normalization(options),
            selection=selection,
            version=self.versions["words"],
        )
        (committed,) = driver.run(f"{self.stage_name}-index", {"items": Input((part,), (build,))})
        return committed.streams["index"]

    def _common(self, driver: Driver, parts: Parts, index: StreamRef) -> list[str]:
        """The streams of n-grams that too many records have."""
        assert self.options is not None
        if not self.options.max_records:
            return []
        count = OperatorRef.of(
            CountRecords,
            index=index.path,
            normalization=_normalization(self.options),
            version=self.versions["matches"],
        )
        commits = driver.run(
            f"{self.stage_name}-common",
            {"ngrams": Input(parts, (count,), "key", ("text",))},
            partitions=partitions_for(index.rows * COUNT_ROW_BYTES),
            reduce=OperatorRef.of(FindCommon, most=self.options.max_records),
            combine=OperatorRef.of(AddCounts),
        )
        return [c.streams["common"].path for c in commits if c.streams["common"].rows]


def compile_decontaminate(name: str, options: Options, prefix: str = "contaminated") -> DecontaminateStep:
    """The step of a job; `prefix` begins the names of the columns of a report. Raises EvaluationError."""
    from ..filters.dedup import decontamination, normal_words

    files = tuple(evaluation_files(options.against))
    reports = options.action == "report"
    return DecontaminateStep(
        name,
        frozenset({"text"}),
        edits="text" if options.action == "remove" else "",
        types={f"{prefix}_ngrams": "int64", f"{prefix}_by": "string"} if reports else {},
        options=options,
        files=files,
        contents=tuple(map(content_of, files)),
        prefix=prefix,
        versions={"words": normal_words.VERSION, "matches": decontamination.VERSION},
    )


def check_decontaminate(options: Options) -> str | None:
    """Why a job cannot start with these evaluation sets; None where it can."""
    try:
        check_evaluation_sets(options.against, options.fields, options.query)
    except EvaluationError as error:
        return str(error)
    return None


def _normalization(options: Options) -> dict[str, Any]:
    return {
        "words": options.words,
        "punctuation": options.punctuation,
        "diacritics": "diacritics" in options.ignore,
        "numbers": "numbers" in options.ignore,
    }
