"""A sample that is even over a tree of clusters: what each may give is divided from the top down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.contracts import Again, Decision
from ...schemas.verbs import OnNull
from ..draws import draws
from . import prefix
from .groups import NullScoreError, group_names
from .top import Cuts, TopSelector

OVER_SHARE: Final = "over_share"
NO_CLUSTER: Final = "no_cluster"
Int64s = npt.NDArray[np.int64]
Path = tuple[str, ...]


class HierarchicalSelector(TopSelector):
    """Keeps of each lowest cluster its share of a budget, as evenly as the clusters of every level allow.

    The budget goes to the clusters of the first level in equal parts, but to none more than its records; what
    each gets goes to those below it in the same way (Vo et al. 2024, arXiv:2405.15613; in
    github.com/facebookresearch/ssl-data-curation hierarchical_sampling.py, with a multiplier of 1). Where it
    cannot be divided, some get one record more: those with the lowest draws of (seed, step, the cluster's
    path). The sum is the budget, or all records where they are fewer. Within a cluster, records are taken as
    `TopSelector` takes them, in the descending order of `by`.

    `within`: the columns of the clusters, coarsest first: strings, integers or booleans; at most 65,536
    clusters on the lowest level. `top`: the budget as a fraction of all records that reach the step, rounded
    down after exact decimal arithmetic. `budget`: in records. Give one of both. `by` names a column of
    numbers. `on_null`: what happens to a record that lacks a cluster of any level, or a score: `drop`
    (reasons `no_cluster`, `null_score`), `keep`, which uses up none of the budget, or `fail`
    (NullScoreError). A record without a score does not count for the size of its cluster.

    Passes and memory are those of `TopSelector`. Raises ValueError as it does.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        by: str,
        within: Sequence[str],
        top: float | None = None,
        budget: int | None = None,
        seed: int = 0,
        step: str = "hierarchical_sample",
        on_null: OnNull = "drop",
    ) -> None:
        super().__init__(by, top=top, budget=budget, seed=seed, step=step, on_null=on_null)
        if not within:
            raise ValueError("within names no column")
        self.levels = tuple(within)

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*super().inputs, *self.levels)))

    def update(self, state: pa.Table, batch: pa.RecordBatch, learned: Again | None) -> pa.Table:
        return super().update(state, self._ranked_in_clusters(batch), learned)

    def decide(self, batch: pa.RecordBatch, decision: Decision) -> pa.RecordBatch:
        decided = super().decide(self._ranked_in_clusters(batch), decision)
        lacking = pc.and_(pc.invert(decided.column("keep")), pc.is_null(self._groups(batch)))
        columns = {
            "reason": pc.if_else(lacking, NO_CLUSTER, decided.column("reason")),
            "value": batch.column(self.by).cast(pa.string()),
        }
        for name, column in columns.items():
            decided = decided.set_column(decided.schema.get_field_index(name), name, column)
        return decided

    def _ranked_in_clusters(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch without the scores of records that have no cluster: nothing is to be found out there."""
        there = pc.is_valid(self._groups(batch))
        if self.on_null == "fail" and pc.any(pc.invert(there)).as_py():
            name = batch.filter(pc.invert(there)).column("id")[0].as_py()
            levels = " or no ".join(self.levels)
            raise NullScoreError(f"step {self.step}: record {name} has no {levels}, and on_null is fail")
        scores = batch.column(self.by)
        place = batch.schema.get_field_index(self.by)
        without = pc.if_else(there, scores, pa.scalar(None, scores.type))
        return batch.set_column(place, self.by, without)

    def _groups(self, batch: pa.RecordBatch) -> pa.Array:
        return join([group_names(batch, level) for level in self.levels])

    def _allot(self, searches: Sequence[prefix.Search]) -> None:
        records = sum(search.records for search in searches)
        budget = self.budget if self.top is None else math.floor(Fraction(repr(self.top)) * records)
        assert budget is not None
        sizes = {
            split(search.group): search.records - search.unranked
            for search in searches
            if search.group is not None
        }
        shares = share_out(sizes, budget, self.seed, self.step)
        for search in searches:
            search.budget = 0 if search.group is None else shares[split(search.group)]

    def _reasons(self, group: Int64s, cuts: Cuts) -> pa.Array | pa.Scalar:
        return OVER_SHARE


def join(levels: Sequence[pa.Array]) -> pa.Array:
    """string (n,): the clusters of each record as a path, as in 3/17; null where it lacks one of them.

    A slash in the name of a cluster has a backslash before it, and so has a backslash.
    """
    escaped = (pc.replace_substring_regex(level, r"([/\\])", r"\\\1") for level in levels)
    return pc.binary_join_element_wise(*escaped, pa.scalar("/"))


def split(path: str) -> Path:
    """The clusters that `join` has joined."""
    names, name = [], ""
    letters = iter(path)
    for letter in letters:
        if letter == "/":
            names.append(name)
            name = ""
        else:
            name += next(letters) if letter == "\\" else letter
    return (*names, name)


def share_out(sizes: Mapping[Path, int], budget: int, seed: int, step: str) -> dict[Path, int]:
    """How many records each lowest cluster gives, from how many it has. All paths are of one length."""
    shares: dict[Path, int] = {}
    _share_out(sorted(sizes.items()), 0, budget, seed, step, shares)
    return shares


def _share_out(
    leaves: Sequence[tuple[Path, int]],
    depth: int,
    budget: int,
    seed: int,
    step: str,
    shares: dict[Path, int],
) -> None:
    """The same below one cluster, whose lowest ones are `leaves`, sorted."""
    if not leaves:
        return
    names = [path[depth] for path, _ in leaves]
    opens = [at for at, name in enumerate(names) if not at or name != names[at - 1]]
    paths = [leaves[at][0][: depth + 1] for at in opens]
    sizes = np.add.reduceat(np.array([size for _, size in leaves], np.int64), opens)
    given = _divide(sizes, budget, paths, seed, step)
    if depth + 1 == len(leaves[0][0]):
        shares.update(zip(paths, given.tolist(), strict=True))
        return
    for begin, end, share in zip(opens, [*opens[1:], len(leaves)], given.tolist(), strict=True):
        _share_out(leaves[begin:end], depth + 1, share, seed, step, shares)


def _divide(sizes: Int64s, budget: int, paths: Sequence[Path], seed: int, step: str) -> Int64s:
    """What each of some clusters gives: the largest equal part that the budget allows, or all it has; some of
    those that have more give one more, so that the sum is the budget."""
    if int(sizes.sum()) <= budget:
        return sizes
    ascending = np.sort(sizes)
    before = np.concatenate([[0], np.cumsum(ascending)])[:-1]
    left = np.arange(len(sizes), 0, -1)
    # The first cluster that has more than an equal part of what smaller ones leave.
    first = int(np.argmax(before + ascending * left > budget))
    part, more = divmod(budget - int(before[first]), int(left[first]))
    given = np.minimum(sizes, part)
    larger = np.flatnonzero(sizes > part)
    columns = zip(*(paths[at] for at in larger.tolist()), strict=True)
    drawn = draws(join([pa.array(column, pa.string()) for column in columns]), seed, step)
    given[larger[np.argsort(drawn, kind="stable")[:more]]] += 1
    return given
