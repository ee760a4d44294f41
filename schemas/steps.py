"""The steps of a job: one class per verb, shaped as the job file writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from .decontamination import Decontaminate
from .dedup import Dedup
from .dedup import Method as DedupMethod
from .quantities import Count, Fraction
from .selection import Bucket, Mix, Select
from .verbs import (
    ColumnName,
    Edit,
    Extract,
    Extractor,
    Filter,
    Language,
    Model,
    OnNull,
    Resources,
    Score,
    SignalColumns,
    Url,
)

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,79}$"
RESERVED: Final = ("as", "name", "on", "resources", "on_null")
NULL_VERBS: Final = ("filter", "rule", "score", "select", "bucket")


def _short(key: str, shape: Any) -> BeforeValidator:
    """Lets a bare value stand for a mapping: `extract: trafilatura` for `extract: {with: trafilatura}`."""

    def expand(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return {key: value} if key else {value: {}}

    return BeforeValidator(expand, json_schema_input_type=shape)


def _expand(value: Any) -> Any:
    return (
        {"names": value} if isinstance(value, list) else {"set": value} if isinstance(value, str) else value
    )


_listed: Final = BeforeValidator(
    _expand, json_schema_input_type=list[str] | Literal["redpajama_v2"] | SignalColumns
)


class Step(Model):
    """What every step has beside its verb."""

    verb: ClassVar[str]

    name: Annotated[str, Field(pattern=NAME_PATTERN)] = Field(
        default="", description="The step's name in accounts and ledger; made from the verb where left out."
    )
    as_: ColumnName | None = Field(
        default=None, alias="as", description="The column that a score is written to."
    )
    on: Literal["local", "beam", "ray"] | None = Field(
        default=None, description="Engine of this step's stages."
    )
    resources: Resources | None = Field(default=None, description="What one task of the step needs.")
    on_null: OnNull = Field(default="drop", description="What happens to a record whose value is null.")

    @property
    def kind(self) -> str:
        """The verb."""
        return self.verb

    @property
    def options(self) -> Any:
        """What stands under the verb."""
        return getattr(self, self.verb)

    @property
    def default_name(self) -> str:
        """Verb and main argument; a job makes it unique."""
        return self.verb

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        if value.get("as") is not None and cls.verb not in ("score", "bucket", "decontaminate"):
            yield "as", f'"as" names the column that a score or bucket step makes; {cls.verb} makes none'
        if value.get("on_null", "drop") != "drop" and cls.verb not in NULL_VERBS:
            yield "on_null", f'"on_null" has no meaning for {cls.verb}'


class ExtractStep(Step):
    """Take the text out of HTML."""

    verb = "extract"
    extract: Annotated[Extract, _short("with", Extractor | Extract)] = Field(
        description="Which extractor, as in resiliparse."
    )

    @property
    def default_name(self) -> str:
        return f"extract:{self.extract.with_}"


class LanguageStep(Step):
    """Identify the language and keep some."""

    verb = "language"
    language: Language = Field(description="Which languages stay, as in {keep: [en]}.")


class UrlStep(Step):
    """Drop records from blocked addresses."""

    verb = "url"
    url: Url = Field(description="Which addresses are blocked, as in {lists: blocklists/}.")


class FilterStep(Step):
    """Apply a published rule set."""

    verb = "filter"
    filter: Annotated[Filter, _short("", str | Filter)] = Field(
        description="A rule set, as in gopher_quality or {gopher_quality: {min_words: 60}}."
    )

    @property
    def default_name(self) -> str:
        return f"filter:{_word(self.filter.rule_set)}"


class RuleStep(Step):
    """Keep the records for which an expression over columns is true."""

    verb = "rule"
    rule: str = Field(
        min_length=1, max_length=10_000, description="The expression, as in word_count < 100000."
    )

    @property
    def default_name(self) -> str:
        return f"rule:{_slug(self.rule)}"

    @property
    def reason(self) -> str:
        """What the ledger gives as the reason."""
        return self.name.removeprefix("rule:")


class SampleStep(Step):
    """Keep a random share, the same records in every run with the same seed."""

    verb = "sample"
    sample: Fraction = Field(description="As in 10% or 0.1.")


class LimitStep(Step):
    """Keep the first records, in the order of the input."""

    verb = "limit"
    limit: Count = Field(description="How many records.")


class SignalsStep(Step):
    """Write signals out with the records."""

    verb = "signals"
    signals: Annotated[SignalColumns, _listed] = Field(
        description="Which signals, as in [word_count, char_count] or redpajama_v2."
    )


class EditStep(Step):
    """Change the text: lines out, personal data replaced."""

    verb = "edit"
    edit: Annotated[Edit, _short("", str | Edit)] = Field(
        description="A refiner, as in c4_lines or {pii: {kinds: [email, ip]}}."
    )

    @property
    def default_name(self) -> str:
        return f"edit:{_word(self.edit.refiner.rpartition(':')[2])}"


class DedupStep(Step):
    """Keep one record of each cluster of duplicates, or one copy of each line."""

    verb = "dedup"
    dedup: Annotated[Dedup, _short("", DedupMethod | Dedup)] = Field(
        description="How duplicates are found, as in minhash or {exact: {on: url}}."
    )

    @property
    def default_name(self) -> str:
        return f"dedup:{self.dedup.method}"


class DecontaminateStep(Step):
    """Look for evaluation sets in the records."""

    verb = "decontaminate"
    decontaminate: Decontaminate = Field(
        description="Which sets, and what then happens, as in {against: eval/*.jsonl, fields: [question]}."
    )

    @property
    def default_name(self) -> str:
        return f"decontaminate:{self.decontaminate.method}"

    @property
    def prefix(self) -> str:
        """What the names of a report's columns begin with."""
        return self.as_ or "contaminated"

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        yield from super().conflicts(value)
        inner = value.get("decontaminate")
        action = inner.get("action") if isinstance(inner, dict) else getattr(inner, "action", None)
        if value.get("as") is not None and action != "report":
            yield "as", '"as" begins the names of the columns that action: report makes'


class ScoreStep(Step):
    """Compute a column with a model."""

    verb = "score"
    score: Score = Field(description="Which scorer, as in {fasttext: {model: hq.bin, label: hq}}.")

    @property
    def default_name(self) -> str:
        return f"score:{_word(self.score.scorer.rpartition(':')[2])}"

    @property
    def column(self) -> str:
        """The column that a single score is written to, and the prefix of several."""
        return self.as_ or (self.name or self.default_name).removeprefix("score:")


class SelectStep(Step):
    """Choose over the whole corpus."""

    verb = "select"
    select: Select = Field(description="How much of what stays, as in {top: 10%, by: quality}.")

    @property
    def default_name(self) -> str:
        return f"select:{self.select.by or 'random'}"


class BucketStep(Step):
    """Name ranges between percentiles of a column, and keep some."""

    verb = "bucket"
    bucket: Bucket = Field(description="Which column is cut where, as in {by: perplexity, within: lang}.")

    @property
    def default_name(self) -> str:
        return f"bucket:{self.bucket.by}"

    @property
    def column(self) -> str:
        """The column that the bucket's name is written to."""
        return self.as_ or "bucket"


class MixStep(Step):
    """Join groups by weights or caps."""

    verb = "mix"
    mix: Mix = Field(description="How much each input gives, as in {weights: {crawl: 7, wiki: 3}}.")

    @property
    def default_name(self) -> str:
        return f"mix:{self.mix.within}"


_OPERATORS: Final = (
    ("<=", " le "),
    (">=", " ge "),
    ("==", " eq "),
    ("!=", " ne "),
    ("<", " lt "),
    (">", " gt "),
    ("+", " plus "),
    ("*", " times "),
    ("/", " by "),
    ("-", " minus "),
)


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:60] or "unnamed"


def _slug(text: str) -> str:
    """Letters, digits, dots and underscores that still tell one expression from another."""
    for operator, word in _OPERATORS:
        text = text.replace(operator, word)
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_.")[:60].rstrip("_.") or "unnamed"


STEPS: Final[dict[str, type[Step]]] = {
    step.verb: step
    for step in (
        ExtractStep,
        LanguageStep,
        UrlStep,
        FilterStep,
        RuleStep,
        SampleStep,
        LimitStep,
        SignalsStep,
        EditStep,
        DedupStep,
        DecontaminateStep,
        ScoreStep,
        SelectStep,
        BucketStep,
        MixStep,
    )
}


def verb_of(value: Any) -> str | None:
    """The verb of a step, as a mapping or built; None where it has none or more than one."""
    if isinstance(value, Step):
        return value.verb
    verbs = [key for key in value if key in STEPS] if isinstance(value, dict) else []
    return verbs[0] if len(verbs) == 1 else None


AnyStep = Annotated[
    Annotated[ExtractStep, Tag("extract")]
    | Annotated[LanguageStep, Tag("language")]
    | Annotated[UrlStep, Tag("url")]
    | Annotated[FilterStep, Tag("filter")]
    | Annotated[RuleStep, Tag("rule")]
    | Annotated[SampleStep, Tag("sample")]
    | Annotated[LimitStep, Tag("limit")]
    | Annotated[SignalsStep, Tag("signals")]
    | Annotated[EditStep, Tag("edit")]
    | Annotated[DedupStep, Tag("dedup")]
    | Annotated[DecontaminateStep, Tag("decontaminate")]
    | Annotated[ScoreStep, Tag("score")]
    | Annotated[SelectStep, Tag("select")]
    | Annotated[BucketStep, Tag("bucket")]
    | Annotated[MixStep, Tag("mix")],
    Discriminator(verb_of),
]
