"""What stands under `dedup`: how duplicates are found and which record of a cluster survives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from .quantities import PositiveInt, Size, shown
from .verbs import ColumnName, Model, WordKind

# What of a record `on` compares that is a picture, not text.
PIXELS_OF: Final = ("image", "pixels")


class Keep(Model):
    """Which record of a cluster of duplicates survives: `first`, `longest`, `largest`, or `{best: column}`.

    `longest` counts characters, `largest` pixels, `best` takes the largest value, nulls last; ties break by
    id. Only `first` depends on the order of the input.
    """

    order: Literal["first", "longest", "largest", "best"]
    column: ColumnName | None = None

    @model_serializer
    def _as_written(self) -> str | dict[str, str | None]:
        return {"best": self.column} if self.order == "best" else self.order


def _read_keep(value: Any) -> Any:
    if isinstance(value, Keep):
        return value
    if value in ("first", "longest", "largest"):
        return {"order": value}
    if isinstance(value, dict) and set(value) == {"best"} and isinstance(value["best"], str):
        return {"order": "best", "column": value["best"]}
    raise PydanticCustomError("keep", f"{shown(value)} is not first, longest, largest or {{best: COLUMN}}")


class _BestColumn(Model):
    """The record with the largest value of a column."""

    best: ColumnName = Field(description="A score or signal of the record.")


KeepRule = Annotated[
    Keep,
    BeforeValidator(_read_keep, json_schema_input_type=Literal["first", "longest", "largest"] | _BestColumn),
]


ClusterMemory = Annotated[
    Size,
    Field(
        description="Memory in which clusters are found by one process; where more is needed, they are found "
        "by exchanges. The clusters are the same."
    ),
]


def _as_paths(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class _Clustered(Model):
    """What the methods that find clusters of records have in common."""

    against: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        BeforeValidator(_as_paths, json_schema_input_type=str | list[str]),
    ] = Field(
        default=[],
        description="Outputs of earlier runs that saved their keys: what they kept wins over what is new.",
    )
    save_keys: bool = Field(
        default=False,
        description="Leave the keys of what survives in the output, for `against` of later runs.",
    )
    cluster_memory: ClusterMemory = 500_000_000


class Exact(_Clustered):
    """Records whose column is equal, after normalisation."""

    on: ColumnName = Field(
        default="text",
        description="The column that is compared: text, url, image (its bytes), pixels (what it decodes to), "
        "or pair (url and caption together).",
    )
    normalize: Literal["none", "whitespace", "lower"] = Field(
        default="whitespace",
        description="Differences in text that do not count: none, white space, or white space and case. "
        "An url is always compared in its canonical form.",
    )
    keep: KeepRule = Field(
        default=Keep(order="longest"),
        description="Which copy survives; where left out, largest of image and pixels, longest of others.",
    )

    @model_validator(mode="before")
    @classmethod
    def _choose_keep(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("on") in PIXELS_OF and value.get("keep") is None:
            return {**value, "keep": "largest"}
        return value

    @property
    def columns_read(self) -> tuple[tuple[str, str], ...]:
        """Keys whose values are columns, and these columns."""
        return (("on", self.on), *((("keep", self.keep.column),) if self.keep.column else ()))


class MinHash(_Clustered):
    """Near copies: MinHash signatures, banded (Leskovec et al., Mining of Massive Datasets, section 3.4).

    Either `bands` and `rows`, or `threshold`, from which the bands are chosen for `num_perm` permutations.
    With neither, 14 bands of 8 rows, as FineWeb uses (Penedo et al. 2024, arXiv:2406.17557, section 3.4).
    """

    bands: PositiveInt | None = Field(default=None, description="Bands of the signature; goes with rows.")
    rows: PositiveInt | None = Field(default=None, description="Permutations in a band; goes with bands.")
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Jaccard similarity at which bands and rows are optimised, instead of naming them.",
    )
    num_perm: PositiveInt | None = Field(
        default=None, description="Permutations to spend; goes with threshold."
    )
    ngram: PositiveInt = Field(default=5, description="Words or characters in a shingle.")
    unit: Literal["words", "characters"] = Field(default="words", description="What a shingle is made of.")
    words: WordKind = Field(default="unicode", description="What counts as a word.")
    hash: Literal["thresher", "datasketch"] = Field(
        default="thresher", description="Shingle hash; datasketch: equal to signatures that datasketch made."
    )
    lowercase: bool = Field(default=False, description="Ignore case.")
    verify: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="Least Jaccard similarity of the shingles themselves, which is then computed for records "
        "that share a band; records below it are not joined.",
    )
    on: ColumnName = Field(default="text", description="The text column that is compared.")
    keep: KeepRule = Field(default=Keep(order="longest"), description="Which record of a cluster survives.")

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        if value.get("verify") is not None and value.get("against"):
            yield "verify", "an earlier run leaves no texts to verify with; remove verify, or against"
        given = _given(value, "bands", "rows", "threshold", "num_perm")
        if "threshold" in given and len(given & {"bands", "rows"}) > 0:
            named = " and ".join(key for key in ("bands", "rows") if key in given)
            yield "threshold", f"threshold chooses bands and rows itself; remove it, or {named}"
        elif len(given & {"bands", "rows"}) == 1:
            yield min(given & {"bands", "rows"}), "bands and rows go together; give both, or threshold"
        if "num_perm" in given and "threshold" not in given:
            yield "num_perm", "num_perm goes with threshold; otherwise it is bands times rows"

    @model_validator(mode="before")
    @classmethod
    def _write_defaults_out(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        given = _given(value, "bands", "rows", "threshold", "num_perm")
        if not given:
            return {**value, "bands": 14, "rows": 8}
        return {**value, "num_perm": 112} if given == {"threshold"} else value

    @property
    def columns_read(self) -> tuple[tuple[str, str], ...]:
        """Keys whose values are columns, and these columns."""
        return (("on", self.on), *((("keep", self.keep.column),) if self.keep.column else ()))


def _given(value: dict[Any, Any], *keys: str) -> set[str]:
    return {key for key in keys if value.get(key) is not None}


class Perceptual(_Clustered):
    """Images that look alike: 64-bit perceptual hashes that differ in few bits (signal `phash`).

    The pairs are exact: every two within the radius are found, and no others. Images without a hash, such as
    those of one colour, are compared with none.
    """

    radius: Annotated[int, Field(ge=0, le=16)] = Field(
        default=4, description="Bits in which the hashes of two copies may differ."
    )
    keep: KeepRule = Field(default=Keep(order="largest"), description="Which copy survives.")

    @property
    def columns_read(self) -> tuple[tuple[str, str], ...]:
        """Keys whose values are columns, and these columns."""
        return (("keep", self.keep.column),) if self.keep.column else ()


class Semantic(Model):
    """SemDeDup (Abbas et al. 2023, arXiv:2303.09540): in each cluster of embeddings, one of those too near.

    k-means by cosine; the records of a cluster are put in order, and one goes where an earlier one has a
    cosine above `threshold`. Copies in different clusters are not found.
    """

    of: ColumnName = Field(description="The column of the embeddings, as in clip_image.")
    threshold: Annotated[float, Field(ge=-1, le=1)] = Field(
        default=0.95,
        description="Cosine above which a record is too near an earlier one: 1 - epsilon of the paper, whose "
        "choice depends on model and data.",
    )
    clusters: PositiveInt | None = Field(
        default=None,
        description="How many; where left out one for each 1,000 records, at most 50,000, the number of the "
        "paper's code for LAION.",
    )
    keep: Literal["hard", "easy", "random"] = Field(
        default="hard",
        description="Which come first: hard those farthest from the centroid, as in the paper, easy the "
        "nearest.",
    )
    iterations: PositiveInt = Field(default=20, description="Rounds of k-means; the paper's code takes 100.")
    sample: PositiveInt = Field(
        default=256, description="Records for each cluster that the centroids are found from, at most."
    )

    @property
    def columns_read(self) -> tuple[tuple[str, str], ...]:
        """Keys whose values are columns, and these columns."""
        return (("of", self.of),)


class Neighbours(Model):
    """Records whose embeddings are near, joined with their nearest neighbours, and theirs, into components.

    As DINOv2 removes copies (Oquab et al. 2023, arXiv:2304.07193, appendix A.3): k nearest neighbours, cosine
    above a bar, one record of each component.
    """

    of: ColumnName = Field(description="The column of the embeddings, as in clip_image.")
    k: PositiveInt = Field(default=64, description="Neighbours of a record that are looked at, as DINOv2's.")
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = Field(
        default=0.6,
        description="Cosine above which two are copies; 0.6 is DINOv2's, for embeddings of SSCD.",
    )
    lists: PositiveInt | None = Field(
        default=None,
        description="Inverted lists that records are put into, of which `probes` are searched; where left "
        "out, one for each 1,000 records. 1: the search is exact.",
    )
    probes: PositiveInt = Field(default=8, description="Lists that are searched for a record.")
    contaminated: ColumnName | None = Field(
        default=None,
        description="A column: components in which it is true of any record go as a whole, as DINOv2 drops "
        "what is near evaluation images.",
    )
    keep: KeepRule = Field(default=Keep(order="first"), description="Which record of a component survives.")
    cluster_memory: ClusterMemory = 500_000_000

    @property
    def columns_read(self) -> tuple[tuple[str, str], ...]:
        """Keys whose values are columns, and these columns."""
        named = (("of", self.of), ("contaminated", self.contaminated), ("keep", self.keep.column))
        return tuple((key, column) for key, column in named if column)


class Lines(Model):
    """Lines that occur more than once in the corpus are taken out of the texts, as CCNet does.

    Wenzek et al. 2020, arXiv:1911.00359, section 3.1. Lines are compared in lower case, without white space
    at their ends, with every digit as 0, and without control characters and typographic punctuation.
    """

    keep: Literal["first", "none"] = Field(
        default="first",
        description="Which copy stays: the first of the corpus, or none, as CCNet has it, of what occurs in "
        "more than one record. Within a record the first stays.",
    )
    within: ColumnName | None = Field(
        default=None, description="A column: compare only within each of its groups, such as lang."
    )
    min_length: Annotated[int, Field(ge=0)] = Field(
        default=1,
        description="Fewest bytes, once normalised, of what is compared: shorter ones stay. 0: blank lines "
        "are compared too, as CCNet does.",
    )
    min_chars: Annotated[int, Field(ge=0)] = Field(
        default=1,
        description="Fewest characters of what is left; records below it are dropped. CCNet asks for 300, "
        "but before this step.",
    )

    @property
    def columns_read(self) -> tuple[tuple[str, str], ...]:
        """Keys whose values are columns, and these columns."""
        return (("within", self.within),) if self.within else ()


class Paragraphs(Lines):
    """The same for paragraphs, which blank lines separate."""


Method = Literal["exact", "minhash", "perceptual", "semantic", "neighbours", "lines", "paragraphs"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)


class Dedup(Model):
    """How duplicates are found: exactly one of the keys."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    exact: Exact | None = Field(default=None, description="Equal text or address.")
    minhash: MinHash | None = Field(default=None, description="Near copies of text.")
    perceptual: Perceptual | None = Field(default=None, description="Images that look alike.")
    semantic: Semantic | None = Field(default=None, description="Near embeddings in the same cluster.")
    neighbours: Neighbours | None = Field(default=None, description="Near embeddings, by nearest neighbours.")
    lines: Lines | None = Field(default=None, description="Lines that other texts have too.")
    paragraphs: Paragraphs | None = Field(default=None, description="Paragraphs that other texts have too.")

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        given = [name for name in METHODS if name in _given(value, *METHODS)]
        if len(given) > 1:
            yield "", f"{' and '.join(given)} are both given; make each a step of its own"
        elif not given and set(value) <= set(METHODS):
            yield "", f"how? write one of {', '.join(METHODS)}, with {{}} where no option differs"

    @property
    def method(self) -> Method:
        for name in METHODS:
            if getattr(self, name) is not None:
                return name
        raise AssertionError("one method is given")

    @property
    def options(self) -> Exact | MinHash | Perceptual | Semantic | Neighbours | Lines:
        options: Exact | MinHash | Perceptual | Semantic | Neighbours | Lines = getattr(self, self.method)
        return options
