"""What stands under `decontaminate`: which evaluation sets are looked for, how, and what then happens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from .quantities import Fraction, PositiveInt
from .verbs import Model

Method = Literal["ngram", "gpt3", "datatrove"]
Action = Literal["drop", "report", "remove"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)

_SHARED: Final[dict[str, Any]] = {"punctuation": "all", "min_matches": 1, "min_share": 0.0, "short": "ignore"}
# What each method says where the job says nothing.
#
# gpt3: Brown et al. 2020, arXiv:2005.14165, appendix C; that the window is 200 characters on each side is how
# EleutherAI's lm-evaluation-harness reads it (lm_eval/decontamination/janitor.py).
# datatrove: huggingface/datatrove, src/datatrove/pipeline/decont/n_grams.py and utils/text.py.
# ngram: ours; 13 is GPT-3's, the rest is chosen for texts of any script.
PRESETS: Final[dict[str, dict[str, Any]]] = {
    "ngram": {
        **_SHARED,
        "action": "drop",
        "ngram": 13,
        "words": "unicode",
        "ignore": ["diacritics"],
        "max_records": 0,
        "query_ngrams": True,
    },
    "gpt3": {
        **_SHARED,
        "action": "remove",
        "ngram": 13,
        "words": "whitespace",
        "ignore": [],
        "max_records": 10,
        "query_ngrams": True,
    },
    "datatrove": {
        **_SHARED,
        "action": "drop",
        "ngram": 12,
        "words": "whitespace",
        "punctuation": "datatrove",
        "ignore": ["diacritics", "numbers"],
        "max_records": 0,
        "query_ngrams": False,
    },
}
# Options that mean something only beside another one, with their defaults there.
_REMOVING: Final = {"window": 200, "min_piece": 200, "max_pieces": 10}
# Brown et al. ask for at least 8 words, for fewer are found by chance.
_SHORTEST: Final = 8


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
]
NotNegative = Annotated[int, Field(ge=0)]


class Decontaminate(Model):
    """Records, or the places in them, that n-grams of evaluation sets occur in.

    `method` chooses the defaults of all that is left out; each may be given beside it.
    """

    against: Annotated[Names, Field(min_length=1)] = Field(
        description="Files of the evaluation sets, globs allowed: JSON Lines, Parquet, CSV, TSV or text, "
        "compressed or not."
    )
    fields: Annotated[Names, Field(min_length=1)] = Field(
        default=["text"],
        description="Fields of an item that are looked for, as one text in this order; a.b is b in a. Of a "
        "list or an object, all strings.",
    )
    query: Names = Field(
        default=[], description="Fields that come before these in an item, as its question or context."
    )
    method: Method = Field(
        default="ngram", description="Whose defaults: ours, those of GPT-3's paper, or those of datatrove."
    )
    action: Action = Field(
        default="drop",
        description="drop: the record goes. report: it stays, with columns that say what was found. remove: "
        "what was found goes, with a window around it. gpt3 removes where this is left out, the others drop.",
    )
    ngram: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=13, description="Words in an n-gram; datatrove has 12."
    )
    words: Literal["unicode", "whitespace"] = Field(
        default="unicode", description="What ends a word; gpt3 and datatrove cut at white space alone."
    )
    punctuation: Literal["all", "datatrove"] = Field(
        default="all",
        description="What is left out of words that white space ends: all punctuation, or datatrove's list.",
    )
    ignore: list[Literal["diacritics", "numbers"]] = Field(
        default=["diacritics"],
        description="Differences that do not count, beside case. numbers: every number is as any other. "
        "gpt3 ignores neither, datatrove both.",
    )
    query_ngrams: bool = Field(
        default=True,
        description="Look for n-grams of the query alone, too; datatrove does not.",
    )
    overlap_ngrams: bool = Field(
        default=True, description="Look for n-grams that begin in the query and end behind it, too."
    )
    max_records: NotNegative = Field(
        default=0,
        description="N-grams that more records have are ignored; 0: none is. gpt3 has 10.",
    )
    min_matches: PositiveInt = Field(
        default=1, description="Fewest places in a record at which an n-gram of an evaluation set begins."
    )
    min_share: Fraction = Field(
        default=0.0, description="Least share of a record's words that these n-grams cover."
    )
    short: Literal["ignore", "whole"] = Field(
        default="ignore",
        description="Items of fewer words than an n-gram: they are not looked for, or as a whole.",
    )
    shortest: PositiveInt | None = Field(
        default=None, description="Fewest words of an item that is looked for as a whole; 8 where left out."
    )
    window: NotNegative | None = Field(
        default=None, description="Characters that go with an n-gram on either side; 200 where left out."
    )
    min_piece: NotNegative | None = Field(
        default=None, description="Fewest characters of a piece that is left; 200 where left out."
    )
    max_pieces: PositiveInt | None = Field(
        default=None, description="Records that fall into more pieces go as a whole; 10 where left out."
    )

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        method = value.get("method", "ngram")
        preset = PRESETS.get(method, PRESETS["ngram"]) if isinstance(method, str) else PRESETS["ngram"]
        action, short = value.get("action", preset["action"]), value.get("short", "ignore")
        for key in _REMOVING:
            if value.get(key) is not None and action in ("drop", "report"):
                yield key, f"{key} goes with action: remove"
        size, shortest = value.get("ngram", preset["ngram"]), value.get("shortest")
        least = _SHORTEST if shortest is None else shortest
        if shortest is not None and short == "ignore":
            yield "shortest", "shortest goes with short: whole"
        elif short == "whole" and isinstance(size, int) and isinstance(least, int) and size <= least:
            told = f"items of {least} words have an n-gram of {size} words"
            yield "short", f"{told}; give shortest, below ngram"
        ignored = value.get("ignore")
        if isinstance(ignored, list) and len(set(map(str, ignored))) < len(ignored):
            yield "ignore", "the same is named twice"

    @model_validator(mode="before")
    @classmethod
    def _write_defaults_out(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        method = value.get("method", "ngram")
        if not isinstance(method, str) or method not in PRESETS:
            return value
        filled = {**PRESETS[method], **value}
        if filled["short"] == "whole" and filled.get("shortest") is None:
            filled["shortest"] = _SHORTEST
        if filled["action"] == "remove":
            filled |= {key: default for key, default in _REMOVING.items() if filled.get(key) is None}
        return filled
