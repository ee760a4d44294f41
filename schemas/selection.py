"""What stands under the verbs that choose over the whole corpus: `select`, `bucket`, `mix`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from .quantities import Count, Fraction, parse_fraction
from .verbs import ColumnName, Model

Unit = Literal["records", "characters", "bytes", "tokens"]
UnitField = Annotated[Unit, Field(description="What is counted; tokens are those of `tokenizer`.")]
TokenizerField = Annotated[
    str | None,
    Field(description="A tokenizer.json of Hugging Face tokenizers, or a SentencePiece .model."),
]


class Select(Model):
    """How much stays: the best by a column, until a share or a budget is full, or a bar."""

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
    action: Literal["drop", "report"] = Field(
        default="drop", description="drop: only what is chosen stays. report: a column says what it is."
    )

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        given = [key for key in ("top", "budget", "cap", "min") if value.get(key) is not None]
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


class Mix(Model):
    """How much each group gives to the whole: shares of a total, or a cap for each. Drawn at random.

    With `weights`, the total is `budget`, or the most that the scarcest group allows. Groups that are not
    named give nothing with `weights`, and all they have with `caps`.
    """

    weights: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        default=None, description="Group: its share of the whole, in any scale, as in {crawl: 7, wiki: 3}."
    )
    caps: dict[str, Count] | None = Field(
        default=None, description="Group: the most that it gives, in `unit`."
    )
    within: ColumnName = Field(default="input", description="The column of the groups.")
    budget: Count | None = Field(default=None, description="The total with weights, in `unit`.")
    unit: UnitField = "records"
    tokenizer: TokenizerField = None

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        given = [key for key in ("weights", "caps") if value.get(key) is not None]
        if len(given) != 1:
            yield "", "give one of weights and caps"
        elif value[given[0]] == {}:
            yield given[0], "name at least one group"
        elif given == ["caps"] and value.get("budget") is not None:
            yield "budget", "budget goes with weights"
        yield from _tokens(value)


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
