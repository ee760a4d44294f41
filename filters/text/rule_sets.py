"""The published rule sets by the name that a job calls them by."""

from __future__ import annotations

from typing import Final

from ...schemas.rules import RuleSet
from .c4 import C4
from .fineweb import FINEWEB
from .gopher import GOPHER_QUALITY, GOPHER_REPETITION

RULE_SETS: Final[dict[str, RuleSet]] = {
    rules.name: rules for rules in (GOPHER_QUALITY, GOPHER_REPETITION, C4, FINEWEB)
}
