"""The steps of a job: one class per verb, shaped as the job file writes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from .decontamination import Decontaminate
from .dedup import Dedup
from .dedup import Method as DedupMethod
from .embeddings import Cluster, HierarchicalSample, Retrieve
from .images import Balance, Download, Frequency, Resize, ResizeMode, Vocabulary
from .quantities import Count, Fraction
from .selection import Bucket, Mix, Select
from .step import Step, short, slug, word
from .verbs import (
    Edit,
    Extract,
    Extractor,
    Filter,
    Language,
    Score,
    SignalColumns,
    Url,
)


def _expand(value: Any) -> Any:
    return (
        {"names": value} if isinstance(value, list) else {"set": value} if isinstance(value, str) else value
    )


_listed: Final = BeforeValidator(
    _expand, json_schema_input_type=list[str] | Literal["redpajama_v2"] | SignalColumns
)


class ExtractStep(Step):
    """Take the text out of HTML."""

    verb = "extract"
    extract: Annotated[Extract, short("with", Extractor | Extract)] = Field(
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
    filter: Annotated[Filter, short("", str | Filter)] = Field(
        description="A rule set, as in gopher_quality or {gopher_quality: {min_words: 60}}."
    )

    @property
    def default_name(self) -> str:
        return f"filter:{word(self.filter.rule_set)}"


class RuleStep(Step):
    """Keep the records for which an expression over columns is true."""

    verb = "rule"
    rule: str = Field(
        min_length=1, max_length=10_000, description="The expression, as in word_count < 100000."
    )

    @property
    def default_name(self) -> str:
        return f"rule:{slug(self.rule)}"

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
    edit: Annotated[Edit, short("", str | Edit)] = Field(
        description="A refiner, as in c4_lines or {pii: {kinds: [email, ip]}}."
    )

    @property
    def default_name(self) -> str:
        return f"edit:{word(self.edit.refiner.rpartition(':')[2])}"


class DedupStep(Step):
    """Keep one record of each cluster of duplicates, or one copy of each line."""

    verb = "dedup"
    dedup: Annotated[Dedup, short("", DedupMethod | Dedup)] = Field(
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
        return f"score:{word(self.score.scorer.rpartition(':')[2])}"

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
        own = self.select.with_
        return f"select:{word(own.rpartition(':')[2]) if own else self.select.by or 'random'}"

    @property
    def column(self) -> str:
        """The column that says what was chosen, with `action: report`, or for which of its groups; of what
        is drawn with replacement, how often."""
        return self.as_ or ("copies" if self.select.sample == "replacement" else "selected")

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        yield from super().conflicts(value)
        inner = value.get("select")
        own = inner.get("with") if isinstance(inner, dict) else getattr(inner, "with_", None)
        if own is not None and value.get("on_null", "drop") != "drop":
            yield "on_null", f'"on_null" has no meaning here: {own} decides on what is null itself'


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
        return f"mix:{'-'.join(self.mix.columns)}"

    @property
    def column(self) -> str:
        """The column that says how often a record is written, where that may be more than once."""
        return self.as_ or "copies"


class DownloadStep(Step):
    """Fetch the images of records that come with an address."""

    verb = "download"
    download: Annotated[Download, short("with", Literal["thresher", "img2dataset"] | Download)] = Field(
        description="How, as in {concurrency: 64, max_bytes: 20MB}."
    )


class ResizeStep(Step):
    """Decode images, make them smaller, and write them again."""

    verb = "resize"
    resize: Annotated[Resize, short("mode", ResizeMode | Resize)] = Field(
        description="To what, as in {mode: keep_ratio, size: 256}."
    )


class FrequencyStep(Step):
    """Count how many records share a value, and drop what is too frequent or too rare."""

    verb = "frequency"
    frequency: Annotated[Frequency, short("of", str | Frequency)] = Field(
        description="Of what, as in {of: text, max: 10}."
    )

    @property
    def default_name(self) -> str:
        return f"frequency:{self.frequency.of}"

    @property
    def column(self) -> str:
        """The column that the count is written to."""
        return self.as_ or f"{self.frequency.of}_frequency"


class BalanceStep(Step):
    """Thin out the captions of frequent entries."""

    verb = "balance"
    balance: Annotated[Balance, short("entries", str | Balance)] = Field(
        description="Which entries, as in {entries: entries.txt, t: 20000}."
    )


class VocabularyStep(Step):
    """Drop captions with a word that is rare in the corpus."""

    verb = "vocabulary"
    vocabulary: Vocabulary = Field(description="How many words are known, as in {size: 1000000}.")


class ClusterStep(Step):
    """Cluster the records by their embeddings."""

    verb = "cluster"
    cluster: Cluster = Field(description="Of what, into how many, as in {of: clip_image, clusters: 1000}.")

    @property
    def column(self) -> str:
        """The column of the cluster; coarser levels are `<column>_2` and so on."""
        return self.as_ or "cluster"

    @property
    def columns(self) -> dict[str, str]:
        """Every column that it makes: Arrow's name of the type."""
        levels = range(2, len(self.cluster.clusters) + 1)
        coarser = {f"{self.column}_{level}": "int32" for level in levels}
        return {self.column: "int32", f"{self.column}_similarity": "float", **coarser}


class HierarchicalSampleStep(Step):
    """Take as evenly from the clusters of a hierarchy as they allow."""

    verb = "hierarchical_sample"
    hierarchical_sample: HierarchicalSample = Field(
        description="How much, over which clusters, as in {within: [cluster_2, cluster], budget: 1e6}."
    )


class RetrieveStep(Step):
    """Keep what is near a curated set."""

    verb = "retrieve"
    retrieve: Retrieve = Field(
        description="Near what, as in {of: clip_image, around: imagenet.npy, neighbours: {k: 4}}."
    )

    @property
    def column(self) -> str:
        """The column that says what was retrieved, with `action: report`."""
        return self.as_ or "retrieved"


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
        DownloadStep,
        ResizeStep,
        FrequencyStep,
        BalanceStep,
        VocabularyStep,
        ClusterStep,
        HierarchicalSampleStep,
        RetrieveStep,
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
    | Annotated[MixStep, Tag("mix")]
    | Annotated[DownloadStep, Tag("download")]
    | Annotated[ResizeStep, Tag("resize")]
    | Annotated[FrequencyStep, Tag("frequency")]
    | Annotated[BalanceStep, Tag("balance")]
    | Annotated[VocabularyStep, Tag("vocabulary")]
    | Annotated[ClusterStep, Tag("cluster")]
    | Annotated[HierarchicalSampleStep, Tag("hierarchical_sample")]
    | Annotated[RetrieveStep, Tag("retrieve")],
    Discriminator(verb_of),
]
