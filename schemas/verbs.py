"""What stands under each verb of a job, and the base of every model of the job file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    RootModel,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

from .quantities import PositiveInt, Size, parse_fraction

COLUMN_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,79}$"

LANGUAGE_PATTERN: Final = r"^[a-z]{2,3}(_[A-Z][a-z]{3})?$"

ColumnName = Annotated[str, Field(pattern=COLUMN_PATTERN)]
WordKind = Literal["whitespace", "unicode", "segmented"]
Extractor = Literal["resiliparse", "resiliparse_plain", "trafilatura", "trafilatura_precise", "hybrid"]
OnNull = Literal["drop", "keep", "fail"]
# What an argument of a rule set or a scorer may be: anything that JSON can write.
Plain = Any


class Model(BaseModel):
    """Refuses unknown keys and converts nothing silently ("60" is not 60), and reports all that is wrong.

    A subclass lists in `conflicts` what no single field can see, so that such errors are told together with
    those of the fields.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        """(key or "", message) for each contradiction in the mapping as given, before its fields are read."""
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _all_at_once(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        found = [
            InitErrorDetails(
                type=PydanticCustomError("conflict", "{told}", {"told": message}),
                loc=(key,) if key else (),
                input=value,
            )
            for key, message in (cls.conflicts(value) if isinstance(value, dict) else ())
        ]
        try:
            model = handler(value)
        except ValidationError as error:
            found += [_again(details) for details in error.errors(include_url=False)]
            model = None
        if found or model is None:
            raise ValidationError.from_exception_data(cls.__name__, found)
        return model


def _again(details: ErrorDetails) -> InitErrorDetails:
    """The error once more, so that it can be raised together with others."""
    kind: str | PydanticCustomError = details["type"]
    if kind not in get_args(ErrorType):
        kind = PydanticCustomError("conflict", "{told}", {"told": details["msg"]})
    return InitErrorDetails(type=kind, loc=details["loc"], input=details["input"], ctx=details.get("ctx", {}))


class Resources(Model):
    """What one task of a step needs.

    A step that asks for other than the defaults runs in a pass of its own, one with `gpus` or `actors` in
    processes that load its model and do nothing else.
    """

    cpus: float = Field(default=1.0, gt=0, description="CPU cores of one task, on Ray.")
    gpus: float = Field(default=0.0, ge=0, description="GPUs of one task, on Ray; 0.5 lets two share one.")
    memory: Size | None = Field(default=None, description="Memory of one task, as in 2GB, on Ray.")
    actors: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="Fewest and most processes that hold the model, as in [1, 8]."
    )

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        match value.get("actors"):
            case [int(fewest), int(most)] if fewest > most:
                yield "actors", f"[{fewest}, {most}] is the wrong way round; write [fewest, most]"


class Extract(Model):
    """How text is taken out of HTML."""

    with_: Extractor = Field(
        default="resiliparse",
        alias="with",
        description="resiliparse: main content, fast. resiliparse_plain: all text of the page. "
        "trafilatura: main content, fewer boilerplate blocks, about ten times slower. "
        "trafilatura_precise: the same with its option favor_precision, which leaves out more. "
        "hybrid: trafilatura's rules compiled, and trafilatura itself where they leave doubt.",
    )


class Language(Model):
    """Which languages stay, by a fastText language model."""

    keep: list[Annotated[str, Field(pattern=LANGUAGE_PATTERN)]] = Field(
        min_length=1, description="Codes as the model gives them: en for lid.176, eng_Latn for GlotLID."
    )
    min_score: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.65,
        description="Smallest probability of the language. 0.65 is the choice of FineWeb "
        "(Penedo et al. 2024, arXiv:2406.17557, section 3.3).",
    )
    model: str | None = Field(default=None, description="A fastText model file; lid.176 where left out.")
    max_chars: PositiveInt | None = Field(
        default=None, description="Characters of the text that the model reads; 10,000 where left out."
    )


class Url(Model):
    """Which addresses are blocked."""

    lists: str | None = Field(
        default=None, description="Folder of lists in the UT1 layout: CATEGORY/domains, urls."
    )
    categories: list[str] = Field(default=[], description="Folders of `lists` to use; all where left out.")
    words: list[str] = Field(
        default=[], description="Words that block an address where one of them is a whole word of it."
    )
    soft_words: list[str] = Field(
        default=[], description="Words that block where `min_soft_words` different ones are in the address."
    )
    min_soft_words: PositiveInt = Field(default=2, description="How many soft words block an address.")
    subwords: list[str] = Field(default=[], description="Pieces that block anywhere in the address.")

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        if value.get("lists") is None and value.get("categories"):
            yield "categories", "categories choose among lists; give lists (a folder) too"
        elif not any(value.get(key) for key in ("lists", "words", "soft_words", "subwords")):
            yield "", "nothing to block: give lists (a folder), words, soft_words or subwords"


class Filter(RootModel[dict[str, dict[str, Plain]]]):
    """A rule set, with what differs from the published one."""

    model_config = ConfigDict(frozen=True)
    root: Annotated[dict[str, dict[str, Plain]], Field(min_length=1, max_length=1)]

    @property
    def rule_set(self) -> str:
        return next(iter(self.root))

    @property
    def arguments(self) -> dict[str, Plain]:
        """Parameters of its rules, and options of its signals, that differ from the published ones."""
        return self.root[self.rule_set]


class Edit(RootModel[dict[str, dict[str, Plain]]]):
    """A refiner, with its arguments: thresher's own, an installed plug-in's name, or `module:Class`."""

    model_config = ConfigDict(frozen=True)
    root: Annotated[dict[str, dict[str, Plain]], Field(min_length=1, max_length=1)]

    @property
    def refiner(self) -> str:
        return next(iter(self.root))

    @property
    def arguments(self) -> dict[str, Plain]:
        """The refiner's own arguments, without `max_removed`."""
        return {name: value for name, value in self.root[self.refiner].items() if name != "max_removed"}

    @property
    def max_removed(self) -> float | None:
        """The largest share of a record's words that an edit may take away before the record is dropped."""
        given = self.root[self.refiner].get("max_removed")
        return None if given is None else parse_fraction(given)

    @model_validator(mode="after")
    def _has_a_share(self) -> Self:
        _ = self.max_removed
        return self


class SignalColumns(Model):
    """Signals that go out with the records, as columns."""

    names: list[ColumnName] = Field(
        default=[], description="Signals; the column of each is called signal_ and its name."
    )
    set: Literal["redpajama_v2"] | None = Field(
        default=None, description="The signals of a published data set, by the names that it gives them."
    )
    options: dict[str, Plain] = Field(
        default={}, description="How the signals of `names` are defined, as in {words: unicode}."
    )

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        if not value.get("names") and value.get("set") is None:
            yield "", "which signals? give names, or a set"
        elif value.get("options") and not value.get("names"):
            yield "options", "options go with names; a set has its own"


class FastText(Model):
    """Probability of one label under a fastText classifier."""

    model: str = Field(description="The model file (.bin or .ftz).")
    label: str = Field(min_length=1, description="The label whose probability is the score.")
    column: str = Field(default="text", min_length=1, description="The column that is read, such as url.")


class Score(Model):
    """Which scorer, with its arguments: `fasttext`, an installed plug-in's name, or `module:Class`."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"minProperties": 1, "maxProperties": 1})
    __pydantic_extra__: dict[str, dict[str, Plain]] = Field(init=False)

    fasttext: FastText | None = Field(default=None, description="A fastText classifier.")

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        given = [str(key) for key in value if value[key] is not None]
        if len(given) > 1:
            yield "", f"{' and '.join(given)} are both scorers; make each a step of its own"
        elif not given:
            yield "", "which scorer? write fasttext, the name of an installed one, or module:Class"

    @property
    def scorer(self) -> str:
        """`fasttext`, a plug-in's name, or `module:Class`."""
        return "fasttext" if self.fasttext is not None else next(iter(self.__pydantic_extra__))

    @property
    def arguments(self) -> dict[str, Plain]:
        """The scorer's arguments, plain values."""
        return (
            self.fasttext.model_dump(exclude_defaults=True)
            if self.fasttext
            else dict(self.__pydantic_extra__[self.scorer])
        )
