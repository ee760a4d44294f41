"""Groups joined in proportion, or up to a cap for each: drawn at random within each group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.contracts import Again, Decision
from . import prefix
from .groups import group_names
from .top import Cuts, TopSelector

OVER_WEIGHT: Final = "over_weight"
OVER_CAP: Final = "over_cap"
NOT_IN_MIX: Final = "not_in_mix"


class MixSelector(TopSelector):
    """Keeps a random part of each group, as much as its weight of a total or its cap allows.

    Within a group, records are taken as `TopSelector` takes them, in the descending order of `by`, a column
    of random numbers. All groups that are not named are one, which the decision calls null.

    `weights`: group: its share of the whole, in any scale. The whole is `budget` or, without one, the most
    that the scarcest group allows. A group's part is rounded down after exact arithmetic with the decimal
    numbers of the job. A group that has less than its part of `budget` gives all that it has, and the
    decision says how much is missing. Groups that are not named give nothing.
    `caps`: group: the most that it gives. Groups that are not named give all they have.
    `unit_column`, `unit`: as in TopSelector.

    Raises ValueError unless one of `weights` and `caps` is given, and for weights that are not above 0.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        by: str,
        within: str,
        weights: Mapping[str, float] | None = None,
        caps: Mapping[str, int] | None = None,
        budget: int | None = None,
        unit: str = "records",
        unit_column: str | None = None,
        step: str = "mix",
    ) -> None:
        # The budget of each group is set in `_allot`.
        super().__init__(by, budget=0, within=within, unit=unit, unit_column=unit_column, step=step)
        if (weights is None) == (caps is None):
            raise ValueError("give one of weights and caps")
        if weights is not None and not all(
            math.isfinite(weight) and weight > 0 for weight in weights.values()
        ):
            raise ValueError("weights are numbers above 0")
        self._caps, self._total = dict(caps or {}), budget
        exact = {name: Fraction(repr(weight)) for name, weight in (weights or {}).items()}
        self._shares = {name: weight / sum(exact.values()) for name, weight in exact.items()}
        self._names = pa.array(sorted(self._shares or self._caps), pa.string())

    def finish(self, state: pa.Table, learned: Again | None) -> Decision | Again:
        outcome = super().finish(state, learned)
        if isinstance(outcome, Again):
            return outcome
        groups: list[dict[str, Any]] = list(outcome.values["groups"])
        budgets = self._budgets({group["group"]: group["units"] for group in groups})
        missing = sorted(set(self._names.to_pylist()) - {group["group"] for group in groups})
        groups += [{**_NOTHING, "group": name, "budget": budgets[name]} for name in missing]
        for group in groups:
            short = group["budget"] - group["units"] if group["group"] in self._shares else 0
            group["short"], group["budget"] = max(0, short), max(0, group["budget"])
            group["share"] = float(self._shares[group["group"]]) if group["group"] in self._shares else None
        return Decision({**outcome.values, "budget": self._total, "groups": groups})

    def _groups(self, batch: pa.RecordBatch) -> pa.Array:
        names = group_names(batch, self.within)
        named = pc.is_in(names, value_set=self._names)
        return pc.if_else(named, names, pa.scalar(None, pa.string()))

    def _allot(self, searches: Sequence[prefix.Search]) -> None:
        budgets = self._budgets({search.group: search.units for search in searches})
        for search in searches:
            search.budget = budgets[search.group]

    def _budgets(self, units: Mapping[str | None, int]) -> dict[str | None, int]:
        """The budget of every named group and of the others, from the units that each has."""
        # Below 0, because records that count nothing would fit into 0.
        budgets: dict[str | None, int] = {None: -1 if self._shares else units.get(None, 0)}
        if not self._shares:
            return budgets | self._caps
        whole = min(units.get(name, 0) / share for name, share in self._shares.items())
        if self._total is not None:
            whole = Fraction(self._total)
        return budgets | {name: math.floor(share * whole) for name, share in self._shares.items()}

    def _reasons(self, group: npt.NDArray[np.int64], cuts: Cuts) -> pa.Array | pa.Scalar:
        of_named = OVER_WEIGHT if self._shares else OVER_CAP
        return pc.if_else(pc.is_valid(cuts.names), of_named, NOT_IN_MIX).take(pa.array(group))


# What a decision says of a named group without a record.
_NOTHING: Final[Mapping[str, Any]] = {
    "records": 0,
    "units": 0,
    "null_scores": 0,
    "kept_records": 0,
    "kept_units": 0,
    "first_dropped": None,
    "tied_with_it": 0,
    "kept_of_tied": 0,
}
