"""The job file: where records come from, the steps they pass, and where the survivors go."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .embeddings import Embeddings
from .engines import Beam, Ray
from .quantities import PositiveInt, Size
from .step import NAME_PATTERN
from .steps import AnyStep
from .verbs import Model

Modality = Literal["text", "image-text"]
Format = Literal[
    "warc",
    "wet",
    "arc",
    "jsonl",
    "parquet",
    "csv",
    "tsv",
    "html",
    "text",
    "paths",
    "webdataset",
    "urls",
    "image-folder",
]
OutputFormat = Literal["parquet", "jsonl", "webdataset", "datacomp"]
NO_NULL: Final = r"^[^\x00]*$"
Compression = Literal["none", "gzip", "zstd", "snappy"]

# The first of each is the default.
COMPRESSIONS: Final[dict[str, tuple[Compression, ...]]] = {
    "parquet": ("zstd", "snappy", "gzip", "none"),
    "jsonl": ("zstd", "gzip", "none"),
    "webdataset": ("none",),
    "datacomp": ("none",),
}


def available_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Limits(Model):
    """Bounds of what one record, line or compressed file may cost; what breaks one is an error.

    The defaults are choices of ours.
    """

    max_line_bytes: Size = Field(default=256 << 20, description="A line of JSON Lines, or of text by lines.")
    max_row_bytes: Size = Field(
        default=64 << 20, description="A row of CSV or TSV, which takes seven times that in memory."
    )
    max_record_bytes: Size = Field(default=256 << 20, description="A text file.")
    max_payload_bytes: Size = Field(
        default=32 << 20, description="A page, before and after its codings are undone; an image."
    )
    max_ratio: Annotated[float, Field(gt=0)] = Field(
        default=500.0, description="Decoded bytes for each coded byte, of a page or of a whole file."
    )
    ratio_free_bytes: Size = Field(
        default=1 << 20, description="Decoded bytes of a page for which no ratio is asked."
    )
    stream_free_bytes: Size = Field(default=64 << 20, description="The same for a file.")


class Input(Model):
    """Files of one format, with the steps that only their records pass, before those of the job."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)] = Field(
        default="", description="What the column `input` says of its records; numbered where left out."
    )
    path: str = Field(min_length=1, description="Local path or URL; globs are allowed.")
    format: Format | None = Field(
        default=None,
        description="Guessed from the name where left out. paths: a list of files, one a line. urls: a "
        "Parquet, CSV, TSV or JSON Lines file of image addresses. image-folder: JSON Lines of files and "
        "captions beside the pictures.",
    )
    records: Literal["file", "lines"] = Field(
        default="file", description="What a record of a text file is: the whole file, or a line."
    )
    base: str | None = Field(
        default=None,
        description="What the lines of a list of paths are below; https://data.commoncrawl.org/ if left out.",
    )
    match: str | None = Field(default=None, description="A glob for the lines of a list of paths.")
    first: PositiveInt | None = Field(
        default=None, description="How many matching lines of a list of paths count."
    )
    limits: Limits = Field(
        default_factory=lambda: Limits.model_validate({}), description="Bounds of its records."
    )
    links: list[Literal["img", "source", "open_graph"]] = Field(
        default=["img", "source", "open_graph"],
        min_length=1,
        description="Which images of a page count, in image-text jobs: img with its alternative text, the "
        "sources of a picture, og:image.",
    )
    licence: str | None = Field(default=None, description="What the dataset card says of its licence.")
    columns: dict[Literal["id", "url", "text", "caption", "html", "image", "date"], str] = Field(
        default={},
        description="Our column: the input's column, in CSV also its number from 1 where there is no header. "
        "html holds pages to extract text from, image the bytes of one (in image-folder: its file), caption "
        "is the text of an image.",
    )
    steps: list[AnyStep] = Field(
        default=[], description="Steps of this input's records alone, before the job's."
    )

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        kind = value.get("format")
        for key in ("base", "match", "first"):
            if value.get(key) is not None and kind not in (None, "paths"):
                yield key, f"{key} goes with format: paths"
        if value.get("records", "file") != "file" and kind not in (None, "text"):
            yield "records", "records goes with format: text"
        columns = value.get("columns")
        if isinstance(columns, dict) and {"text", "caption"} <= columns.keys():
            yield "columns", "text and caption are both given; a caption is the text of an image-text record"

    @property
    def record_columns(self) -> dict[str, str]:
        """`columns` by the names that records have: a caption is their text."""
        return {"text" if ours == "caption" else ours: theirs for ours, theirs in self.columns.items()}


def _local_of(path: str) -> str:
    """A file:// URL as the local path that it is."""
    return path.removeprefix("file://") if path.startswith("file:///") else path


class Output(Model):
    """The shards."""

    path: Annotated[str, AfterValidator(_local_of)] = Field(
        min_length=1,
        pattern=NO_NULL,
        description="Folder of the shards, the manifest and the ledger, or its URL in a store (s3, gs).",
    )
    format: OutputFormat = Field(default="parquet", description="Format of the shards.")
    compression: Compression | None = Field(
        default=None,
        description="zstd where left out, and none for webdataset, whose readers expect plain tar.",
    )
    shard: Size = Field(default=256_000_000, description="Nominal size of a shard, by uncompressed bytes.")
    shuffle: Literal["none", "parts", "global"] = Field(
        default="none", description="parts: the order of parts and of rows in them; global: every row."
    )
    tokenizer: str | None = Field(
        default=None,
        description="A tokenizer.json, or a SentencePiece .model: the manifest says how many tokens each "
        "shard has. Where left out, that of the last step that counts tokens.",
    )
    embeddings: Embeddings | None = Field(
        default=None, description="Embeddings of the records as NumPy files beside the shards."
    )
    card: bool = Field(default=True, description="Whether README.md describes the output, as a dataset card.")

    @model_validator(mode="before")
    @classmethod
    def _choose_compression(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("compression") is None:
            choices = COMPRESSIONS.get(str(value.get("format", "parquet")), ("none",))
            return {**value, "compression": choices[0]}
        return value

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        choices, given = COMPRESSIONS.get(str(value.get("format", "parquet"))), value.get("compression")
        known = {name for names in COMPRESSIONS.values() for name in names}
        if choices and given is not None and given not in choices and str(given) in known:
            yield "compression", f"{value.get('format', 'parquet')} takes {', '.join(choices)}, not {given}"


class Run(Model):
    """How the job runs. Its output depends on `seed`, its order also on `part`; on nothing else here."""

    engine: Literal["local", "beam", "ray"] = Field(default="local", description="Where the tasks run.")
    workers: PositiveInt = Field(
        default_factory=available_cpus, description="Tasks at a time; all cores where left out."
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(default=0, description="Of every random choice.")
    work: Annotated[str, AfterValidator(_local_of)] = Field(
        default="",
        pattern=NO_NULL,
        description="For what a resumed run reuses: a folder that every worker can reach, or one in an "
        "object store (s3://bucket/folder). Where left out, OUTPUT/.work; for an output in a store, a local "
        "folder of its own in $XDG_CACHE_HOME/thresher/work, as ~/.cache/thresher/work.",
    )
    directory: str = Field(
        default="",
        description="Where relative paths and plug-in modules are looked for; the job file's own folder.",
    )
    ledger: Literal["full", "sampled", "counts"] = Field(
        default="full", description="Which records that did not come through are written down one by one."
    )
    part: Size = Field(
        64 << 20,
        description="Bytes of input that one task reads: larger files are cut where their format allows, "
        "smaller ones go together.",
    )
    part_urls: PositiveInt = Field(
        default=10_000,
        description="Addresses of a list of images that one task downloads: what a kill loses at most.",
    )
    ray: Ray = Field(default_factory=Ray, description="Of engine ray, and of steps `on: ray`.")
    beam: Beam = Field(default_factory=Beam, description="Of engine beam, and of steps `on: beam`.")
    min_free: Size = Field(
        default=1_000_000_000,
        description="With less free on a disk that it writes to, a run does not start, "
        "or stops to go on later.",
    )
    max_failed_parts: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Parts that may fail before a step over the whole corpus refuses to start."
    )


def _as_list(value: Any) -> Any:
    items = value if isinstance(value, list) else [value] if isinstance(value, str | dict) else value
    if isinstance(items, list):
        return [{"path": item} if isinstance(item, str) else item for item in items]
    return items


class Job(Model):
    """One run, from files to shards."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)] = Field(description="Names the run.")
    modality: Modality = Field(
        default="text",
        description="What a record is: a text, or an image with its caption, which is then the text of the "
        "record.",
    )
    input: Annotated[
        list[Input],
        Field(min_length=1),
        BeforeValidator(_as_list, json_schema_input_type=str | Input | list[str | Input]),
    ] = Field(description="Where records come from.")
    steps: list[AnyStep] = Field(default=[], description="What records pass, one verb per item, in order.")
    output: Output = Field(description="Where the survivors go.")
    run: Run = Field(default_factory=lambda: Run.model_validate({}), description="How the job runs.")

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        inputs = _as_list(value.get("input"))
        sources = [item for item in inputs if isinstance(item, dict)] if isinstance(inputs, list) else []
        for key, owners in (("steps", [value, *sources]), ("input", [{"input": sources}])):
            items = [item for owner in owners if isinstance(owner.get(key), list) for item in owner[key]]
            names = [item.get("name") for item in items if isinstance(item, dict)]
            for name in sorted({name for name in names if isinstance(name, str) and names.count(name) > 1}):
                what = "steps" if key == "steps" else "inputs"
                yield key, f'two {what} have the name "{name}"; names are unique'

    @model_validator(mode="after")
    def _complete(self) -> Self:
        inputs = name_inputs(self.input)
        taken = {
            step.name
            for steps in (self.steps, *(source.steps for source in inputs))
            for step in steps
            if step.name
        }
        inputs = [
            source.model_copy(update={"steps": name_steps(source.steps, taken, f"{source.name}.")})
            for source in inputs
        ]
        steps = name_steps(self.steps, taken)
        work = self.run.work or _work_of(self.output.path)
        # The model is frozen for everyone else; what a job leaves out is filled in once, here.
        self.__dict__["input"] = inputs
        self.__dict__["steps"] = steps
        self.__dict__["run"] = self.run.model_copy(update={"work": work})
        return self

    def resolved(self) -> dict[str, Any]:
        """The job as plain values with every default written out; loading it gives an equal job."""
        return self.model_dump(mode="json", exclude_none=True)


def _work_of(output: str) -> str:
    """The work directory of an output: in it, or, as a store is no place to work in, among the caches."""
    output = output.rstrip("/")
    if "://" not in output:
        return f"{output}/.work"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    digest = hashlib.sha256(output.encode()).hexdigest()[:16]
    return os.path.join(cache, "thresher", "work", digest)


def name_inputs(inputs: list[Input]) -> list[Input]:
    """The inputs, each with a unique name: its own, or `input` with its number where there are several."""
    taken, named = {source.name for source in inputs if source.name}, []
    for number, source in enumerate(inputs, 1):
        name = source.name or _unused("input" if len(inputs) == 1 else f"input_{number}", taken)
        named.append(source.model_copy(update={"name": name}))
        taken.add(name)
    return named


def name_steps(steps: list[Any], taken: set[str], prefix: str = "") -> list[Any]:
    """The steps, each with a name that none has yet: its own, or verb and main argument with a number."""
    named = []
    for step in steps:
        name = step.name or _unused(prefix + step.default_name, taken)
        named.append(step.model_copy(update={"name": name}))
        taken.add(name)
    return named


def _unused(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def job_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the job file, as a person writes it."""
    schema = Job.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
