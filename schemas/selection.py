"""What stands under the verbs that choose over the whole corpus: `select`, `bucket`, `mix`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

from pydantic import Field, PlainValidator
from pydantic_core import PydanticCustomError

from .quantities import Count, Fraction, parse_fraction
from .verbs import ColumnName, Model, Plain

Unit = Literal["records", "characters", "bytes", "tokens"]
UnitField = Annotated[Unit, Field(description="What is counted; tokens are those of `tokenizer`.")]
TokenizerField = Annotated[
    str | None,
    Field(description="A tokenizer.json of Hugging Face tokenizers, or a SentencePiece .model."),
]

# Beyond it a shard's batch of copies would no longer fit into memory.
MAX_COPIES: Final = 100
Sampling = Literal["gumbel", "replacement"]


class Select(Model):
    """How much stays: the best by a column, until a share or a budget is full, or a bar; or what a selector
    of one's own says."""

    by: ColumnName | None = Field(
        default=None,
        description="The score or signal that ranks the records, highest first; at random where left out. Of "
        "a cap also a list, as long as that of `within`: a score for each group.",
    )
    top: Fraction | None = Field(default=None, description="Share that is kept, as in 10% or 0.1.")
    budget: Count | None = Field(default=None, description="How much is kept, in `unit`, as in 5e9.")
    cap: Count | None = Field(
        default=None,
        description="How much each group of `within` keeps at most, in `unit`; groups may be millions.",
    )
    min: float | None = Field(default=None, description="Smallest value that is kept.")
    within: ColumnName | None = Field(
        default=None,
        description="A column, as in lang, domain or input: choose in each of its groups separately. Of a "
        "cap also a list: the groups that a record is in; it stays if it is chosen for one of them.",
    )
    unit: UnitField = "records"
    tokenizer: TokenizerField = None
    ties: Literal["drop", "keep"] = Field(
        default="drop",
        description="Which of equal scores a share cuts off: with drop, so many that no more than the share "
        "stays; keep: none, as DataComp, whose bar is the score behind the share (Gadre et al. 2023, "
        "arXiv:2304.14108; baselines/utils.py).",
    )
    sample: Sampling | None = Field(
        default=None,
        description="Draw by `by` instead of taking the best. gumbel: without replacement, the next one each "
        "time in proportion to exp(by / temperature) (Kool et al. 2019, arXiv:1903.06059), as DSIR draws by "
        "logarithms of importance (Xie et al. 2023, arXiv:2302.03169). replacement: in proportion to `by`, a "
        "weight, up to max_copies of a record, which are all written.",
    )
    temperature: float = Field(
        default=1.0, gt=0, description="Of gumbel: the higher, the less `by` counts; near 0, the best."
    )
    max_copies: int = Field(
        default=5,
        ge=1,
        le=MAX_COPIES,
        description="Of replacement: how often a record is written at most; the default is our choice.",
    )
    action: Literal["drop", "report"] = Field(
        default="drop",
        description="drop: only what is chosen stays. report: a column says what it is, with replacement how "
        "often.",
    )
    with_: str | None = Field(
        default=None,
        alias="with",
        min_length=1,
        description="A selector of one's own in place of all these but action: an installed one's name, or "
        "`module:Class` of code beside the job, which needs --allow-code.",
    )
    arguments: dict[str, Plain] = Field(default={}, description="Of `with`: what its selector is built from.")

    def column_made(self, max_copies: int) -> tuple[str, str]:
        """The column that a selector of one's own makes unless `as` names it, and Arrow's name of its type,
        "" where it makes none; `max_copies`: how often it chooses a record at most."""
        if max_copies > 1:
            return "copies", "int32"
        return "selected", "bool" if self.action == "report" else ""

    @property
    def writes_copies(self) -> bool:
        """Whether records that stay are written several times; not of `with`, whose selector says so."""
        return self.sample == "replacement" and self.action == "drop"

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        given = [key for key in ("top", "budget", "cap", "min") if value.get(key) is not None]
        if value.get("with") is not None:
            for key, field in cls.model_fields.items():
                if (
                    key not in ("with_", "arguments", "action")
                    and value.get(key, field.default) != field.default
                ):
                    yield (
                        key,
                        f"{key} does not go with a selector of your own; give what it takes as arguments",
                    )
            return
        if value.get("arguments"):
            yield "arguments", "arguments are those of a selector of your own; name it with with"
        yield from _sampling(value, given)
        if len(given) > 1:
            yield given[1], f"{' and '.join(given)} are both given; keep one of top, budget, cap and min"
        elif not given:
            yield "", "how much? give one of top, budget, cap and min"
        elif given == ["min"] and value.get("within") is not None:
            yield "within", "within goes with top, budget or cap; min is the same bar for every group"
        elif given == ["min"] and value.get("unit", "records") != "records":
            yield "unit", "unit goes with top, budget or cap; min counts nothing"
        elif given == ["min"] and value.get("by") is None:
            yield "by", "min is a bar for the values of a column; name it with by"
        elif given == ["cap"] and value.get("within") is None:
            yield "within", "a cap is for each group; name the column of the groups with within"
        elif value.get("ties") == "keep" and given != ["top"]:
            yield "ties", "ties goes with top; the others count"
        elif value.get("ties") == "keep" and value.get("unit", "records") != "records":
            yield "ties", "ties: keep is for shares of records"
        yield from _tokens(value)


class Bucket(Model):
    """Names for ranges between percentiles of a column, over the corpus that reaches the step.

    As CCNet cuts perplexity (Wenzek et al. 2020, arXiv:1911.00359, section 3.4): head below the 30th
    percentile of the language, middle below the 60th, tail from there on.
    """

    by: ColumnName = Field(description="The score or signal, smallest first.")
    cuts: list[Fraction] = Field(
        default=[0.3, 0.6], min_length=1, max_length=99, description="Shares below each cut, ascending."
    )
    names: list[str] = Field(
        default=["head", "middle", "tail"],
        min_length=2,
        description="Names of the ranges, one more than cuts.",
    )
    within: ColumnName | None = Field(
        default=None, description="A column, as in lang: percentiles of each group of its own."
    )
    keep: list[str] | None = Field(default=None, description="Buckets whose records stay; all if left out.")

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        cuts = value.get("cuts", [0.3, 0.6])
        names = value.get("names", ["head", "middle", "tail"])
        if not isinstance(cuts, list) or not isinstance(names, list):
            return
        if len(names) != len(cuts) + 1:
            yield "names", f"{len(cuts)} cuts make {len(cuts) + 1} buckets; {len(names)} names are given"
        elif len(set(map(str, names))) < len(names):
            yield "names", "two buckets have the same name"
        if not _ascend(cuts):
            yield "cuts", "cuts ascend, as in [30%, 60%]"
        keep = value.get("keep")
        if keep == []:
            yield "keep", "no bucket would stay; name some, or leave keep out"
        for name in keep if isinstance(keep, list) else []:
            if name not in names:
                yield "keep", f'"{name}" is none of the buckets {", ".join(map(str, names))}'


class UniMax(Model):
    """As even as sizes allow: from the smallest group on, each gives an equal part of what is left of the
    budget, or as many epochs as it may (Chung et al. 2023, arXiv:2304.09151, algorithm 1)."""

    epochs: float = Field(
        gt=0, le=MAX_COPIES, description="How often the records of a group are written at most, on average."
    )


def _weights(value: Any) -> Any:
    """Weights as a job has them: a file's name, or numbers above 0 by group."""
    if not isinstance(value, str | dict | None):
        raise PydanticCustomError(
            "weights", "weights are {group: number}, or the name of a file that has them"
        )
    if value == {}:
        raise PydanticCustomError("no_weights", "name at least one group")
    for group, weight in value.items() if isinstance(value, dict) else ():
        if isinstance(weight, dict):
            _weights(weight)
        elif not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight < math.inf:
            raise PydanticCustomError(
                "weight", "the weight of {group} is a number above 0", {"group": str(group)}
            )
    return value


Weights = Annotated[
    str | dict[str, Any] | None,
    PlainValidator(_weights, json_schema_input_type=str | dict[str, float | dict[str, float]] | None),
]
Groups = Annotated[list[ColumnName], Field(min_length=2, max_length=2)]


class Mix(Model):
    """How much each group gives to the whole: shares of a total, or a cap for each. Drawn at random.

    With `weights` and `alpha`, the total is `budget`, or the most that the scarcest group allows. Groups that
    are not named give nothing with `weights`, and all they have with `caps`.
    """

    weights: Weights = Field(
        default=None,
        description="Group: its share of the whole, in any scale, as in {crawl: 7, wiki: 3}; of two columns "
        "{crawl: {good: 3, bad: 1}}. Or the file that has them, as DoReMi and RegMix write it.",
    )
    caps: dict[str, Count] | None = Field(
        default=None, description="Group: the most that it gives, in `unit`."
    )
    alpha: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share in proportion to size ** alpha, over all groups, as multilingual models are "
        "trained (mT5: 0.3; Xue et al. 2021, arXiv:2010.11934); 1 leaves sizes as they are, 0 makes them "
        "even.",
    )
    unimax: UniMax | None = Field(
        default=None, description="As even as sizes and epochs allow, over all groups, as in {epochs: 4}."
    )
    within: ColumnName | Groups = Field(
        default="input", description="The column of the groups, or two: groups of what both say."
    )
    budget: Count | None = Field(
        default=None, description="The total with weights, alpha and unimax, in `unit`."
    )
    epochs: float = Field(
        default=1.0,
        gt=0,
        le=MAX_COPIES,
        description="With weights and alpha: how often the records of a group are written at most, on "
        "average.",
    )
    unit: UnitField = "records"
    tokenizer: TokenizerField = None

    @property
    def most_epochs(self) -> float:
        """How often the records of a group are written at most."""
        return self.unimax.epochs if self.unimax is not None else self.epochs

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the groups."""
        return (self.within,) if isinstance(self.within, str) else tuple(self.within)

    @property
    def writes_copies(self) -> bool:
        """Whether records are written several times."""
        return self.most_epochs > 1

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        given = [key for key in ("weights", "caps", "alpha", "unimax") if value.get(key) is not None]
        two, weights = isinstance(value.get("within"), list), value.get("weights")
        if len(given) != 1:
            yield "", "give one of weights, caps, alpha and unimax"
        elif given == ["caps"] and value["caps"] == {}:
            yield "caps", "name at least one group"
        elif given == ["caps"] and value.get("budget") is not None:
            yield "budget", "budget goes with weights, alpha and unimax"
        elif given == ["unimax"] and value.get("budget") is None:
            yield "", "how much in all? UniMax shares out a budget"
        elif value.get("epochs", 1.0) != 1.0 and given[0] in ("caps", "unimax"):
            told = "unimax has epochs of its own" if given == ["unimax"] else "a cap says how much"
            yield "epochs", f"epochs goes with weights and alpha; {told}"
        elif two and given == ["caps"]:
            yield "within", "caps are for the groups of one column"
        elif isinstance(weights, dict):
            nested = [isinstance(weight, dict) for weight in weights.values()]
            if two and not all(nested):
                yield "weights", "groups of two columns have weights such as {crawl: {good: 3, bad: 1}}"
            elif not two and any(nested):
                yield "weights", "weights of weights go with two columns, as in within: [input, quality]"
        yield from _tokens(value)


def _sampling(value: dict[Any, Any], given: list[str]) -> Iterator[tuple[str, str]]:
    """What does not go together in a select that draws."""
    sample = value.get("sample")
    if sample is not None and given == ["min"]:
        yield "sample", "sample goes with top, budget or cap; min takes all that reach it"
    elif sample is not None and value.get("by") is None:
        yield "by", f"sample: {sample} draws by the values of a column; name it with by"
    elif sample is not None and value.get("ties") == "keep":
        yield "ties", "ties: keep has a bar, and what is drawn has none"
    elif sample == "replacement" and given == ["cap"]:
        yield "sample", "replacement goes with top or budget, which within makes one for each group"
    if value.get("temperature", 1.0) != 1.0 and sample != "gumbel":
        yield "temperature", "temperature goes with sample: gumbel"
    if value.get("max_copies", 5) != 5 and sample != "replacement":
        yield "max_copies", "max_copies goes with sample: replacement"


def _ascend(cuts: list[Any]) -> bool:
    """Whether each cut is above the one before; also where they are not shares, which is told elsewhere."""
    try:
        shares = [parse_fraction(cut) for cut in cuts]
    except PydanticCustomError:
        return True
    return all(a < b for a, b in pairwise(shares))


def _tokens(value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
    if value.get("unit") == "tokens" and value.get("tokenizer") is None:
        yield "tokenizer", "tokens of which tokenizer? name its file"
    elif value.get("tokenizer") is not None and value.get("unit", "records") != "tokens":
        yield "tokenizer", "a tokenizer goes with unit: tokens"
