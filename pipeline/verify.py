"""The exchange that verifies clusters by the shingles of their members."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .driver import Driver, partitions_for
from .part_order import in_part_order
from .stage import Input, Layer, OperatorRef, Parts
from .steps.reading import stream_part
from .steps.verify import ShingleSets, VerifyClusters

if TYPE_CHECKING:
    from .dedup_plan import DedupPlan

SET_BYTES = 4096  # of the shingles of a record of about a thousand words
MEMBER_ROW_BYTES = 16


def verify_clusters(driver: Driver, name: str, plan: DedupPlan, members: Parts, edges: int) -> list[Layer]:
    """For each part a layer of `root`, as `find_clusters` gives it, of what is similar indeed.

    `members` have the root of the cluster of candidates that a record is in; `edges` is their number.
    """
    from ..filters.dedup.verify import CAP, HEADS

    most = min(2 * edges, sum(part.rows for part in members) or 2 * edges)
    sets = OperatorRef.of(ShingleSets, keys=plan.keys, on=plan.on, arguments=plan.arguments, cap=CAP)
    verified = driver.run(
        f"{name}-verify",
        {"members": Input(members, (sets,), "key", (plan.keys, plan.on, "root"))},
        partitions=partitions_for(most * (SET_BYTES + 8 * plan.keys_per_record)),
        reduce=OperatorRef.of(VerifyClusters, bound=plan.verify, heads=HEADS, cap=CAP),
    )
    found = tuple(stream_part(c.task, c.streams["members"]) for c in verified)
    return in_part_order(
        driver, f"{name}-verified", found, members, {"root": "root"}, bytes_=most * MEMBER_ROW_BYTES
    )
