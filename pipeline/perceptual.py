"""The stages that find hashes within a Hamming distance of each other, or of what earlier runs have left."""

from __future__ import annotations

from dataclasses import replace

from .dedup_plan import DedupPlan
from .driver import Driver, partitions_for
from .stage import Committed, Input, OperatorRef, Parts
from .steps.dedup import CombineKeys
from .steps.perceptual import ByChunks, ByHash, FindDistinct, JoinNear, MatchNear
from .steps.reading import stream_part

HASH_ROW_BYTES = 24  # key, hash, whose it is


def find_near(driver: Driver, name: str, plan: DedupPlan, parts: Parts) -> list[Committed]:
    """Edges that connect all records whose hashes are within the radius.

    Equal hashes are joined by a star first: how many pairs are compared depends on the distinct ones only.
    """
    by_hash = OperatorRef.of(ByHash, hashes=plan.keys, older=plan.older or None)
    columns = (plan.keys, *([plan.older] if plan.older else []))
    equal = driver.run(
        f"{name}-equal",
        {"hashes": Input(parts, (by_hash,), "key", columns)},
        partitions=partitions_for(_rows(parts) * HASH_ROW_BYTES),
        reduce=OperatorRef.of(FindDistinct),
        combine=OperatorRef.of(CombineKeys),
    )
    if not plan.radius:
        return equal
    distinct = tuple(stream_part(c.task, c.streams["distinct"]) for c in equal)
    chunks, bytes_ = _chunks(plan.radius, _rows(distinct))
    by_chunks = OperatorRef.of(ByChunks, hashes="hash", row="position", radius=plan.radius, chunks=chunks)
    near = driver.run(
        f"{name}-near",
        {"hashes": Input(distinct, (by_chunks,), "key")},
        partitions=partitions_for(bytes_),
        reduce=OperatorRef.of(JoinNear, radius=plan.radius),
    )
    return [*equal, *(replace(c, task=len(equal) + number) for number, c in enumerate(near))]


def match_near(driver: Driver, name: str, plan: DedupPlan, parts: Parts, old: Parts) -> list[Committed]:
    """New records with the least of the old ones within the radius, once or more; `old` has key and old."""
    assert plan.radius is not None
    chunks, bytes_ = _chunks(plan.radius, _rows(parts) + _rows(old))
    new_chunks, old_chunks = (
        OperatorRef.of(ByChunks, hashes=hashes, row=row, radius=plan.radius, chunks=chunks)
        for hashes, row in ((plan.keys, "position"), ("key", "old"))
    )
    return driver.run(
        name,
        {"new": Input(parts, (new_chunks,), "key", (plan.keys,)), "old": Input(old, (old_chunks,), "key")},
        partitions=partitions_for(bytes_),
        reduce=OperatorRef.of(MatchNear, radius=plan.radius),
    )


def _rows(parts: Parts) -> int:
    return sum(part.rows for part in parts)


def _chunks(radius: int, rows: int) -> tuple[int, int]:
    """Into how many chunks hashes are cut, and the bytes that then travel."""
    from ..filters.dedup import hamming

    chunks = hamming.chunks_for(rows, radius)
    return chunks, rows * hamming.keys_per_hash(radius, chunks) * HASH_ROW_BYTES
