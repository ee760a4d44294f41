"""Columns that a step reads must come from the record, the signals, or an earlier step, and suit it."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from ..schemas.step import Step
from ..schemas.steps import (
    BucketStep,
    ClusterStep,
    DecontaminateStep,
    FrequencyStep,
    HierarchicalSampleStep,
    MixStep,
    ResizeStep,
    RetrieveStep,
    ScoreStep,
    SelectStep,
    SignalsStep,
)
from ..schemas.verbs import Filter
from .checking_modality import LINK_FORMATS, NO_IMAGES_YET, format_of
from .checking_steps import build_scorer, build_selector
from .outline import Line, Outline
from .problems import Path, Problem, unknown

if TYPE_CHECKING:
    import pyarrow as pa

    from ..schemas.contracts import Scorer, Selector

# What a record has before any step (schemas/records.py, TEXT without what `language` adds).
RECORD_COLUMNS: Final = ("id", "text", "url", "source", "date", "meta", "input")
# What stages call columns of their own.
RESERVED_COLUMN: Final = re.compile(
    r"position|bytes|key|keeper|root|payload|content_type|image|width|height|sha256"
    r"|(dedup|select|mix|balance|vocabulary|cluster|hierarchical_sample|retrieve)_[0-9]+_.*"
)
# What dedup compares that is no column: what an image decodes to, address and caption together.
COMPARED_TOGETHER: Final = ("pixels", "pair")
EMBEDDING_VERBS: Final = ("cluster", "retrieve", "dedup")
MAKES_NO_COLUMN: Final = "this select makes no column; write action: report, or remove as"
LANGUAGE_COLUMNS: Final = ("lang", "lang_score")


def check_columns(outline: Outline, allow_code: bool = False) -> Iterator[Problem]:
    """What is wrong with the columns that the steps of a job read and make."""
    ends: list[dict[str, pa.DataType] | None] = []
    for line in outline.lines:
        ends.append((yield from _check_line(line, outline, allow_code)))
    yield from _check_output(outline, ends)


def _check_output(outline: Outline, ends: Sequence[dict[str, pa.DataType] | None]) -> Iterator[Problem]:
    """The embeddings that go out are there for the records of some input at least."""
    embeddings = outline.output.embeddings if outline.output is not None else None
    if embeddings is None:
        return
    if outline.output is not None and outline.output.format == "datacomp":
        told = "a subset has no shards that embeddings could go beside; write another format"
        yield Problem(("output", "embeddings"), told)
    known = {name: kind for end in ends if end is not None for name, kind in end.items()}
    for name, column in embeddings.arrays.items():
        place: Path = ("output", "embeddings", "arrays", name)
        if column not in known and None not in ends:
            found = [other for other, kind in known.items() if _is_embedding(kind)]
            yield Problem(place, *unknown("column", column, found))
        elif not _is_embedding(known.get(column)):
            yield Problem(place, f'"{column}" holds no embeddings; a score step such as clip makes them')


def _check_line(
    line: Line, outline: Outline, allow_code: bool
) -> Generator[Problem, None, dict[str, pa.DataType] | None]:
    """Also returns the columns behind the last step, and their types; None where they cannot be told."""
    import pyarrow as pa

    from ..filters.signals import SIGNALS
    from ..schemas.records import IMAGE_TEXT, RAW_TEXT, TEXT

    known = {name: RAW_TEXT.field("id" if name == "input" else name).type for name in RECORD_COLUMNS}
    if outline.modality == "image-text":
        known["image"] = IMAGE_TEXT.field("image").type
    of_images = {name: spec.type for name, spec in SIGNALS.items() if "image" in spec.inputs}
    known |= {name: spec.type for name, spec in SIGNALS.items() if name not in of_images}
    fetched = not any(source is not None and format_of(source) in LINK_FORMATS for source in line.inputs)
    complete = True  # False once a step may have added columns that cannot be told
    for path, step in line.steps:
        if step is None:
            complete = False
            continue
        if "image" in known and (fetched or step.kind == "download"):
            known |= of_images
        scorer = build_scorer(step, outline, allow_code) if step.kind == "score" else None
        own = isinstance(step, SelectStep) and step.select.with_ is not None
        selector = build_selector(step, outline, allow_code) if own else None
        for key, column in _columns_read(step, scorer, selector):
            place: Path = (*path, step.kind, *key)
            if column in of_images and column not in known:
                told = NO_IMAGES_YET if "image" in known else "looks at images; write modality: image-text"
                yield Problem(place, told)
            elif complete and column not in known:
                message, suggestion = unknown("column", column, known)
                yield Problem(place, message + _origin(column, line), suggestion)
            elif key[-1:] in (("by",), ("keep",)) and not _ranks(step, known.get(column)):
                yield Problem(place, f'"{column}" is text; records are ranked by a score or a signal')
            elif (
                key[-1:] == ("of",) and step.kind in EMBEDDING_VERBS and not _is_embedding(known.get(column))
            ):
                yield Problem(place, f'"{column}" holds no embeddings; a score step such as clip makes them')
        if step.kind == "rule":
            yield from _check_types(step.options, known, (*path, step.kind))
        elif isinstance(step, RetrieveStep) and step.retrieve.where:
            yield from _check_types(step.retrieve.where, known, (*path, "retrieve", "where"))
        elif isinstance(step, SelectStep):
            yield from _check_lists(step, known, path)
        if isinstance(step, SelectStep | MixStep) and _writes_copies(step, selector):
            yield from _check_copies(outline, path)
        elif isinstance(step, MixStep) and step.as_:
            told = "this mix writes no record twice, and makes no column; give more epochs, or remove as"
            yield Problem((*path, "as"), told)
        made: dict[str, pa.DataType] | None = {}
        if step.kind == "language":
            known |= {name: TEXT.field(name).type for name in LANGUAGE_COLUMNS}
        elif scorer is not None:
            made = _columns_made(step, scorer)
        elif isinstance(step, BucketStep):
            made = {step.column: pa.string()}
        elif isinstance(step, DecontaminateStep) and step.options.action == "report":
            made = {f"{step.prefix}_ngrams": pa.int64(), f"{step.prefix}_by": pa.string()}
        elif isinstance(step, FrequencyStep):
            made = {step.column: pa.int64()}
        elif isinstance(step, ClusterStep):
            made = {name: pa.type_for_alias(alias) for name, alias in step.columns.items()}
        elif isinstance(step, SelectStep) and selector is not None:
            made = _own_choice_made(step, selector)
            if step.as_ and made == {}:
                yield Problem((*path, "as"), MAKES_NO_COLUMN)
        elif isinstance(step, RetrieveStep | SelectStep):
            made = _choice_made(step, known)
        elif isinstance(step, MixStep) and step.mix.writes_copies:
            made = {step.column: pa.int32()}
        elif isinstance(step, ResizeStep):
            made = {"original_width": pa.int32(), "original_height": pa.int32()}
        elif isinstance(step, SignalsStep):
            names = [name for name in step.options.names if name in SIGNALS]
            made = {f"signal_{name}": SIGNALS[name].type for name in names}
        complete = complete and made is not None
        for column in sorted(made or {}):
            if RESERVED_COLUMN.fullmatch(column):
                yield Problem((*path, "as"), f'"{column}" is a column of our own; name another')
            elif column in known:
                yield Problem((*path, "as"), f'there is a column "{column}" already; name another')
        known |= made or {}
    return known if complete else None


def _check_types(expression: str, known: dict[str, pa.DataType], path: Path) -> Iterator[Problem]:
    """A rule whose columns are known must be able to compute with their types."""
    import pyarrow as pa

    from ..filters.expressions import ExpressionError, parse

    try:
        rule = parse(expression)
    except ExpressionError:
        return  # told elsewhere
    if rule.columns <= known.keys():
        try:
            rule.evaluate({name: pa.array([], known[name]) for name in rule.columns})
        except ExpressionError as error:
            yield Problem(path, str(error))


def _check_lists(step: SelectStep, known: dict[str, pa.DataType], path: Path) -> Iterator[Problem]:
    """Records that are in several groups at once go with a cap alone; and `as` with what makes a column."""
    import pyarrow as pa

    options = step.select
    within, by = (known.get(name) if name else None for name in (options.within, options.by))
    lists = within is not None and pa.types.is_list(within)
    if options.sample is not None and by is not None and pa.types.is_list(by):
        told = f'"{options.by}" holds lists; what is drawn has one value for each record'
        yield Problem((*path, "select", "by"), told)
    if lists and options.cap is None:
        yield Problem((*path, "select", "within"), f'"{options.within}" holds lists; they go with cap')
    elif (
        options.cap is not None
        and within is not None
        and not lists
        and by is not None
        and pa.types.is_list(by)
    ):
        told = f'"{options.by}" holds lists, and "{options.within}" does not'
        yield Problem((*path, "select", "by"), f"{told}; both are lists, of the same lengths, or neither")
    if (
        step.as_
        and options.with_ is None
        and options.action != "report"
        and not lists
        and options.sample != "replacement"
    ):
        yield Problem((*path, "as"), MAKES_NO_COLUMN)


def _check_copies(outline: Outline, path: Path) -> Iterator[Problem]:
    if outline.output is not None and outline.output.format == "datacomp":
        told = "a subset names each record once; write another format, or choose without copies"
        yield Problem(path, told)


def _ranks(step: Step, kind: pa.DataType | None) -> bool:
    """Whether records can be ranked by a column of this type; those in several groups at once by a list."""
    import pyarrow as pa

    if kind is None:
        return True
    if isinstance(step, SelectStep) and step.select.cap is not None and pa.types.is_list(kind):
        kind = kind.value_type
    return not (pa.types.is_string(kind) or pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_embedding(kind: pa.DataType | None) -> bool:
    from ..filters.embeddings.matrix import is_embedding

    return kind is None or is_embedding(kind)


def _choice_made(step: RetrieveStep | SelectStep, known: dict[str, pa.DataType]) -> dict[str, pa.DataType]:
    """What a choice says of the records that stay: whether, how often, or for which groups they are."""
    import pyarrow as pa

    if isinstance(step, SelectStep) and step.select.sample == "replacement":
        return {step.column: pa.int32()}
    if step.options.action == "report":
        return {step.column: pa.bool_()}
    groups = known.get(step.options.within or "") if isinstance(step, SelectStep) else None
    return {step.column: groups} if groups is not None and pa.types.is_list(groups) else {}


def _own_choice_made(step: SelectStep, selector: Selector | Exception) -> dict[str, pa.DataType] | None:
    """The same of a selector of one's own; None where it cannot be built."""
    import pyarrow as pa

    if isinstance(selector, Exception):
        return None
    column, kind = step.select.column_made(selector.max_copies)
    return {step.as_ or column: pa.type_for_alias(kind)} if kind else {}


def _writes_copies(step: SelectStep | MixStep, selector: Selector | Exception | None) -> bool:
    if selector is None:
        return step.options.writes_copies is True
    return not isinstance(selector, Exception) and selector.max_copies > 1 and step.options.action != "report"


def _origin(column: str, line: Line) -> str:
    of_input = f" for the records of input {line.name}" if line.name else ""
    made = f"; a language step before this one makes it{of_input}" if column in LANGUAGE_COLUMNS else ""
    return made or (f"; no step makes it{of_input}" if of_input else "")


def _columns_read(
    step: Step, scorer: Scorer | Exception | None, selector: Selector | Exception | None
) -> Iterator[tuple[Path, str]]:
    options = step.options
    if selector is not None and not isinstance(selector, Exception):
        yield from ((("with",), column) for column in selector.inputs if column != "position")
    if scorer is not None and not isinstance(scorer, Exception):
        yield from (((options.scorer,), column) for column in scorer.inputs)
    if step.kind == "rule":
        from ..filters.expressions import ExpressionError, parse

        try:
            yield from (((), column) for column in sorted(parse(options).columns))
        except ExpressionError:
            return  # told elsewhere
    elif step.kind in ("select", "bucket"):
        yield from (((key,), name) for key in ("by", "within") if (name := getattr(options, key)))
    elif step.kind == "mix":
        for number, name in enumerate(options.columns):
            yield ("within",) if isinstance(options.within, str) else ("within", number), name
    elif step.kind == "filter":
        if options.arguments.get("stop_words") == "by_language":
            yield (options.rule_set, "stop_words"), "lang"
        yield from (((), column) for column in sorted(_columns_of(options)))
    elif step.kind == "signals":
        by_language = options.options.get("stop_words") == "by_language"
        if options.set == "redpajama_v2" or by_language:  # whose stop words are those of the language
            yield ("options",) if by_language else ("set",), "lang"
        yield from ((("names", number), name) for number, name in enumerate(options.names))
    elif isinstance(step, ClusterStep):
        yield ("of",), options.of
    elif isinstance(step, HierarchicalSampleStep):
        yield from ((("within", number), name) for number, name in enumerate(options.within))
        if options.by:
            yield ("by",), options.by
    elif isinstance(step, RetrieveStep):
        yield ("of",), options.of
        if options.where is not None:
            from ..filters.expressions import ExpressionError, parse

            try:
                yield from ((("where",), column) for column in sorted(parse(options.where).columns))
            except ExpressionError:
                return  # told elsewhere
    elif step.kind == "frequency":
        yield from (((key,), name) for key in ("of", "distinct") if (name := getattr(options, key)))
    elif step.kind == "dedup":
        yield from (
            ((options.method, key), column)
            for key, column in options.options.columns_read
            if column not in COMPARED_TOGETHER
        )


def _columns_of(options: Filter) -> frozenset[str]:
    """The columns that the rules of a set read; none of a set that does not exist."""
    from ..filters.expressions import parse
    from ..filters.rule_sets import RULE_SETS

    if options.rule_set not in RULE_SETS:
        return frozenset()
    rules = RULE_SETS[options.rule_set]
    return frozenset().union(*(parse(rule.expression, rules.parameters).columns for rule in rules.rules))


def _columns_made(step: Step, scorer: Scorer | Exception) -> dict[str, pa.DataType] | None:
    """The columns that a score step adds, with their types; None where they cannot be told."""
    assert isinstance(step, ScoreStep)
    if isinstance(scorer, Exception):
        return None
    outputs = scorer.outputs
    if len(outputs) == 1:
        return dict.fromkeys([step.column], *outputs.values())
    return {f"{step.column}_{name}": kind for name, kind in outputs.items()}
