"""The published rule sets by the name that a job calls them by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..schemas.rules import RuleSet
from .image.align import ALIGN
from .image.datacomp import DATACOMP_BASIC
from .image.laion import LAION
from .image.metaclip import METACLIP
from .image.wukong import WUKONG
from .signal_options import OPTIONS
from .text.c4 import C4
from .text.code import CODE, SANTACODER, STARCODER, STARCODER2
from .text.fineweb import FINEWEB
from .text.gopher import GOPHER_QUALITY, GOPHER_REPETITION

RULE_SETS: Final[dict[str, RuleSet]] = {
    rules.name: rules
    for rules in (
        GOPHER_QUALITY,
        GOPHER_REPETITION,
        C4,
        FINEWEB,
        CODE,
        STARCODER,
        SANTACODER,
        STARCODER2,
        DATACOMP_BASIC,
        LAION,
        ALIGN,
        WUKONG,
        METACLIP,
    )
}


def split_arguments(rule_set: RuleSet, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a job gives a rule set: the parameters of its rules, and the options of its signals."""
    options = {name: value for name, value in given.items() if name in OPTIONS}
    parameters = {name: value for name, value in given.items() if name not in OPTIONS}
    return {**rule_set.parameters, **parameters}, options
