"""Connected components of edges that lie in committed streams: in one process, or by exchanges."""

from __future__ import annotations

from dataclasses import replace

from .driver import Driver, layer_of, partitions_for
from .part_order import in_part_order, shift_of
from .stage import Committed, Input, Layer, OperatorRef, Parts
from .steps.components import MOVED, FacingEdges, FindClusters, MakeStars, Members
from .steps.reading import stream_part

MEMBER_BYTES = 96  # what a union-find and its result need at most for a member
EDGE_ROW_BYTES = 16  # key and the other end


def find_clusters(
    driver: Driver, name: str, edges: list[Committed], parts: Parts, memory: int
) -> list[Layer]:
    """For each part an optional layer of `root`: the least position of the cluster that a record is in.

    Clusters are found in one process where `memory` is enough for all the members that there may be.
    """
    found = _streams(edges)
    most = min(2 * _rows(edges), sum(part.rows for part in parts) or 2 * _rows(edges))
    if most * MEMBER_BYTES <= memory:
        (committed,) = driver.run(
            f"{name}-clusters",
            {"edges": Input(found, (), "src")},
            partitions=1,
            reduce=OperatorRef.of(FindClusters),
        )
        return [replace(layer_of(committed, "members"), optional=True)] * len(parts)
    number, moved = 0, 1
    while moved:
        number, moved = number + 1, 0
        for large in (True, False):
            edges = driver.run(
                f"{name}-{'large' if large else 'small'}-star-{number}",
                {"edges": Input(_streams(edges), (OperatorRef.of(FacingEdges, both=large),), "key")},
                partitions=partitions_for((1 + large) * _rows(edges) * EDGE_ROW_BYTES),
                reduce=OperatorRef.of(MakeStars, large=large),
            )
            moved += sum(committed.accounts["figures"].get(MOVED, 0) for committed in edges)
    return in_part_order(
        driver,
        f"{name}-clusters",
        _streams(edges),
        parts,
        {"root": "root"},
        bytes_=2 * _rows(edges) * EDGE_ROW_BYTES,
        maps=(OperatorRef.of(Members, shift=shift_of(parts)),),
    )


def _streams(edges: list[Committed]) -> Parts:
    return tuple(stream_part(committed.task, committed.streams["edges"]) for committed in edges)


def _rows(edges: list[Committed]) -> int:
    return sum(committed.streams["edges"].rows for committed in edges)
