"""The step that samples evenly from the clusters of a hierarchy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..schemas.embeddings import HierarchicalSample
from ..schemas.verbs import OnNull
from .compiled import MapStep
from .driver import Driver
from .selection import SelectStep
from .selectors import HierarchicalSelector
from .stage import OperatorRef
from .steps.selection import Measure


@dataclass
class HierarchicalSampleStep(SelectStep):
    """Keeps of each lowest cluster what falls to it, and says how many clusters give all that they have."""

    def look_at(self, driver: Driver, decision: dict[str, Any]) -> None:
        groups = [group for group in decision["groups"] if group["group"] is not None]
        kept = sum(group["kept_records"] for group in groups)
        whole = sum(group["first_dropped"] is None for group in groups)
        told = f"{kept:,} records of {len(groups):,} clusters, of which {whole:,} give all that they have"
        driver.listener.note(f"{self.name}: {told}")


def compile_hierarchical_sample(
    name: str, number: int, options: HierarchicalSample, seed: int, on_null: OnNull
) -> HierarchicalSampleStep:
    """The step of a job; `number` tells its column from those of others."""
    by = options.by or f"hierarchical_sample_{number}_draw"
    keys = None
    if options.by is None:
        measure = OperatorRef.of(Measure, step=name, draw=by, seed=seed)
        keys = MapStep(name, measure, frozenset({"id"}), (by,))
    selector = OperatorRef.of(
        HierarchicalSelector,
        by=by,
        within=options.within,
        top=options.top,
        budget=options.budget,
        seed=seed,
        step=name,
        on_null=on_null,
    )
    return HierarchicalSampleStep(name, frozenset({by, *options.within}), keys, selector=selector)
