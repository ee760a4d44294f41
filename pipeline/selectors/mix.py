"""Groups joined in proportion, evenly, or up to a cap for each: drawn at random within each group."""

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
    """Keeps a random part of each group, as much as its part of a total or its cap allows.

    Within a group, records are taken as `TopSelector` takes them, in the descending order of `by`, a column
    of random numbers. `within` may be two columns, whose groups are named as `joined_name` does. Give one of:

    `weights`: group: its share of the whole, in any scale. Groups that are not named are one, which the
    decision calls null and which gives nothing. A group's part is rounded down after exact arithmetic with
    the decimal numbers of the job.
    `alpha`: each group's share is in proportion to its size to this power (float64).
    `unimax_epochs`: from the smallest group on (equal ones by name), each gives the part of what is left of
    `budget` that an even division among the groups left would give it, or so many times its size if that is
    less; rounded down at the end.
    `caps`: group: the most that it gives. Groups that are not named give all they have.

    With `weights` and `alpha` the whole is `budget` or, without one, the most that the scarcest group allows.
    `epochs` says how many times its size a group may give there. A group that has less than its part of
    `budget` gives all that it may, and the decision says how much is missing. Beyond 1, records are taken
    several times: all of them once before any is taken again.
    `unit_column`, `unit`: as in TopSelector.

    Raises ValueError unless one of these four is given, and for weights that are not above 0.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        by: str,
        within: str | Sequence[str],
        weights: Mapping[str, float] | None = None,
        caps: Mapping[str, int] | None = None,
        budget: int | None = None,
        unit: str = "records",
        unit_column: str | None = None,
        step: str = "mix",
        alpha: float | None = None,
        unimax_epochs: float | None = None,
        epochs: float = 1.0,
    ) -> None:
        most = epochs if unimax_epochs is None else unimax_epochs
        # The budget of each group is set in `_allot`.
        super().__init__(
            by,
            budget=0,
            within=within,
            unit=unit,
            unit_column=unit_column,
            step=step,
            max_copies=max(1, math.ceil(most)),
        )
        if sum(given is not None for given in (weights, caps, alpha, unimax_epochs)) != 1:
            raise ValueError("give one of weights, caps, alpha and unimax_epochs")
        if unimax_epochs is not None and budget is None:
            raise ValueError("unimax_epochs shares out a budget; give one")
        if weights is not None and not all(
            math.isfinite(weight) and weight > 0 for weight in weights.values()
        ):
            raise ValueError("weights are numbers above 0")
        self._weights = {name: Fraction(repr(weight)) for name, weight in (weights or {}).items()}
        self._caps, self._total, self._alpha = caps, budget, alpha
        self._epochs, self._unimax = Fraction(repr(most)), unimax_epochs is not None
        named = self._weights or self._caps
        self._names = None if named is None else pa.array(sorted(named), pa.string())

    def finish(self, state: pa.Table, learned: Again | None) -> Decision | Again:
        outcome = super().finish(state, learned)
        if isinstance(outcome, Again):
            return outcome
        groups: list[dict[str, Any]] = list(outcome.values["groups"])
        budgets, shares = self._budgets({group["group"]: group["units"] for group in groups})
        there = {group["group"] for group in groups}
        missing = sorted(name for name in budgets if name is not None and name not in there)
        kept = "kept_records" if self.max_copies == 1 else "kept_copies"
        groups += [{**_NOTHING, kept: 0, "group": name, "budget": budgets[name]} for name in missing]
        for group in groups:
            share, most = shares.get(group["group"]), math.floor(self._epochs * group["units"])
            group["budget"] = max(0, budgets[group["group"]])
            group["short"] = 0 if share is None else max(0, group["budget"] - most)
            group["share"] = None if share is None else float(share)
        return Decision({**outcome.values, "budget": self._total, "groups": groups})

    def _groups(self, batch: pa.RecordBatch) -> pa.Array:
        names = group_names(batch, self.within)
        if self._names is None:
            return names
        named = pc.is_in(names, value_set=self._names)
        return pc.if_else(named, names, pa.scalar(None, pa.string()))

    def _allot(self, searches: Sequence[prefix.Search]) -> None:
        budgets, _ = self._budgets({search.group: search.units for search in searches})
        for search in searches:
            search.budget = budgets[search.group]
            if self._caps is None:
                search.budget = min(search.budget, math.floor(self._epochs * search.units))

    def _budgets(
        self, units: Mapping[str | None, int]
    ) -> tuple[dict[str | None, int], dict[str | None, Fraction]]:
        """The budget of every group and its share of the whole, where it has one, from the units of each."""
        if self._caps is not None:
            return {None: units.get(None, 0)} | dict(self._caps), {}
        if self._unimax:
            return self._even(units)
        weights: dict[str | None, Fraction] = dict(self._weights.items())
        if self._alpha is not None:
            sizes = {name: float(size) ** self._alpha for name, size in units.items() if size}
            weights = {name: Fraction(repr(size)) for name, size in sizes.items()}
        together = sum(weights.values())
        shares = {name: weight / together for name, weight in weights.items()}
        whole = min((self._epochs * units.get(name, 0) / share for name, share in shares.items()), default=0)
        if self._total is not None:
            whole = Fraction(self._total)
        # Below 0, because records that count nothing would fit into 0.
        others: dict[str | None, int] = {None: -1} if self._weights else dict.fromkeys(units, 0)
        return others | {name: math.floor(share * whole) for name, share in shares.items()}, shares

    def _even(
        self, units: Mapping[str | None, int]
    ) -> tuple[dict[str | None, int], dict[str | None, Fraction]]:
        """The budgets of UniMax."""
        assert self._total is not None
        left, given = Fraction(self._total), {}
        ordered = sorted(units, key=lambda name: (units[name], name is not None, name or ""))
        for place, name in enumerate(ordered):
            given[name] = min(left / (len(ordered) - place), self._epochs * units[name])
            left -= given[name]
        total = sum(given.values()) or Fraction(1)
        budgets = {name: math.floor(part) for name, part in given.items()}
        return budgets, {name: part / total for name, part in given.items()}

    def _reasons(self, group: npt.NDArray[np.int64], cuts: Cuts) -> pa.Array | pa.Scalar:
        over = OVER_CAP if self._caps is not None else OVER_WEIGHT
        if self._names is None:
            return pa.scalar(over)
        return pc.if_else(pc.is_valid(cuts.names), over, NOT_IN_MIX).take(pa.array(group))


# What a decision says of a named group without a record.
_NOTHING: Final[Mapping[str, Any]] = {
    "records": 0,
    "units": 0,
    "null_scores": 0,
    "kept_units": 0,
    "first_dropped": None,
    "tied_with_it": 0,
    "kept_of_tied": 0,
}
